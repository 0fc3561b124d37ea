"""The sinks that a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable

from stream.config import Config
from stream.delivery.sink import Sink
from stream.protocol.wire.mqtt import Info, Stats
from stream.sinks.mqtt.observer import mqtt_observer
from stream.sinks.mqtt.sink import MqttSink
from stream.sinks.webhook import WebhookSink
from stream.telemetry.metrics import Metrics


def configured_sinks(
    config: Config, metrics: Metrics, info: Callable[[], Info], stats: Callable[[], Stats]
) -> list[Sink]:
    """Return a sink for the MQTT broker and one for all webhooks, as far as configured.

    `info` and `stats` return the payloads of the node's topics; see `MqttSink`.
    """
    sinks: list[Sink] = []
    node = config.server.name
    if config.mqtt.host:
        observer = mqtt_observer(metrics)
        sinks.append(MqttSink(config.mqtt, config.privacy, node, info, stats, observer))
    if config.alerts.webhooks:
        alerts = config.alerts
        sinks.append(WebhookSink(alerts.webhooks, alerts.outbox, node, metrics.webhook))
    return sinks
