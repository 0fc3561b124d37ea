"""Results of recordings as records of the history. Pure."""

from __future__ import annotations

import orjson

from stream.history.storage.identity import Identities
from stream.history.writing.means import SpeechMeans
from stream.protocol.wire.result import Result, ResultChannel, ResultUtterance
from stream.types import Body, unix_time


def recording(result: Result, tenant: str, uid: str, node: str, identities: Identities) -> bytes:
    """Return the record of a recording as JSON; the file's name is its stream's id."""
    channels, model = result["channels"], result["model"]
    means = SpeechMeans()
    for channel in channels:
        means.add(channel["scores"], channel["activation"], channel["speech_s"])
    return orjson.dumps(
        {
            "uid": uid,
            "tenant": tenant,
            "stream_id": identities.stream(tenant, result["file"]["name"]),
            "kind": "recording",
            "node": node,
            "model": model["id"],
            "model_license": model["licence"],
            "started_ms": _ms(unix_time(result["created"])),
            "duration_s": result["file"]["duration_s"],
            "speech_s": round(sum(channel["speech_s"] for channel in channels), 3),
            "reason": "completed",
            **means.fields(),
            "roles": list(dict.fromkeys(channel["role"] for channel in channels)),
            "detail": {
                "channels": _roles(channels),
                "model_revision": model["revision"],
                "summary": [_summary(channel) for channel in channels],
                "hints": result["hints"],
            },
            "utterances": [
                _utterance(channel["channel"], utterance)
                for channel in channels
                for utterance in channel["utterances"]
            ],
            "gaps": [
                {
                    "channel": channel["channel"],
                    "start_ms": _ms(gap["start_s"]),
                    "end_ms": _ms(gap["end_s"]),
                    "missing_ms": _ms(gap["missing_s"]),
                    "reason": gap["reason"],
                }
                for channel in channels
                for gap in channel["gaps"]
            ],
        }
    )


def _roles(channels: list[ResultChannel]) -> list[str]:
    """Return a role for each channel of the file; "" for one that was not analysed."""
    roles = {channel["channel"]: channel["role"] for channel in channels}
    return [roles.get(number, "") for number in range(max(roles, default=-1) + 1)]


def _summary(channel: ResultChannel) -> Body:
    """Return a channel as `session.closed` describes it."""
    return {
        "channel": channel["channel"],
        "role": channel["role"],
        "scores": channel["scores"],
        "top": channel["top"],
        "activation": channel["activation"],
        "speech_ms": _ms(channel["speech_s"]),
        "utterances": len(channel["utterances"]),
    }


def _utterance(channel: int, utterance: ResultUtterance) -> Body:
    baseline = utterance.get("baseline")
    return {
        "channel": channel,
        "position": utterance["utterance"],
        "start_ms": _ms(utterance["start_s"]),
        "end_ms": _ms(utterance["end_s"]),
        "scores": {label: round(share, 4) for label, share in utterance["scores"].items()},
        "activation": utterance["activation"],
        "hints": utterance["hints"],
        "baseline_weight": 0.0 if baseline is None else baseline["weight"],
    }


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
