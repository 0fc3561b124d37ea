"""Parsing of queries on `/v1/history`: filters of sessions, pages, summaries, exports. Pure."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from stream.fields import Role, RuleName, Share
from stream.labels import LABELS
from stream.protocol.errors import ProtocolError
from stream.protocol.parsing import Query, protocol_error
from stream.protocol.wire.history import Grouping, HistoryKind
from stream.protocol.wire.values import Tag, TenantName

MAX_LIMIT, DEFAULT_LIMIT = 500, 50
"""Sessions of one page."""

MAX_SECONDS = 1e9
MAX_STREAM = 256
"""Characters of a stream's id, or of the name of a recording."""

ZONE = r"^[A-Za-z][A-Za-z0-9_+/-]{0,63}$"

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_LOST_PLUS = re.compile(r"(?<=[\d]) (?=\d{2}:\d{2}$)", re.ASCII)
"""A "+" that was not written as %2B in a URL."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = 1970, 2900
"""Years in which a time may lie."""

Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS)]


class HistoryQuery(BaseModel):
    """Conditions on sessions; all of them hold."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    since: str | None = Field(None, alias="from", max_length=40)
    """Earliest start: a time of RFC 3339, or a date."""
    until: str | None = Field(None, alias="to", max_length=40)
    """Starts before this time, or on this date at the latest."""
    tz: Annotated[str, Field(pattern=ZONE)] = "UTC"
    """Time zone of dates, by its IANA name."""
    tag: Tag | None = None
    role: Role | None = None
    label: str | None = None
    """Without `share`, the strongest label."""
    share: Share | None = None
    """Least share of the label."""
    min_activation: Share | None = None
    max_activation: Share | None = None
    alert: RuleName | None = None
    """`any`, `none`, or the name of a rule."""
    min_duration_s: Seconds | None = None
    max_duration_s: Seconds | None = None
    kind: HistoryKind | None = None
    tenant: TenantName | None = None
    stream: Annotated[str, Field(min_length=1, max_length=MAX_STREAM)] | None = None
    """Id of the stream."""

    @property
    def zone(self) -> tzinfo:
        """The time zone."""
        return _zone(self.tz)

    @property
    def start_ms(self) -> int | None:
        """Earliest start in Unix milliseconds."""
        return None if self.since is None else _moment(self.since, self.zone, end=False)

    @property
    def end_ms(self) -> int | None:
        """End of the range in Unix milliseconds, exclusive."""
        return None if self.until is None else _moment(self.until, self.zone, end=True)

    @field_validator("tz")
    @classmethod
    def _zone_is_known(cls, name: str) -> str:
        _zone(name)
        return name

    @field_validator("label")
    @classmethod
    def _label_is_known(cls, label: str | None) -> str | None:
        if label is not None and label not in LABELS:
            raise ValueError(f"must be one of {', '.join(LABELS)}")
        return label

    @model_validator(mode="after")
    def _is_consistent(self) -> HistoryQuery:
        start, end = _in_range("from", self, "start_ms"), _in_range("to", self, "end_ms")
        if start is not None and end is not None and start >= end:
            raise ValueError("to: must be later than from")
        if self.share is not None and self.label is None:
            raise ValueError("share: name the label whose share it is: label=angry&share=0.4")
        _check_order("activation", self.min_activation, self.max_activation)
        _check_order("duration_s", self.min_duration_s, self.max_duration_s)
        return self


class ListQuery(HistoryQuery):
    """Query of a page of sessions."""

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT
    cursor: Annotated[str, Field(max_length=200)] | None = None
    """`next` of the page before."""


class SummaryQuery(HistoryQuery):
    """Query of a summary."""

    by: Grouping = "day"


ExportFormat = Literal["csv", "jsonl"]
ExportRows = Literal["sessions", "utterances"]


class ExportQuery(HistoryQuery):
    """Query of an export."""

    format: ExportFormat = "csv"
    rows: ExportRows = "sessions"


class ErasureQuery(BaseModel):
    """Query that erases the sessions of a stream, with an attribute, or of a tenant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stream: Annotated[str, Field(min_length=1, max_length=MAX_STREAM)] | None = None
    attribute: Annotated[str, Field(pattern=r"^[^:]{1,128}:.{1,1024}$")] | None = None
    """Name and value, separated by the first colon."""
    tenant: TenantName | None = None

    @model_validator(mode="after")
    def _one_extent(self) -> ErasureQuery:
        if sum(value is not None for value in (self.stream, self.attribute, self.tenant)) != 1:
            raise ValueError("stream: name one of stream, attribute=NAME:VALUE and tenant")
        return self


Parsed = TypeVar("Parsed", bound=BaseModel)


def parse_history(model: type[Parsed], query: Query) -> Parsed:
    """Parse a query of `/v1/history`. Raises `ProtocolError`, whose text names the parameter."""
    known = [field.alias or name for name, field in model.model_fields.items()]
    fields: dict[str, Any] = {}
    for name, values in query.items():
        if name not in known:
            text = f"unknown query parameter {name[:64]!r}; known: {', '.join(sorted(known))}"
            raise ProtocolError("invalid_message", text, param=name)
        if len(values) > 1:
            raise ProtocolError(
                "invalid_message", f"{name}: given {len(values)} times; give it once", param=name
            )
        fields[name] = values[0]
    try:
        return model.model_validate(fields, by_name=False, by_alias=True)
    except ValidationError as error:
        raise _mistake(error) from None


def _mistake(error: ValidationError) -> ProtocolError:
    """Return the first problem; the text of one in several parameters begins with the first."""
    first = error.errors(include_url=False)[0]
    if first["loc"]:
        return protocol_error(error)
    text = first["msg"].removeprefix("Value error, ")
    return ProtocolError("invalid_message", text, param=text.partition(":")[0], fatal=False)


def _in_range(name: str, query: HistoryQuery, attribute: str) -> int | None:
    try:
        value: int | None = getattr(query, attribute)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return value


def _check_order(name: str, least: float | None, most: float | None) -> None:
    if least is not None and most is not None and least > most:
        raise ValueError(f"max_{name}: must not be less than min_{name}")


@lru_cache(maxsize=32)
def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("must be the IANA name of a time zone, like Europe/Berlin") from None


def _moment(text: str, zone: tzinfo, *, end: bool) -> int:
    """Return a time of RFC 3339, or the beginning or end of a date, in Unix milliseconds.

    Raises ValueError.
    """
    text = _LOST_PLUS.sub("+", text)
    try:
        if _DATE.fullmatch(text):
            day = date.fromisoformat(text) + timedelta(days=1 if end else 0)
            moment = datetime.combine(day, time(), zone)
        elif found := _TIME.fullmatch(text):
            # Digits beyond microseconds are cut off: Python accepts six.
            fraction = (found[3] or "")[:7]
            moment = datetime.fromisoformat(f"{found[1]}T{found[2]}{fraction}{found[4].upper()}")
        else:
            raise ValueError
        if not _FIRST <= moment.year <= _LAST:
            raise ValueError
        # Rounded up, because a session that starts in this millisecond started before the time.
        return -((_EPOCH - moment) // timedelta(milliseconds=1))
    except (ValueError, OverflowError):
        raise ValueError(
            "must be a date like 2026-11-28, or a time with its offset like "
            f"2026-11-28T10:30:00Z or 2026-11-28T10:30:00+01:00, from {_FIRST} to {_LAST} "
            f"(got {text[:40]!r})"
        ) from None
