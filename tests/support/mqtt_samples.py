"""Streams and events as sessions create them, for tests of sinks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from stream.delivery.groups import Groups
from stream.delivery.live_stream import LiveStream
from stream.protocol.events import AnalysisEvents, EncodedEvent, encode
from stream.protocol.wire.mqtt import Info, Stats
from stream.sinks.mqtt.message import Message
from stream.sinks.mqtt.names import StreamNames
from stream.sinks.mqtt.topics import Topics
from stream.tenants import DEFAULT
from stream.types import (
    Event,
    ModelInfo,
    Quality,
    Score,
    Segment,
    SpeechEnd,
    SpeechStart,
    from_ms,
)

MODEL = ModelInfo(
    id="sample",
    revision="1",
    labels=("angry", "happy", "neutral"),
    frame_hop=320,
    lengths=(48_000,),
    batch_sizes=(1,),
    temperature=1.0,
    licence="Apache-2.0",
    device="cpu",
)
INFO: Info = {
    "node": "n1",
    "name": "emotide",
    "version": "0.1.0",
    "protocol": "emotide.v1",
    "model": None,
    "login": False,
    "limits": {"max_sessions": 500},
    "privacy": {
        "analyse_roles": ["customer"],
        "employee_basis": "",
        "require_disclosure": False,
        "disclosure": "",
        "audio_kept": False,
        "recordings_kept_s": 0,
    },
    "notice": "",
}
STATS: Stats = {"sessions": 1, "parked": 0, "subscribers": 2, "windows_waiting": 0, "uptime_s": 60}
READABLE = Topics("emotide", "n1", StreamNames(None))
HASHED = Topics("emotide", "n1", StreamNames(b"secret"))
QUALITY = Quality(rms_dbfs=-20.0, clipped=0.0, snr_db=None, band="wide", speech_s=2.5)
CALM: Mapping[str, float] = {"angry": 0.1, "happy": 0.2, "neutral": 0.7}
ANGRY: Mapping[str, float] = {"angry": 0.8, "happy": 0.05, "neutral": 0.15}


def live(
    stream_id: str = "call-1",
    roles: tuple[str, ...] = ("customer",),
    tags: tuple[str, ...] = (),
    mqtt: bool = True,
    tenant: str = DEFAULT,
) -> LiveStream:
    return LiveStream(
        stream_id=stream_id,
        session_id="s-" + stream_id,
        roles=roles,
        analysed=tuple(range(len(roles))),
        tags=tags,
        started=1_700_000_000.0,
        mqtt=mqtt,
        tenant=tenant,
    )


def encoded(stream: LiveStream, event: Event, ts: float | None = None) -> EncodedEvent:
    """Return an event as a session publishes it to the hub."""
    body = AnalysisEvents(stream.roles, MODEL).body(event, latency_ms=40)
    now = time.time() if ts is None else ts
    return encode(body, 1, stream.session_id, stream.stream_id, now)


def start(utterance: int = 0, channel: int = 0) -> SpeechStart:
    return SpeechStart(channel, utterance, from_ms(1000))


def end(utterance: int = 0, channel: int = 0) -> SpeechEnd:
    return SpeechEnd(channel, utterance, from_ms(1000), from_ms(4000), "speech_end")


def score(
    scores: Mapping[str, float] = CALM,
    rolling: Mapping[str, Mapping[str, float]] | None = None,
    utterance: int = 0,
    channel: int = 0,
    end_ms: int = 3000,
) -> Score:
    return Score(
        channel=channel,
        utterance=utterance,
        start=from_ms(end_ms - 2000),
        end=from_ms(end_ms),
        trigger="interval",
        speech_ratio=0.83,
        scores=scores,
        rolling={"10s": scores, "call": scores} if rolling is None else rolling,
        quality=QUALITY,
        hints=(),
    )


def segment(scores: Mapping[str, float] = CALM, utterance: int = 0, channel: int = 0) -> Segment:
    return Segment(
        channel=channel,
        utterance=utterance,
        start=from_ms(1000),
        end=from_ms(4000),
        trigger="speech_end",
        covered=1.0,
        scores=scores,
        rolling={"10s": scores},
        quality=QUALITY,
        hints=("short_speech",),
    )


def alert(stream: LiveStream, **fields: Any) -> EncodedEvent:
    body = {
        "type": "alert",
        "channel": 0,
        "role": stream.roles[0],
        "rule": "anger",
        "state": "new",
        "value": 0.8,
        **fields,
    }
    return encode(body, 1, stream.session_id, stream.stream_id, time.time())


def summary(
    topics: Topics, tag: str, streams: list[LiveStream], now: float, tenant: str = "default"
) -> Message:
    """Return the summary of live streams of one group, none of them withheld."""
    groups = Groups(1)
    for stream in streams:
        groups.opened(stream, now)
    return topics.summary(groups.summary((tenant, tag), now), now, tenant)


def fields(message: Message) -> dict[str, Any]:
    """Return the payload of a publication."""
    decoded = orjson.loads(message.payload)
    assert isinstance(decoded, dict)
    return decoded
