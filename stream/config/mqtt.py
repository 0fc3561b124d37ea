"""Section `mqtt`: the broker and Home Assistant."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr

from stream.config.section import Positive, Section


class HomeAssistantConfig(Section):
    enabled: bool = False
    """Announce this server, rooms, devices and groups to Home Assistant (device discovery)."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$")] = "homeassistant"
    tags: Annotated[tuple[str, ...], Field(max_length=64)] = ("room:*", "device:*")
    """Patterns of tags that become devices; only of tags that stay, never of one per call."""
    forget_after_h: Annotated[float, Field(ge=0)] = 168.0
    """Hours without a stream after which the device of a tag is removed."""


class MqttConfig(Section):
    host: str = ""
    """Host name of the broker; empty: no MQTT."""
    port: Annotated[int, Field(ge=1, le=65535)] = 1883
    username: str = ""
    password: SecretStr = SecretStr("")
    tls: bool = False
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$")] = "emotide"
    outbox: Annotated[int, Field(ge=10)] = 10_000
    """Messages that wait for the broker, besides the newest of each retained topic."""
    outbox_mb: Annotated[int, Field(ge=1)] = 16
    """Memory for them, in MiB."""
    score_rate_hz: Annotated[float, Field(gt=0, le=50)] = 2.0
    """Maximum scores per second and channel; of those between, the newest is published."""
    stats_interval_s: Positive = 10.0
    clear_state_after_s: Annotated[float, Field(ge=0)] = 60.0
    """Expiry of the last messages of a stream, which say that it has ended."""
    home_assistant: HomeAssistantConfig = HomeAssistantConfig()
