"""Summaries of the streams with a tag, now and over the last minutes. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from stream.delivery.live_stream import LiveStream
from stream.labels import activation, top
from stream.protocol.events import SCORE, SEGMENT, EncodedEvent
from stream.protocol.wire.groups import GroupPeriod, GroupScores, GroupSummary, Labels, Means
from stream.tenants import Principal
from stream.types import unix_time

Group = tuple[str, str]
"""Tenant and tag of the streams of one group."""

BUCKET_S: Final = 10
"""Seconds of one bucket of the history; periods move on in these steps."""

PERIODS: Final[Mapping[str, int]] = {"m1": 6, "m5": 30, "m15": 90}
"""Periods of a summary by name, in buckets."""

FRESH_S: Final = 30
"""Seconds for which the newest score of a channel counts."""

MAX_GROUPS: Final = 10_000
"""Groups with a history; beyond, the longest silent one without a live stream is dropped."""


@dataclass(slots=True)
class _Mean:
    """Weighted mean of shares, label by label: a session may choose the labels that it gets."""

    sums: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)

    def add(self, shares: Mapping[str, float], weight: float = 1.0) -> None:
        for label, share in shares.items():
            self.sums[label] = self.sums.get(label, 0.0) + share * weight
            self.weights[label] = self.weights.get(label, 0.0) + weight

    def merge(self, other: _Mean) -> None:
        for label, total in other.sums.items():
            self.sums[label] = self.sums.get(label, 0.0) + total
            self.weights[label] = self.weights.get(label, 0.0) + other.weights[label]


@dataclass(slots=True)
class _Bucket:
    """Events of a group in `BUCKET_S` seconds. Streams are numbers."""

    seen: set[int] = field(default_factory=set)
    scored: set[int] = field(default_factory=set)
    alerted: set[int] = field(default_factory=set)
    speech_s: float = 0.0
    scores: _Mean = field(default_factory=_Mean)


@dataclass(slots=True)
class _History:
    """Live streams of a group, and its buckets by number, oldest first."""

    live: dict[LiveStream, int] = field(default_factory=dict)
    buckets: dict[int, _Bucket] = field(default_factory=dict)

    def bucket(self, number: int) -> _Bucket:
        if number not in self.buckets:
            self.buckets[number] = _Bucket()
            self.drop_before(number - max(PERIODS.values()) + 1)
        return self.buckets[number]

    def drop_before(self, number: int) -> None:
        for old in list(itertools.takewhile(lambda known: known < number, self.buckets)):
            del self.buckets[old]


class Groups:
    """Counts the events of all groups. `now` is Unix time in seconds.

    Numbers of fewer than `min_group` streams are withheld. Nothing in a summary names a stream.
    """

    def __init__(self, min_group: int) -> None:
        self._min_group = min_group
        self._groups: dict[Group, _History] = {}
        self._numbers = itertools.count()
        self._tags: dict[LiveStream, tuple[int, frozenset[Group]]] = {}

    def opened(self, stream: LiveStream, now: float) -> None:
        """Add a live stream to the groups of its tags."""
        number = next(self._numbers)
        groups = groups_of(stream)
        self._tags[stream] = number, groups
        for group in groups:
            self._join(group, stream, number, now)

    def changed(self, stream: LiveStream, now: float) -> None:
        """Move a live stream to the groups of its tags; its past stays where it was."""
        if stream not in self._tags:
            return
        number, before = self._tags[stream]
        groups = groups_of(stream)
        self._tags[stream] = number, groups
        for group in before - groups:
            self._leave(group, stream, now)
        for group in groups - before:
            self._join(group, stream, number, now)

    def closed(self, stream: LiveStream, now: float) -> None:
        """Remove a stream that ended; what it said still counts."""
        _, groups = self._tags.pop(stream, (0, frozenset()))
        for group in groups:
            self._leave(group, stream, now)

    def event(self, stream: LiveStream, event: EncodedEvent, now: float) -> None:
        """Count the speech and scores of an utterance, or an alert."""
        is_alert = event.type == "alert" and event.body.get("state", "new") == "new"
        if stream not in self._tags or not (is_alert or event.type == SEGMENT):
            return
        number, groups = self._tags[stream]
        for group in groups:
            bucket = self._groups[group].bucket(int(now // BUCKET_S))
            bucket.seen.add(number)
            if is_alert:
                bucket.alerted.add(number)
            else:
                _count_segment(bucket, number, event.body)

    def groups(self, now: float) -> list[Group]:
        """Return all groups with a stream in the longest period, in alphabetical order."""
        self._forget_old(now)
        return sorted(self._groups)

    def of(self, stream: LiveStream) -> frozenset[Group]:
        """Return the groups that a live stream belongs to."""
        return self._tags[stream][1] if stream in self._tags else frozenset()

    def summary(self, group: Group, now: float) -> GroupSummary:
        """Return the summary of a group; it may be unknown or empty."""
        history = self._groups.get(group, _History())
        newest = int(now // BUCKET_S)
        periods: dict[str, GroupPeriod] = {}
        merged, reached = _Bucket(seen=set(history.live.values())), 0
        for name, buckets in PERIODS.items():
            for number in range(newest - reached, newest - buckets, -1):
                _merge(merged, history.buckets.get(number))
            reached = buckets
            periods[name] = self._period(merged)
        return cast(
            GroupSummary, {"group": group[1], **self._current(history.live, now), **periods}
        )

    def visible(self, principal: Principal, now: float) -> Iterator[GroupSummary]:
        """Yield the summaries of the groups that a principal may see."""
        for tenant, tag in self.groups(now):
            if principal.sees(tenant):
                summary = self.summary((tenant, tag), now)
                if principal.watches_others:
                    summary["tenant"] = tenant
                yield summary

    def _current(self, live: Iterable[LiveStream], now: float) -> GroupScores:
        streams = list(live)
        if 0 < len(streams) < self._min_group:
            return {"withheld": True}
        fresh = {stream: scores for stream in streams if (scores := _fresh(stream, now))}
        counts: GroupScores = {
            "streams": len(streams),
            "speaking": sum(1 for stream in streams if stream.speakers),
        }
        if len(fresh) < self._min_group:
            return {**counts, "withheld": True} if fresh else counts
        every = [shares for channels in fresh.values() for shares in channels]
        mean = _Mean()
        for shares in every:
            mean.add(shares)
        return {**counts, **_scores(mean)}

    def _period(self, merged: _Bucket) -> GroupPeriod:
        if 0 < len(merged.seen) < self._min_group:
            return {"withheld": True}
        counts: GroupPeriod = {
            "streams": len(merged.seen),
            "speech_s": round(merged.speech_s, 1),
            "alerted": round(len(merged.alerted) / len(merged.seen), 4) if merged.seen else 0.0,
        }
        if len(merged.scored) < self._min_group:
            return {**counts, "withheld": True} if merged.scored else counts
        return {**counts, **_scores(merged.scores)}

    def _join(self, group: Group, stream: LiveStream, number: int, now: float) -> None:
        if group not in self._groups and len(self._groups) >= MAX_GROUPS:
            self._drop_one(now)
        history = self._groups.setdefault(group, _History())
        history.live[stream] = number
        history.bucket(int(now // BUCKET_S)).seen.add(number)

    def _leave(self, group: Group, stream: LiveStream, now: float) -> None:
        history = self._groups[group]
        number = history.live.pop(stream)
        history.bucket(int(now // BUCKET_S)).seen.add(number)

    def _drop_one(self, now: float) -> None:
        self._forget_old(now)
        silent = [group for group, history in self._groups.items() if not history.live]
        if silent and len(self._groups) >= MAX_GROUPS:
            oldest = min(silent, key=lambda group: max(self._groups[group].buckets, default=0))
            del self._groups[oldest]

    def _forget_old(self, now: float) -> None:
        first = int(now // BUCKET_S) - max(PERIODS.values()) + 1
        for group, history in list(self._groups.items()):
            history.drop_before(first)
            if not history.live and not history.buckets:
                del self._groups[group]


def groups_of(stream: LiveStream) -> frozenset[Group]:
    """Return the groups of a stream's tags."""
    return frozenset((stream.tenant, tag) for tag in stream.tags)


