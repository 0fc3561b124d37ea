"""Collector: the events of one live stream as the record of a session. Pure, bounded in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from stream.delivery.live_stream import LiveStream
from stream.history.storage.identity import Identities
from stream.history.writing.means import SpeechMeans
from stream.types import unix_time

MAX_ALERTS: Final = 1_000
"""Alerts of one session that are kept; later ones are left out."""

ALERT_BYTES: Final = 1_000
"""Bytes of an alert, about."""

TYPES: Final = frozenset(
    (
        *("session.created", "session.updated", "session.closed"),
        *("emotion.segment", "stream.gap", "alert"),
    )
)
"""Types of the events that a record is made of."""


class Collector:
    """The part of one live stream that the history keeps.

    Utterances and gaps are held as JSON, which needs a tenth of the memory of objects. `uid` makes
    sure that the session is written once.
    """

    def __init__(self, stream: LiveStream, uid: str, node: str, identities: Identities) -> None:
        self._stream = stream
        self._identities = identities
        self._uid = uid
        self._node = node
        self._model = self._license = self._revision = ""
        self._utterances = bytearray()
        self._gaps = bytearray()
        self._alerts: dict[str, dict[str, Any]] = {}
        self._left_out = 0
        self._end_ms = self._speech_ms = 0
        self._means = SpeechMeans()
        self._closed: Mapping[str, Any] | None = None

    @property
    def size(self) -> int:
        """Bytes of utterances and gaps, and about those of the alerts."""
        return len(self._utterances) + len(self._gaps) + ALERT_BYTES * len(self._alerts)

    def add(self, body: Mapping[str, Any], room: int) -> None:
        """Take an event of `TYPES`; one that needs more than `room` bytes is left out."""
        match body["type"]:
            case "session.created" | "session.updated":
                model = body["session"]["analysis"]["model"]
                self._model, self._license = model["id"], model["licence"]
                self._revision = model["revision"]
            case "emotion.segment":
                self._add_utterance(body, room)
            case "stream.gap":
                self._add_gap(body, room)
            case "alert":
                self._add_alert(body, room)
            case "session.closed":
                self._closed = body

    def _add_utterance(self, body: Mapping[str, Any], room: int) -> None:
        begin, end, scores = body["audio_start_ms"], body["audio_end_ms"], body["scores"]
        self._end_ms = max(self._end_ms, end)
        self._speech_ms += end - begin
        self._means.add(scores, body["activation"], end - begin)
        baseline = body.get("baseline")
        row = {
            "channel": body["channel"],
            "position": body["utterance"],
            "start_ms": begin,
            "end_ms": end,
            "scores": {label: round(share, 4) for label, share in scores.items()},
            "activation": body["activation"],
            "hints": body["hints"],
            "baseline_weight": 0.0 if baseline is None else baseline["weight"],
        }
        self._append(self._utterances, row, room)

    def _add_gap(self, body: Mapping[str, Any], room: int) -> None:
        self._end_ms = max(self._end_ms, body["audio_end_ms"])
        row = {
            "channel": body["channel"],
            "start_ms": body["audio_ms"],
            "end_ms": body["audio_end_ms"],
            "missing_ms": body["missing_ms"],
            "reason": body["reason"],
        }
        self._append(self._gaps, row, room)

    def _append(self, rows: bytearray, row: Mapping[str, Any], room: int) -> None:
        data = orjson.dumps(row)
        if len(data) > room:
            self._left_out += 1
            return
        if rows:
            rows += b","
        rows += data

    def _add_alert(self, body: Mapping[str, Any], room: int) -> None:
        self._end_ms = max(self._end_ms, body["audio_ms"])
        alert = self._alerts.get(body["id"])
        if alert is None:
            if len(self._alerts) >= MAX_ALERTS or room < ALERT_BYTES:
                self._left_out += 1
                return
            alert = self._alerts[body["id"]] = {
                "id": body["id"],
                "rule": body["rule"],
                "severity": body["severity"],
                "role": body.get("role"),
                "started_ms": body["since_ms"],
                "ended_ms": None,
                "evidence": {
                    **{key: body[key] for key in ("text", "of", "above")},
                    **body.get("evidence", {}),
                },
            }
        alert["evidence"]["peak"] = body["peak"]
        if seen := body.get("acknowledged"):
            alert["acknowledged_by"] = seen["by"]
            alert["acknowledged_ms"] = round(unix_time(seen["at"]) * 1000)
        if body["state"] == "end":
            alert["ended_ms"] = body["audio_ms"]
            alert["evidence"]["reason"] = body.get("reason")

    def record(self) -> bytes | None:
        """Return the session as JSON (see `record.decode`), as far as it went.

        None if there is nothing to keep: no audio, or the speaker objected.
        """
        closed = self._closed
        if closed is not None and closed["reason"] == "objected":
            return None
        totals = self._totals() if closed is None else self._closed_totals(closed)
        if not totals["duration_s"]:
            return None
        stream, identities = self._stream, self._identities
        return orjson.dumps(
            {
                "uid": self._uid,
                "tenant": stream.tenant,
                "stream_id": identities.stream(stream.tenant, stream.stream_id),
                "kind": "live",
                "node": self._node,
                "model": self._model,
                "model_license": self._license,
                "started_ms": round(stream.started * 1000),
                **totals,
                "tags": stream.tags,
                "roles": list(dict.fromkeys(stream.roles)),
                "attributes": identities.attributes(stream.tenant, stream.attrs),
                "utterances": _array(self._utterances),
                "gaps": _array(self._gaps),
                "alerts": list(self._alerts.values()),
            }
        )

    def _closed_totals(self, closed: Mapping[str, Any]) -> dict[str, Any]:
        summary, totals = closed["summary"], closed["totals"]
        means = SpeechMeans()
        for side in summary:
            means.add(side["scores"], side["activation"], side["speech_ms"])
        return {
            "duration_s": totals["audio_ms"] / 1000,
            "speech_s": totals["speech_ms"] / 1000,
            "reason": closed["reason"],
            **means.fields(),
            **self._detail(summary, closed.get("conversation")),
        }

    def _totals(self) -> dict[str, Any]:
        """Return the totals of a session that has no end yet: those of its utterances."""
        event = self._stream.conversation
        heard_ms = 0 if event is None else event.body["audio_ms"]
        return {
            "duration_s": max(self._end_ms, heard_ms) / 1000,
            "speech_s": self._speech_ms / 1000,
            "reason": "interrupted",
            **self._means.fields(),
            **self._detail([], None if event is None else event.body),
        }

    def _detail(self, summary: list[Any], measured: Mapping[str, Any] | None) -> dict[str, Any]:
        detail: dict[str, Any] = {
            "channels": self._stream.roles,
            "model_revision": self._revision,
            "summary": summary,
        }
        dead_air_s = None
        if measured is not None:
            detail["conversation"] = {key: measured[key] for key in ("audio_ms", "call")}
            dead_air_s = measured["call"]["dead_air_ms"] / 1000
        if self._left_out:
            detail["left_out"] = self._left_out
        return {"dead_air_s": dead_air_s, "detail": detail}


def _array(rows: bytearray) -> orjson.Fragment:
    return orjson.Fragment(b"[" + rows + b"]")
