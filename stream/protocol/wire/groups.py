"""Summaries of groups, in `GET /v1/groups` and on MQTT."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from stream.fields import Limits, Share
from stream.labels import Label
from stream.protocol.wire.values import Count, Tag, TenantName


class Labels(TypedDict, total=False):
    """Shares by label; labels that the model lacks are absent."""

    angry: Share
    disgusted: Share
    fearful: Share
    happy: Share
    neutral: Share
    other: Share
    sad: Share
    surprised: Share
    unknown: Share


class WithTop(TypedDict, total=False):
    """The label with the largest share; absent if nothing was scored."""

    top: Label
    top_score: Share


class WithActivation(TypedDict, total=False):
    """The activation, if it is known."""

    activation: Share


class Withheld(TypedDict, total=False):
    """Mark of numbers that are left out: they are of fewer than `privacy.min_group` streams."""

    withheld: Literal[True]


class Means(Labels, WithTop, WithActivation):
    """Mean scores."""


class GroupScores(Means, Withheld, total=False):
    """Streams of a group now, and their mean scores over the last 10 s."""

    streams: Count
    """Live streams."""
    speaking: Count
    """Live streams with speech at the moment."""


class GroupPeriod(Means, Withheld, total=False):
    """A group over a period: its utterances that ended in it, weighted by their speech."""

    streams: Count
    """Streams that were live in the period."""
    speech_s: Annotated[float, Limits(ge=0)]
    """Seconds of speech."""
    alerted: Share
    """Share of the streams that had an alert."""


class GroupPeriods(GroupScores):
    """A group now and over the last 1, 5 and 15 minutes, without the names of its streams."""

    m1: GroupPeriod
    m5: GroupPeriod
    m15: GroupPeriod


class GroupSummary(GroupPeriods):
    """Summary of the streams with a tag."""

    group: Tag
    tenant: NotRequired[TenantName]
    """Only for keys that watch several tenants."""


class GroupList(TypedDict):
    """Body of `GET /v1/groups`."""

    groups: list[GroupSummary]
