"""Causes of lost connections and refused messages, logged once each. No I/O but the log."""

from __future__ import annotations

import logging
import time

from stream.sinks.mqtt.errors import BrokerDisconnected, BrokerUnavailable
from stream.sinks.mqtt.limits import MessageRefused, packet_bytes
from stream.sinks.mqtt.message import Message
from stream.sinks.mqtt.names import topic_class
from stream.sinks.mqtt.outages import Outages

log = logging.getLogger(__name__)


class Diagnosis:
    """Account of one connection's messages, and what its end tells about them.

    A broker may close the connection at a message that it does not permit, without a reason. Then
    the message would be sent again after every connect. `outages` finds it.
    """

    def __init__(self, prefix: str) -> None:
        self.outages = Outages()
        self._prefix = prefix
        self._sending: dict[int, tuple[Message, float]] = {}
        """Messages without an answer, and when each was sent."""
        self._refused: list[Message] = []
        self._answered = False
        self._logged: set[tuple[int, str]] = set()

    def connecting(self) -> None:
        """Start the account of a new connection."""
        self._sending.clear()
        self._refused.clear()
        self._answered = False

    def drops(self, message: Message) -> bool:
        """Return whether a message breaks connections and is not to be sent."""
        return self.outages.drops(self._kind(message), packet_bytes(message, 0))

    def sending(self, message: Message) -> None:
        """Take note of a message that is being sent."""
        self._sending[id(message)] = message, time.monotonic()

    def sent(self, message: Message) -> None:
        """Take note that a message was taken by the broker."""
        self._forget(message)
        self._answered = True
        self._refused.clear()
        if self.outages.careful:
            self.outages.took(self._kind(message), packet_bytes(message, 0))

    def refused(self, message: Message, refusal: MessageRefused) -> None:
        """Take note of a refused message; log the first of its kind."""
        self._forget(message)
        self._answered = True
        self._refused.append(message)
        kind = self._kind(message)
        if self.first(refusal.code, kind):
            log.error(
                "MQTT messages refused",
                extra={"topics": kind, "reason": str(refusal), "remedy": refusal.remedy},
            )

    def _forget(self, message: Message) -> None:
        # A message that is retained again before its answer is in flight twice, under one number.
        self._sending.pop(id(message), None)

    def ended(self, problem: BrokerUnavailable, up_s: float | None) -> bool:
        """Take note of a connection's end; return whether another client uses the identifier."""
        explained = isinstance(problem, BrokerDisconnected)
        self.outages.ended(up_s, problem.closed, explained, self._answered)
        if problem.closed and self._blame():
            return False
        if isinstance(problem, BrokerDisconnected) and problem.taken_over:
            return True
        return self.outages.contested

    def first(self, code: int, kind: str) -> bool:
        """Return whether this is the first problem of its kind, to be logged."""
        new = (code, kind) not in self._logged
        self._logged.add((code, kind))
        return new

    def _blame(self) -> bool:
        """Drop the messages that broke the connection from now on; return whether there are any."""
        in_flight, now = list(self._sending.values()), time.monotonic()
        # Some brokers refuse a message and close the connection as well.
        refused = [(message, now) for message in self._refused]
        found = False
        for message, sent_at in refused or (in_flight if len(in_flight) == 1 else []):
            kind, size = self._kind(message), packet_bytes(message, 0)
            if self.outages.blame(kind, size, bool(refused), now - sent_at):
                found = True
                log.error(
                    "MQTT messages dropped: the broker closes the connection at each",
                    extra={
                        "topics": kind,
                        "bytes": size,
                        "remedy": "check the broker's access list and its maximum packet size",
                    },
                )
        return found

    def _kind(self, message: Message) -> str:
        return topic_class(message.topic, self._prefix)
