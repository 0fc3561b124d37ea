"""Filters of the history, and the position of a page in its list. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from stream.protocol.errors import ProtocolError
from stream.protocol.history import HistoryQuery
from stream.protocol.wire.history import HistoryKind

ANY_ALERT: Final = "any"
NO_ALERT: Final = "none"

_CURSOR = re.compile(r"(\d{1,15})\.([A-Za-z0-9_-]{1,64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions on sessions; all of them hold, and None is no condition.

    `tenants` are those whose sessions are searched, None: all. Times are Unix milliseconds, the end
    is exclusive. `label` without `share` is the strongest one. `alert` is `ANY_ALERT`, `NO_ALERT`
    or the name of a rule. `streams` are ids as they are stored.
    """

    tenants: frozenset[str] | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    tag: str | None = None
    role: str | None = None
    label: str | None = None
    share: float | None = None
    min_activation: float | None = None
    max_activation: float | None = None
    alert: str | None = None
    min_duration_s: float | None = None
    max_duration_s: float | None = None
    kind: HistoryKind | None = None
    streams: frozenset[str] | None = None

    @classmethod
    def of(
        cls,
        query: HistoryQuery,
        tenants: frozenset[str] | None = None,
        stored: Callable[[str], frozenset[str]] = lambda stream: frozenset({stream}),
    ) -> Filter:
        """Return the filter of a query; `stored` maps a stream's id to what it is stored as."""
        return cls(
            tenants=tenants if query.tenant is None else frozenset({query.tenant}),
            start_ms=query.start_ms,
            end_ms=query.end_ms,
            tag=query.tag,
            role=query.role,
            label=query.label,
            share=query.share,
            min_activation=query.min_activation,
            max_activation=query.max_activation,
            alert=query.alert,
            min_duration_s=query.min_duration_s,
            max_duration_s=query.max_duration_s,
            kind=query.kind,
            streams=None if query.stream is None else stored(query.stream),
        )

    @property
    def rule(self) -> str | None:
        """Rule of alerts that must have raised one."""
        return None if self.alert in (ANY_ALERT, NO_ALERT) else self.alert

    @property
    def of_rollups(self) -> bool:
        """True if it has only conditions that roll-ups answer: time, tenant, tag."""
        others = (
            *(self.role, self.label, self.min_activation, self.max_activation, self.alert),
            *(self.min_duration_s, self.max_duration_s, self.kind, self.streams),
        )
        return all(condition is None for condition in others)


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Place of a session in the list, which descends by start, then by id."""

    started_ms: int
    uid: str

    @property
    def cursor(self) -> str:
        """The position as text for a URL."""
        text = f"{self.started_ms}.{self.uid}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def of(cls, cursor: str) -> Position:
        """Return the position that `cursor` made. Raises `ProtocolError`."""
        try:
            padded = cursor + "=" * (-len(cursor) % 4)
            text = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
        except (binascii.Error, ValueError):
            text = ""
        found = _CURSOR.fullmatch(text)
        if found is None:
            raise ProtocolError(
                "invalid_message",
                "cursor: is not one of this server's; use `next` of the page before, unchanged",
                param="cursor",
            )
        return cls(int(found[1]), found[2])
