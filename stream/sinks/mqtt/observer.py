"""Numbers of messages, reported as metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stream.telemetry.metrics import Metrics


def _ignore(_: Any) -> None:
    pass


@dataclass(frozen=True, slots=True)
class MqttObserver:
    """Callbacks for metrics.

    `connected` gets True at every connect and False at every loss, the others get numbers of
    messages: `dropped` were pushed out of the outbox or expired, `failed` got no answer and are
    sent again, `refused` were refused by the broker and are dropped.
    """

    connected: Callable[[bool], None] = _ignore
    sent: Callable[[int], None] = _ignore
    dropped: Callable[[int], None] = _ignore
    failed: Callable[[int], None] = _ignore
    refused: Callable[[int], None] = _ignore


def mqtt_observer(metrics: Metrics) -> MqttObserver:
    """Return an observer that reports to `metrics`."""
    return MqttObserver(
        connected=metrics.mqtt_connected,
        sent=lambda count: metrics.sent("mqtt", count),
        dropped=lambda count: metrics.dropped("mqtt", count),
        failed=metrics.mqtt_failed,
        refused=metrics.mqtt_refused,
    )
