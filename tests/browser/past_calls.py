"""Calls of the last weeks in a database of the history, for tests and screenshots of the page."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from stream.history.storage.connect import open_engine, upgrade, writing
from stream.history.storage.identity import Identities
from stream.history.storage.record import AlertRecord, GapRecord, SessionRecord, UtteranceRecord
from stream.history.storage.store import insert
from stream.labels import activation
from stream.terms import Severity

ZONE = ZoneInfo("Europe/Berlin")
LABELS = ("angry", "disgusted", "fearful", "happy", "neutral", "sad")
QUEUES = {"queue:billing": 0.3, "queue:sales": 0.1, "queue:complaints": 0.75, "queue:support": 0.3}
"""Tags, and the share of calls with a bad turn."""

SITES = ("site:berlin", "site:leeds")
OPEN, SHUT = 8, 18
"""Hours between which calls begin."""

WEEKEND = 5
SENTENCE = "indicator: negative over 10s at or above 0.6 for 5 s"


def fill(path: Path, records: list[SessionRecord]) -> str:
    """Write calls into a new SQLite database; return its URL."""
    url = f"sqlite:///{path}"
    engine = open_engine(url)
    upgrade(engine)
    with writing(engine) as connection:
        insert(connection, records, Identities(None))
    engine.dispose()
    return url


def past_calls(until: datetime, days: int, per_day: int, seed: int = 1) -> list[SessionRecord]:
    """Return calls of the working hours of the days before `until`, oldest first."""
    chance = random.Random(seed)
    return sorted(_calls(chance, until, days, per_day), key=lambda record: record.started_ms)


def _calls(
    chance: random.Random, until: datetime, days: int, per_day: int
) -> Iterator[SessionRecord]:
    number = 0
    for back in range(days):
        day = (until - timedelta(days=back)).replace(hour=0, minute=0, second=0, microsecond=0)
        quiet = day.weekday() >= WEEKEND
        for _ in range(per_day // 5 if quiet else round(per_day * chance.uniform(0.7, 1.3))):
            hour = chance.triangular(OPEN, SHUT, OPEN + 3)
            start = day + timedelta(hours=hour)
            number += 1
            if start < until:
                yield past_call(chance, number, start)


def past_call(chance: random.Random, number: int, start: datetime) -> SessionRecord:
    """Return a call of a customer with an agent."""
    queue = chance.choice(list(QUEUES))
    bad = chance.random() < QUEUES[queue]
    duration = chance.uniform(60, 300)
    utterances = list(_utterances(chance, duration, bad))
    customer = [u for u in utterances if u.channel == 0]
    speech = {c: sum(u.end_ms - u.start_ms for u in utterances if u.channel == c) for c in (0, 1)}
    labels = _mean(customer)
    raised = list(_alerts(chance, number, duration)) if bad else []
    sides = [
        {
            "channel": channel,
            "role": role,
            "scores": (mean := _mean([u for u in utterances if u.channel == channel])),
            "top": {"label": max(mean, key=lambda k: mean[k]), "score": max(mean.values())},
            "activation": activation(mean),
            "speech_ms": speech[channel],
            "utterances": len(utterances),
        }
        for channel, role in enumerate(("customer", "agent"))
    ]
    return SessionRecord(
        uid=f"past{number:05}",
        tenant="default",
        stream_id=f"call-{2000 + number}",
        kind="live",
        node="node",
        model="embedded",
        model_license="CC-BY-4.0",
        started_ms=round(start.timestamp() * 1000),
        duration_s=round(duration, 2),
        speech_s=sum(speech.values()) / 1000,
        reason="completed",
        activation=activation(labels),
        dominant=max(labels, key=lambda k: labels[k]),
        dead_air_s=round(chance.uniform(0, 20), 1),
        labels=labels,
        tags=(queue, chance.choice(SITES)),
        roles=("customer", "agent"),
        detail={"summary": sides, "conversation": _conversation(chance, speech)},
        utterances=utterances,
        gaps=(GapRecord(0, 9_000, 10_500, 1_500, "overload"),) if number % 9 == 0 else (),
        alerts=raised,
    )


def _utterances(chance: random.Random, duration: float, bad: bool) -> Iterator[UtteranceRecord]:
    at, counts = 1.0, [0, 0]
    while at < duration - 8:
        channel = chance.randint(0, 1)
        length = chance.uniform(1.2, 6)
        upset = bad and channel == 0 and 0.3 < at / duration < 0.7
        scores = _scores(chance, upset)
        hints = ("noisy",) if chance.random() < 0.1 else ()
        yield UtteranceRecord(
            channel,
            counts[channel],
            round(at * 1000),
            round((at + length) * 1000),
            scores,
            activation(scores),
            hints,
        )
        counts[channel] += 1
        at += length + chance.uniform(0.3, 1.8)


def _scores(chance: random.Random, upset: bool) -> dict[str, float]:
    weights = {label: chance.random() ** 2 * 0.4 for label in LABELS}
    weights["neutral"] += 1.2
    if upset:
        weights["angry"] += chance.uniform(1.5, 4)
        weights["sad"] += chance.uniform(0, 1)
    total = sum(weights.values())
    return {label: round(weight / total, 4) for label, weight in weights.items()}


def _mean(utterances: list[UtteranceRecord]) -> dict[str, float]:
    if not utterances:
        return {label: float(label == "neutral") for label in LABELS}
    weights = [u.end_ms - u.start_ms for u in utterances]
    return {
        label: round(
            sum(u.scores[label] * w for u, w in zip(utterances, weights, strict=True))
            / sum(weights),
            4,
        )
        for label in LABELS
    }


def _alerts(chance: random.Random, number: int, duration: float) -> Iterator[AlertRecord]:
    severity: Severity = "critical" if chance.random() < 0.5 else "warning"
    begin, end = round(duration * 3.4) * 100, round(duration * 7) * 100
    scores = _scores(chance, upset=True)
    evidence = {"text": SENTENCE, "peak": 0.8, "scores": scores}
    seen = ("anna", 1_795_824_000_000) if number % 2 else (None, None)
    yield AlertRecord(
        f"alr_{number}-0", "upset_customer", severity, "customer", begin, end, evidence, *seen
    )
    if number % 3 == 0:
        yield AlertRecord(f"alr_{number}-1", "dead_air", "info", None, end, None)


def _conversation(chance: random.Random, speech: dict[int, int]) -> dict[str, object]:
    total = sum(speech.values()) or 1
    sides = [
        {
            "channel": channel,
            "role": role,
            "talk_ms": speech[channel],
            "talk_share": round(speech[channel] / total, 3),
            "overlap_ms": chance.randint(0, 3_000),
            "turns": chance.randint(5, 20),
            "response_ms": chance.randint(200, 1_500),
            "longest_turn_ms": chance.randint(5_000, 20_000),
        }
        for channel, role in enumerate(("customer", "agent"))
    ]
    return {"audio_ms": total, "call": {"sides": sides, "dead_air_ms": chance.randint(0, 20_000)}}
