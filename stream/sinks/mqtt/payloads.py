"""Parts of payloads: flat JSON, one number per field. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, cast

import orjson

from stream.labels import top
from stream.protocol.wire.groups import Labels, WithActivation, WithTop
from stream.protocol.wire.parts import Quality
from stream.sinks.mqtt.message import Message

Fields = Mapping[str, Any]

VERSION: Final = 1
"""`v` of every payload."""

SIDE = ("talk_ms", "talk_share", "overlap_ms", "turns", "response_ms", "longest_turn_ms")
"""Fields of one channel in a conversation."""


def measures(of: Fields, side: Fields) -> dict[str, Any]:
    """Return the measures of the conversation and of one channel; unknown ones are absent."""
    own = {name: side[name] for name in SIDE if side[name] is not None}
    return {"silence_ms": of["silence_ms"], "dead_air_ms": of["dead_air_ms"], **own}


def with_activation(body: Fields) -> WithActivation:
    """Return the activation; omit it instead of null, so that dashboards keep the last number."""
    value = body.get("activation")
    return {} if value is None else {"activation": value}


def labels(scores: Mapping[str, float]) -> Labels:
    """Return the shares as fields. The labels of all models are those of `Labels`."""
    return cast(Labels, scores)


def quality(body: Fields) -> Quality:
    """Return the measurements of an utterance."""
    return cast(Quality, body["quality"])


def with_top(scores: Mapping[str, float]) -> WithTop:
    """Return the strongest label and its share; neither if there are no scores."""
    best = top(scores)
    return {} if best is None else {"top": best["label"], "top_score": best["score"]}


def unix_ms(seconds: float) -> int:
    """Return Unix time in milliseconds."""
    return round(seconds * 1000)


def json_message(
    topic: str, fields: Fields, schema: str, qos: Literal[0, 1], retain: bool, expiry_s: int | None
) -> Message:
    """Return the publication of a payload that has its schema's name and version."""
    payload = orjson.dumps(fields)
    return Message(topic, payload, qos, retain, expiry_s, f"emotide.{schema}.v{VERSION}")
