"""Sections `server`, `limits`, `log` and `metrics`: operation of the server."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from stream.config.section import Positive, Section


class ServerConfig(Section):
    host: str = "127.0.0.1"
    """Address to listen on; "0.0.0.0" accepts connections from the network: then use TLS."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8765
    node: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = "auto"
    """Name of this node in events and MQTT topics; "auto" is the host name."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    origins: tuple[str, ...] = ()
    """Browser origins that may connect, besides the page that this server serves."""
    drain_timeout_s: Positive = 10.0
    """Time after SIGTERM to score the remaining speech and to close all connections."""

    @property
    def name(self) -> str:
        """Effective name of this node."""
        if self.node != "auto":
            return self.node
        valid = (c if c.isalnum() or c in "_.-" else "-" for c in socket.gethostname())
        return "".join(valid)[:64] or "node"


class LimitsConfig(Section):
    max_message_bytes: Annotated[int, Field(ge=1024)] = 1_048_576
    max_frame_ms: Annotated[int, Field(ge=100)] = 10_000
    start_timeout_s: Positive = 5.0
    idle_timeout_s: Positive = 30.0
    no_audio_timeout_s: Positive = 1_800.0
    """Time without a second of audio, whatever else is sent, after which a stream is closed."""
    max_session_s: Positive = 14_400.0
    max_sessions: Annotated[int, Field(ge=1)] = 500
    max_subscribers: Annotated[int, Field(ge=1)] = 1_000
    resume_s: Annotated[float, Field(ge=0)] = 60.0
    """Time for a producer to reattach after its connection broke."""
    resume_events: Annotated[int, Field(ge=1)] = 1_000
    subscriber_queue: Annotated[int, Field(ge=1)] = 1_000
    slow_consumer_s: Positive = 10.0
    ahead_s: Positive = 5.0
    """Audio further ahead of real time than this waits."""
    held_mb: Annotated[float, Field(ge=0, le=100_000)] = 64.0
    """Memory of all producers together for audio that waits; beyond it they are not read."""
    catch_up: Annotated[float, Field(ge=0, le=1_000)] = 20.0
    """Seconds of waiting audio that are analysed per second although they are ahead of real time,
    over all streams together; 0: none."""


class LogConfig(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"
    """auto: text on a terminal, JSON lines elsewhere."""


class MetricsConfig(Section):
    groups: Annotated[tuple[str, ...], Field(max_length=64)] = ("room:*", "device:*", "queue:*")
    """Patterns of tags that become labels of metrics; only of tags that stay, at most 200."""
