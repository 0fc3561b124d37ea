"""What a broker should retain for us, and what it does as far as we know. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from stream.sinks.mqtt_topics import Message, deletion


@dataclass(frozen=True, slots=True, eq=False)
class Dated:
    """A message and when it is out of date, in monotonic seconds."""

    message: Message
    deadline: float

    @classmethod
    def at(cls, message: Message, now: float) -> Dated:
        return cls(message, math.inf if message.expiry_s is None else now + message.expiry_s)

    def left(self, now: float) -> Message | None:
        """The message with the life that is left to it; None when there is none."""
        if self.message.expiry_s is None:
            return self.message
        seconds = math.ceil(self.deadline - now)
        return replace(self.message, expiry_s=seconds) if seconds > 0 else None


class Retained:
    """One message per topic: the one that is wanted, and the one the broker was sent.

    Bounded by the topics in use, however long the broker is away. `now` is monotonic seconds.
    """

    def __init__(self) -> None:
        self._wanted: dict[str, Dated] = {}
        # None: the broker may hold anything under that topic.
        self._sent: dict[str, Dated | None] = {}

    def want(self, message: Message, now: float) -> None:
        self._wanted[message.topic] = Dated.at(message, now)

    def unwant(self, topic: str) -> None:
        self._wanted.pop(topic, None)

    def topics(self) -> list[str]:
        """Those wanted now."""
        return list(self._wanted)

    def reconnected(self) -> list[str]:
        """Trust nothing sent before; returns the topics to look at again."""
        self._sent = dict.fromkeys(self._sent)
        return list(self._wanted | self._sent)

    def expire(self, now: float, broker_expires: bool) -> list[str]:
        """Want no more what is out of date; returns the topics whose deletion is left to us."""
        old = [topic for topic, dated in self._wanted.items() if dated.deadline <= now]
        for topic in old:
            del self._wanted[topic]
            if broker_expires:
                self._sent.pop(topic, None)
        return [] if broker_expires else old

    def next(self, topic: str, now: float) -> Message | None:
        """What is to be sent next about `topic`; None when the broker has what it should."""
        wanted = self._wanted.get(topic)
        if wanted is None:
            if topic not in self._sent:
                return None
            self._sent[topic] = None
            return deletion(topic)
        if self._sent.get(topic) is wanted:
            return None
        message = wanted.left(now)
        if message is not None:
            self._sent[topic] = wanted
        return message

    def deleted(self, topic: str) -> None:
        """The broker confirmed a deletion."""
        if self._sent.get(topic) is None:
            self._sent.pop(topic, None)
