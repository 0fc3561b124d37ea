"""Messages that a broker should retain, and those that were sent to it. No I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from stream.sinks.mqtt.message import Message, deletion


@dataclass(frozen=True, slots=True, eq=False)
class ExpiringMessage:
    """A message and the time at which it expires, in monotonic seconds."""

    message: Message
    deadline: float

    @classmethod
    def at(cls, message: Message, now: float) -> ExpiringMessage:
        """Return `message` with a deadline that counts from `now`; infinity without expiry."""
        return cls(message, math.inf if message.expiry_s is None else now + message.expiry_s)

    def remaining(self, now: float) -> Message | None:
        """Return the message with its remaining expiry in whole seconds; None if it expired."""
        if self.message.expiry_s is None:
            return self.message
        seconds = math.ceil(self.deadline - now)
        return replace(self.message, expiry_s=seconds) if seconds > 0 else None


class Retained:
    """Two messages per topic: the desired one, and the one last sent to the broker.

    Bounded by the number of topics in use, also while the broker is away. `now` is monotonic
    seconds.
    """

    def __init__(self) -> None:
        self._desired: dict[str, ExpiringMessage] = {}
        # None: the message that the broker retains under that topic is unknown.
        self._sent: dict[str, ExpiringMessage | None] = {}

    def set(self, message: Message, now: float) -> None:
        """Let `message` be retained under its topic."""
        self._desired[message.topic] = ExpiringMessage.at(message, now)

    def clear(self, topic: str) -> None:
        """Let nothing be retained under `topic`."""
        self._desired.pop(topic, None)

    def left_behind(self, topic: str) -> None:
        """Assume that the broker retains a message of an earlier process under `topic`."""
        self._sent.setdefault(topic, None)

    def expiring(self) -> list[str]:
        """Return the topics whose message expires."""
        return [topic for topic, item in self._desired.items() if item.deadline < math.inf]

    def forget(self, topic: str) -> None:
        """Leave `topic` to another client: nothing is sent to it any more."""
        self._desired.pop(topic, None)
        self._sent.pop(topic, None)

    def __contains__(self, topic: str) -> bool:
        return topic in self._desired

    def reconnected(self) -> list[str]:
        """Assume nothing about what the broker retains; return the topics to update."""
        self._sent = dict.fromkeys(self._sent)
        return list(self._desired | self._sent)

    def expire(self, now: float, broker_expires: bool, connected: bool = True) -> list[str]:
        """Drop expired messages; return the topics that the broker does not delete by itself.

        A final message stays until it is sent, if the broker retains an older one in its place. All
        others stay on a broker that does not expire messages: their topics promise JSON.
        """
        expired = [
            topic
            for topic, item in self._desired.items()
            if item.deadline <= now
            and (not self._is_due(topic, item, connected) if item.message.final else broker_expires)
        ]
        for topic in expired:
            del self._desired[topic]
            if broker_expires:
                self._sent.pop(topic, None)
        return [] if broker_expires else expired

    def _is_due(self, topic: str, item: ExpiringMessage, connected: bool) -> bool:
        return topic in self._sent and not (connected and self._sent[topic] is item)

    def next(self, topic: str, now: float) -> Message | None:
        """Return the message to send for `topic`; None if the broker is up to date.

        The message counts as sent.
        """
        desired = self._desired.get(topic)
        if desired is None:
            if topic not in self._sent:
                return None
            self._sent[topic] = None
            return deletion(topic)
        if self._sent.get(topic) is desired:
            return None
        if desired.deadline <= now and desired.message.final:
            desired = self._desired[topic] = ExpiringMessage.at(desired.message, now)
        message = desired.remaining(now)
        if message is not None:
            self._sent[topic] = desired
        return message

    def deleted(self, topic: str) -> None:
        """Record the broker's confirmation of a deletion."""
        if self._sent.get(topic) is None:
            self._sent.pop(topic, None)