def _count_segment(bucket: _Bucket, number: int, body: Mapping[str, Any]) -> None:
    speech_s = float(body["quality"]["speech_s"])
    bucket.speech_s += speech_s
    if body["scores"]:
        bucket.scored.add(number)
        bucket.scores.add(body["scores"], max(speech_s, 0.001))


def _merge(into: _Bucket, bucket: _Bucket | None) -> None:
    if bucket is not None:
        into.seen |= bucket.seen
        into.scored |= bucket.scored
        into.alerted |= bucket.alerted
        into.speech_s += bucket.speech_s
        into.scores.merge(bucket.scores)


def _fresh(stream: LiveStream, now: float) -> list[Mapping[str, float]]:
    """Return the newest scores of the channels, over 10 s if that is a horizon."""
    return [
        score.body["rolling"].get("10s") or score.body["scores"]
        for score in stream.last.values()
        if score.type == SCORE and now - unix_time(score.body["ts"]) <= FRESH_S
    ]


def _scores(mean: _Mean) -> Means:
    means = {label: round(total / mean.weights[label], 4) for label, total in mean.sums.items()}
    best, active = top(means), activation(means)
    return {
        **cast(Labels, means),
        **({} if best is None else {"top": best["label"], "top_score": best["score"]}),
        **({} if active is None else {"activation": active}),
    }
