"""The history in plain Python: what queries of the database must return."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from stream.history.queries.filters import Filter
from stream.history.storage.record import SessionRecord
from stream.labels import LABELS
from tests.support.history import BEGAN_MS, alert, record, utterance

TENANTS = ("acme", "default", "globex")
TAGS = ("queue:billing", "queue:vip", "team:a")
ROLES = ("agent", "customer", "speaker")
RULES = ("anger", "dead_air", "rare")
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Coarse values, so that generated bounds meet them."""
DAY_MS = 86_400_000
STARTS = tuple(BEGAN_MS + n * 7_900_000 for n in range(120))
"""Over eleven days, at every part of the hour; several sessions begin in one millisecond."""


def calls(count: int = 240, seed: int = 5) -> list[SessionRecord]:
    """Return sessions that differ in everything that is filtered."""
    chance = random.Random(seed)
    return [_call(chance, number) for number in range(count)]


def _call(chance: random.Random, number: int) -> SessionRecord:
    scored = chance.random() < 0.9
    labels = {name: chance.choice(SHARES) for name in ("angry", "happy", "sad")} if scored else {}
    rules = [rule for rule in RULES if chance.random() < 0.3 for _ in range(chance.choice((1, 2)))]
    return record(
        uid=f"{number % 7:x}{number:06x}",
        tenant=chance.choice(TENANTS),
        stream_id=f"call-{chance.randrange(12)}",
        kind=chance.choice(("live", "live", "recording")),
        started_ms=chance.choice(STARTS),
        duration_s=float(chance.randrange(8)),
        speech_s=float(chance.randrange(4)),
        activation=chance.choice(SHARES) if scored else None,
        dominant=max(labels, key=lambda name: labels[name]) if scored else None,
        dead_air_s=chance.choice((None, 0.0, 2.5)),
        labels=labels,
        tags=[tag for tag in TAGS if chance.random() < 0.4],
        roles=[role for role in ROLES if chance.random() < 0.5],
        utterances=[utterance(n) for n in range(chance.randrange(3))],
        alerts=[alert_of(rule, n) for n, rule in enumerate(rules)],
    )


def alert_of(rule: str, number: int) -> Any:
    """Return an alert of a rule."""
    made = alert(number)
    return type(made)(made.id, rule, "warning", None, 1_000, None, made.evidence)


def matches(call: SessionRecord, wanted: Filter) -> bool:
    """Return whether a session fulfils all conditions of a filter."""
    rules = {raised.rule for raised in call.alerts}
    label, share = wanted.label, wanted.share
    return all(
        (
            wanted.tenants is None or call.tenant in wanted.tenants,
            wanted.start_ms is None or call.started_ms >= wanted.start_ms,
            wanted.end_ms is None or call.started_ms < wanted.end_ms,
            wanted.tag is None or wanted.tag in call.tags,
            wanted.role is None or wanted.role in call.roles,
            label is None
            or (call.dominant == label if share is None else call.labels.get(label, -1) >= share),
            within(call.activation, wanted.min_activation, wanted.max_activation),
            within(call.duration_s, wanted.min_duration_s, wanted.max_duration_s),
            wanted.alert is None
            or {"any": bool(rules), "none": not rules}.get(wanted.alert, wanted.alert in rules),
            wanted.kind is None or call.kind == wanted.kind,
            wanted.streams is None or call.stream_id in wanted.streams,
        )
    )


def within(value: float | None, least: float | None, most: float | None) -> bool:
    """Return whether a value lies between bounds; an unknown one does only without bounds."""
    if value is None:
        return least is None and most is None
    return (least is None or value >= least) and (most is None or value <= most)


def listed(some: Iterable[SessionRecord], wanted: Filter) -> list[str]:
    """Return the ids of a filter's sessions in the order of the list."""
    chosen = [call for call in some if matches(call, wanted)]
    return [c.uid for c in sorted(chosen, key=lambda c: (c.started_ms, c.uid), reverse=True)]


def summed(
    some: Iterable[SessionRecord], wanted: Filter, by: str, zone: str
) -> list[dict[str, Any]]:
    """Return the rows of a summary."""
    groups: defaultdict[str, list[SessionRecord]] = defaultdict(list)
    for call in some:
        if matches(call, wanted):
            for key in keys(call, by, ZoneInfo(zone)):
                groups[key].append(call)
    rows = [_row(key, members) for key, members in groups.items()]
    if by in ("tag", "tenant"):
        return sorted(rows, key=lambda row: (-row["calls"], row["key"]))
    return sorted(rows, key=lambda row: datetime.fromisoformat(row["key"]).timestamp())


def keys(call: SessionRecord, by: str, zone: ZoneInfo) -> Sequence[str]:
    """Return the rows to which a session belongs."""
    local = datetime.fromtimestamp(call.started_ms / 1000, UTC).astimezone(zone)
    if by == "day":
        return [local.date().isoformat()]
    if by == "hour":
        whole = local.replace(minute=0, second=0, microsecond=0)
        return [whole.isoformat(timespec="seconds")]
    return [call.tenant] if by == "tenant" else list(call.tags)


def _row(key: str, members: Sequence[SessionRecord]) -> dict[str, Any]:
    scored = sum(c.speech_s for c in members if c.labels)
    rated = [c for c in members if c.activation is not None]
    rated_s = sum(c.speech_s for c in rated)
    known = [c.dead_air_s for c in members if c.dead_air_s is not None]
    labels = {label for c in members for label in c.labels}
    return {
        "key": key,
        "calls": len(members),
        "speech_s": sum(c.speech_s for c in members),
        "scores": {
            label: sum(c.labels.get(label, 0.0) * c.speech_s for c in members) / scored
            for label in LABELS
            if label in labels and scored
        },
        "activation": (
            sum((c.activation or 0.0) * c.speech_s for c in rated) / rated_s if rated_s else None
        ),
        "alerts": sum(len(c.alerts) for c in members),
        "dead_air_s": sum(known) if known else None,
    }


def optional(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    """Return None often, so that filters have few conditions."""
    return st.one_of(st.none(), st.none(), st.sampled_from(values))


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    """Return any filter."""
    times = sorted(draw(st.lists(st.sampled_from(TIMES), min_size=2, max_size=2)))
    label = draw(optional(("angry", "happy", "fearful")))
    chosen = draw(st.one_of(st.none(), st.frozensets(st.sampled_from((*TENANTS, "nobody")))))
    return Filter(
        tenants=chosen,
        start_ms=draw(optional(times[:1])),
        end_ms=draw(optional(times[1:])),
        tag=draw(optional((*TAGS, "queue:none"))),
        role=draw(optional(ROLES)),
        label=label,
        share=None if label is None else draw(optional(SHARES)),
        min_activation=draw(optional(SHARES)),
        max_activation=draw(optional(SHARES)),
        alert=draw(optional(("any", "none", *RULES, "unknown"))),
        min_duration_s=draw(optional((0.0, 3.0, 6.0))),
        max_duration_s=draw(optional((0.0, 3.0, 7.0))),
        kind=draw(optional(("live", "recording"))),
        streams=draw(optional((frozenset({"call-1", "call-2"}), frozenset({"call-9"})))),
    )


TIMES = [0, *(STARTS[n] + more for n in range(0, 120, 7) for more in (-1, 0, 1)), 10**14]
"""Bounds of time at and beside sessions, on the hour and within it."""
TIMES += [STARTS[0] // 3_600_000 * 3_600_000 + n * 3_600_000 for n in range(0, 240, 11)]
