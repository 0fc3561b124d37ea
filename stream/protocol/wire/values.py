"""Numbers, texts and arrays in messages and events. The generated schemas have their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from stream.fields import Limits, Role, Share, Stated
from stream.labels import LABELS
from stream.tenants import TENANT
from stream.terms import MAX_CHANNELS, MAX_RATE, MIN_RATE, Hint

NAME = r"^[A-Za-z0-9_.:-]{1,64}$"
"""Pattern of stream ids and tags."""

Version = Literal[1]
"""Version of the protocol."""

Count = Annotated[int, Limits(ge=0)]
Positive = Annotated[float, Limits(gt=0)]
Text = Annotated[str, Limits(min_length=1)]

Time = Annotated[str, Limits(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$")]
"""Wall clock, RFC 3339 in UTC with milliseconds."""

SessionId = Annotated[str, Limits(pattern=r"^ses_[0-9a-f]{24}$")]
"""Id of a session."""

Seq = Annotated[int, Limits(ge=0)]
"""Number of this event in its session, increasing by 1. Keep the last one for a resume."""

SubscriptionId = Annotated[str, Stated()]
"""Id of the matching subscription. Only on `/v1/subscribe`, never on `/v1/stream`."""

StreamId = Annotated[str, Limits(pattern=NAME, example="call-123")]
"""Name of the stream, given by the producer; by default the session id."""

TenantName = Annotated[str, Limits(pattern=TENANT, example="acme")]
"""Tenant that the stream belongs to."""

Tag = Annotated[str, Limits(pattern=NAME, example="queue:billing")]
"""Group of streams."""

MAX_TAGS = 8
Tags = Annotated[list[Tag], Stated(max_length=MAX_TAGS)]
"""Groups that the stream belongs to."""

ResumeToken = Annotated[str, Limits(pattern=r"^rt_[A-Za-z0-9_-]{32}$")]
"""A secret. Never sent to subscribers."""

Node = Annotated[str, Limits(min_length=1, max_length=64)]
"""Name of the server, `server.node`."""

FileId = Annotated[str, Limits(pattern=r"^file_[0-9a-f]{24}$")]
"""Id of a recording."""

Milliseconds = Annotated[int, Limits(ge=0)]
"""Milliseconds of the stream's audio."""

Seconds = Annotated[float, Limits(ge=0)]
"""Seconds of the recording, to the millisecond."""

ChannelNumber = Annotated[int, Limits(ge=0, le=MAX_CHANNELS - 1)]
"""Number of the channel, from 0."""

Utterance = Annotated[int, Limits(ge=0)]
"""Number of the utterance on its channel, from 0."""

SampleRate = Annotated[int, Limits(ge=MIN_RATE, le=MAX_RATE, example=16_000)]
"""Sample rate in Hz."""

Channels = Annotated[int, Limits(ge=1, le=MAX_CHANNELS, example=1)]
"""Number of channels, interleaved sample by sample."""

IntervalMs = Annotated[int, Limits(ge=250, le=10_000, example=1000)]
"""New speech between two scores. Under overload it is longer."""

WindowMs = Annotated[int, Limits(ge=1_000, le=10_000, example=3000)]
"""Longest window; one of the server's `windows.lengths_ms`."""

Scores = Annotated[Mapping[str, Share], Stated(keys=LABELS)]
"""Share per label."""

Rolling = Annotated[Mapping[str, Scores], Stated(keys=r"^([1-9]\d{0,2}s|call)$")]
"""Means over the speech of the last N seconds and of the whole `call` so far.

The names are `10s` and `30s`, or as configured.
"""

Activation = Annotated[float, Limits(ge=0, le=1)] | None
"""Angry + fearful + happy as a share of angry + fearful + happy + neutral + sad.

Null if that sum is 0. It depends less on the language than the labels do.
"""

Hints = Annotated[list[Hint], Stated(unique=True)]
"""Reasons to doubt the scores."""

Roles = Annotated[list[Role], Stated(max_length=MAX_CHANNELS)]

Dtmf = Annotated[str, Limits(pattern=r"^[0-9A-D*#]{1,32}$")]
"""Keys pressed on the telephone."""

Mark = Annotated[str, Limits(max_length=128)]
