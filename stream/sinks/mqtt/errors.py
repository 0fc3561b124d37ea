"""Failures of a connection to a broker; each message names the reason and the remedy."""

from __future__ import annotations

from stream.sinks.mqtt.limits import (
    CONNECT_REMEDIES,
    DISCONNECT_REMEDIES,
    SEE_LOG,
    SESSION_TAKEN_OVER,
)


class BrokerUnavailable(Exception):
    """No working connection to the broker; a later attempt may succeed.

    `closed`: the broker ended an accepted connection.
    """

    def __init__(self, reason: str, *, closed: bool = False) -> None:
        super().__init__(reason)
        self.closed = closed


class BrokerRefused(BrokerUnavailable):
    """Refusal of the connection by the broker; the message names the reason and the remedy."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} (0x{code:02X}): {CONNECT_REMEDIES.get(code, SEE_LOG)}")
        self.code = code


class BrokerDisconnected(BrokerUnavailable):
    """End of an accepted connection with a reason; the message names it and the remedy."""

    def __init__(self, code: int, reason: str) -> None:
        remedy = DISCONNECT_REMEDIES.get(code, SEE_LOG)
        super().__init__(f"{reason} (0x{code:02X}): {remedy}", closed=True)
        self.code = code

    @property
    def taken_over(self) -> bool:
        """True if another client connected with the same identifier (MQTT 5.0, 3.1.4-3)."""
        return self.code == SESSION_TAKEN_OVER


class SubscriptionRefused(Exception):
    """The broker does not let this client read topics; the message names the remedy."""


class ConnectUnanswered(BrokerUnavailable):
    """The broker closed the connection instead of answering the CONNECT."""
