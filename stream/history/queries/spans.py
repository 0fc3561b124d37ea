"""Spans of a summary: which hours roll-ups answer, and which times sessions do. Pure.

Roll-ups are sums over hours of UTC. A range that begins or ends within an hour, and a day that
begins within one (in India, at half past), take the sessions of that hour instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from stream.history.storage.rollups import HOUR_MS
from stream.protocol.wire.history import Grouping

DAY_MS: Final = 24 * HOUR_MS

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Span:
    """Times from `start_ms` until before `end_ms` with one offset of local time from UTC.

    `rolled_up`: whole hours of UTC, none of which lies in two local days.
    """

    start_ms: int
    end_ms: int
    offset_ms: int
    rolled_up: bool


def unit_of(by: Grouping) -> int | None:
    """Return the milliseconds of one row; None for rows that are not times."""
    return {"hour": HOUR_MS, "day": DAY_MS}.get(by)


def spans(start_ms: int, end_ms: int, zone: tzinfo, by: Grouping) -> Iterator[Span]:
    """Yield the spans of a range, in order."""
    unit = unit_of(by)
    if unit is None:
        yield from _whole_hours(start_ms, end_ms, 0)
        return
    for begin, end, offset in _offsets(start_ms, end_ms, zone):
        if offset % HOUR_MS == 0:
            yield from _whole_hours(begin, end, offset)
        elif unit == HOUR_MS:
            yield Span(begin, end, offset, rolled_up=False)
        else:
            at = begin
            while at < end:
                midnight = (at + offset) // DAY_MS * DAY_MS + DAY_MS - offset
                yield from _whole_hours(at, min(midnight, end), offset)
                at = min(midnight, end)


def _whole_hours(begin: int, end: int, offset: int) -> Iterator[Span]:
    first, last = -(-begin // HOUR_MS) * HOUR_MS, end // HOUR_MS * HOUR_MS
    if first >= last:
        parts = [(begin, end, False)]
    else:
        parts = [(begin, first, False), (first, last, True), (last, end, False)]
    yield from (Span(start, stop, offset, whole) for start, stop, whole in parts if start < stop)


def _offsets(start_ms: int, end_ms: int, zone: tzinfo) -> Iterator[tuple[int, int, int]]:
    """Yield beginning, end and offset of the times between changes of the offset.

    No zone changes twice within a day.
    """
    begin, at = start_ms, start_ms
    offset = offset_at(at, zone)
    while at < end_ms:
        step = min(at + DAY_MS, end_ms)
        if offset_at(step, zone) != offset:
            low, high = at, step
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset_at(middle, zone) == offset else (low, middle)
            if high < end_ms:
                yield begin, high, offset
                begin, offset = high, offset_at(high, zone)
        at = step
    if begin < end_ms:
        yield begin, end_ms, offset


def offset_at(at_ms: int, zone: tzinfo) -> int:
    """Return the offset of local time from UTC in milliseconds."""
    local = (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone)
    offset = local.utcoffset() or timedelta()
    return offset // timedelta(milliseconds=1)


def name_of(row: int, offset_ms: int, zone: tzinfo, by: Grouping) -> str:
    """Return the name of an hour or a day; `row` counts them from 1970 in local time."""
    unit = unit_of(by)
    assert unit is not None
    local = _EPOCH + timedelta(milliseconds=row * unit)
    if by == "day":
        return local.date().isoformat()
    utc = _EPOCH + timedelta(milliseconds=row * unit - offset_ms)
    return utc.astimezone(zone).isoformat(timespec="seconds")
