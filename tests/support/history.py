"""Records of finished sessions, made up, and the rows of a history's tables."""

from __future__ import annotations

import secrets
from typing import Any

import sqlalchemy as sa

from stream.history.storage.record import (
    AlertRecord,
    GapRecord,
    SessionRecord,
    UtteranceRecord,
    encode,
)
from stream.history.storage.tables import metadata

BEGAN_MS = 1_764_300_000_000
"""Start of the first session: 2025-11-28T03:20:00Z."""

LABELS = {"angry": 0.6, "happy": 0.1, "neutral": 0.3}


def utterance(number: int, channel: int = 0) -> UtteranceRecord:
    """Return an utterance of 4 s."""
    begin = number * 5_000
    return UtteranceRecord(
        channel, number, begin, begin + 4_000, LABELS, 0.7, ("narrowband",), 0.25
    )


def alert(number: int = 0) -> AlertRecord:
    """Return an alert that ended."""
    evidence = {"text": "indicator: angry at or above 0.5", "peak": 0.8, "scores": LABELS}
    name = f"alr_{secrets.token_hex(8)}-{number}.0"
    return AlertRecord(name, "anger", "warning", "customer", 5_000, 9_000, evidence)


def record(**fields: Any) -> SessionRecord:
    """Return a session with two utterances, a gap and an alert; `fields` replace its own."""
    values: dict[str, Any] = {
        "uid": secrets.token_hex(16),
        "tenant": "default",
        "stream_id": "call-1",
        "kind": "live",
        "node": "node-1",
        "model": "emotide-embedded",
        "model_license": "Apache-2.0",
        "started_ms": BEGAN_MS,
        "duration_s": 30.0,
        "speech_s": 8.0,
        "reason": "ended",
        "activation": 0.7,
        "dominant": "angry",
        "dead_air_s": 4.0,
        "labels": LABELS,
        "tags": ("queue:billing", "team:a"),
        "roles": ("customer", "agent"),
        "attributes": {"customer": "4711"},
        "detail": {"channels": ["customer", "agent"], "summary": []},
        "utterances": (utterance(0), utterance(1)),
        "gaps": (GapRecord(0, 10_000, 12_000, 1_500, "overload"),),
        "alerts": (alert(),),
    }
    return SessionRecord(**(values | fields))


def encoded(**fields: Any) -> bytes:
    """Return `record` as it is queued."""
    return encode(record(**fields))


def rows(engine: sa.Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables, sorted as text, without copies of the session's columns."""
    with engine.connect() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(sa.select(*_own(table)))), key=repr)
            for table in metadata.sorted_tables
        }


def _own(table: sa.Table) -> list[sa.Column[Any]]:
    copied = "session_started_ms" in table.c
    return [c for c in table.c if not copied or c.name not in ("tenant", "session_started_ms")]


def counts(engine: sa.Engine) -> dict[str, int]:
    """Return the number of rows of each table."""
    return {name: len(some) for name, some in rows(engine).items()}
