"""Insertion of sessions, with their rows and roll-ups."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.history.storage import rollups
from stream.history.storage.connect import writing
from stream.history.storage.identity import Identities
from stream.history.storage.record import SessionRecord, decode, encode
from stream.history.storage.store import Inserted, insert
from stream.history.storage.tables import sessions
from tests.support.history import BEGAN_MS, LABELS, alert, counts, record, rows

IDS = Identities(None)


def put(engine: sa.Engine, *records: SessionRecord) -> Inserted:
    with writing(engine) as connection:
        return insert(connection, records, IDS)


def test_a_session_is_stored_with_all_its_rows(engine: sa.Engine) -> None:
    call = record()
    assert put(engine, call) == Inserted(1, 0, 0)
    stored = rows(engine)
    number = stored["sessions"][0][0]
    assert stored["session_tags"] == [(number, "queue:billing"), (number, "team:a")]
    assert stored["session_labels"] == [(number, k, v) for k, v in LABELS.items()]
    assert stored["utterances"][1] == (
        number, 0, 1, 5_000, 9_000, LABELS, 0.7, ["narrowband"], 0.25,
    )  # fmt: skip
    assert stored["gaps"] == [(number, 0, 0, 10_000, 12_000, 1_500, "overload")]
    assert stored["session_alerts"][0][7] == call.alerts[0].evidence
    with engine.connect() as connection:
        row = connection.execute(sa.select(sessions)).one()
    assert (row.uid, row.alerts, row.severity) == (call.uid, 1, "warning")


def test_a_session_is_written_once(engine: sa.Engine) -> None:
    """The spool is read again after a kill, so sessions come twice: in one batch, and later."""
    call, other = record(), record()
    assert put(engine, call, call) == Inserted(1, 0, 0)
    before = rows(engine)
    assert put(engine, replace(call, duration_s=99.0)) == Inserted(0, 1, 0)
    assert rows(engine) == before
    assert put(engine, call, other) == Inserted(1, 1, 0)
    assert counts(engine)["utterances"] == 4


def test_rollups_are_the_sums_of_the_sessions(engine: sa.Engine) -> None:
    chance = random.Random(7)
    calls = [
        record(
            tenant=chance.choice(["default", "acme"]),
            tags=chance.choice([(), ("a",), ("a", "b"), ("b", "b")]),
            started_ms=BEGAN_MS + chance.randrange(3 * rollups.HOUR_MS),
            speech_s=chance.choice([0.0, 3.5, 20.25]),
            labels=chance.choice([{}, LABELS, {"sad": 0.75, "angry": 0.25}]),
            activation=chance.choice([None, 0.25, 0.5]),
            dead_air_s=chance.choice([None, 0.0, 7.5]),
            alerts=chance.choice([(), (alert(0), alert(1))]),
        )
        for _ in range(60)
    ]
    for begin in range(0, 60, 7):
        put(engine, *calls[begin : begin + 7])
    added = _rounded(engine)
    hours = {(call.tenant, rollups.hour_of(call.started_ms)) for call in calls}
    with writing(engine) as connection:
        rollups.recompute(connection, hours)
    assert _rounded(engine) == added
    everything = [row for row in added["rollups"] if row[1] == ""]
    assert sum(row[3] for row in everything) == 60
    assert sum(row[4] for row in everything) == sum(call.speech_s for call in calls)


def _rounded(engine: sa.Engine) -> dict[str, list[tuple[Any, ...]]]:
    stored = rows(engine)
    return {
        name: [tuple(round(v, 6) if isinstance(v, float) else v for v in row) for row in some]
        for name, some in stored.items()
        if name.startswith("rollup")
    }


@settings(max_examples=30)
@given(
    st.lists(st.text(st.characters(codec="utf-8"), max_size=8), max_size=4),
    st.dictionaries(st.text(max_size=4), st.text(max_size=8), max_size=3),
    st.floats(0, 1e6),
)
def test_a_record_survives_its_json(
    tags: list[str], attributes: dict[str, str], duration_s: float
) -> None:
    attributes = IDS.attributes("default", attributes)
    call = record(tags=tags, attributes=attributes, duration_s=duration_s)
    assert encode(decode(encode(call))) == encode(call)
