"""Sinks of a configuration: none, the broker's, one for all webhooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from stream.config import Config
from stream.sinks.configured import configured_sinks
from stream.telemetry.metrics import Metrics

BROKER = {"mqtt": {"host": "broker.example"}}
SECRET = "whsec_" + "QUFB" * 10
RECEIVER = {"url": "https://alerts.example/", "secret": SECRET}


@pytest.mark.parametrize(
    ("sections", "names"),
    [
        ({}, []),
        (BROKER, ["MqttSink"]),
        ({"alerts": {"webhooks": {"a": RECEIVER, "b": RECEIVER}}}, ["WebhookSink"]),
        (BROKER | {"alerts": {"webhooks": {"a": RECEIVER}}}, ["MqttSink", "WebhookSink"]),
    ],
)
def test_only_what_is_configured_gets_a_sink(
    tmp_path: Path, sections: dict[str, Any], names: list[str]
) -> None:
    config = Config.model_validate(sections)
    unused = cast("Any", None)
    sinks = configured_sinks(config, Metrics("0"), unused, unused)
    assert [type(sink).__name__ for sink in sinks] == names
