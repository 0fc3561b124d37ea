"""Parsing of requests about feedback: the body that marks an utterance, the queries."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from stream.labels import LABELS
from stream.protocol.errors import ProtocolError
from stream.protocol.parsing import Query, protocol_error
from stream.protocol.wire.values import StreamId
from stream.terms import MAX_CHANNELS

MAX_UTTERANCE = 1_000_000
MAX_ID = 128
"""Characters of the id of a recording or session."""

SPEAKER = r"^[^\W_][\w .:@+-]{0,63}$"
"""Pattern of a speaker's name; it does not begin like a formula of a spreadsheet."""

Id = Annotated[str, Field(min_length=1, max_length=MAX_ID)]


class FeedbackRequest(BaseModel):
    """The right label of one utterance of a recording or of a live stream."""

    model_config = ConfigDict(extra="forbid", strict=True)

    recording_id: Id | None = None
    """`file_id` of a recording."""
    stream_id: StreamId | None = None
    session_id: Id | None = None
    """Session of the stream; by default the newest one with this stream id."""
    channel: Annotated[int, Field(ge=0, lt=MAX_CHANNELS)] = 0
    utterance: Annotated[int, Field(ge=0, le=MAX_UTTERANCE)]
    label: str
    speaker: Annotated[str, Field(pattern=SPEAKER)] | None = None
    """Name of the speaker, so that no voice is on both sides of a check; by default the stream."""

    @field_validator("label")
    @classmethod
    def _label_is_known(cls, label: str) -> str:
        if label not in LABELS:
            raise ValueError(f"must be one of {', '.join(LABELS)}")
        return label

    @model_validator(mode="after")
    def _one_source(self) -> FeedbackRequest:
        if (self.recording_id is None) == (self.stream_id is None):
            raise ValueError("name either recording_id or stream_id")
        if self.session_id is not None and self.stream_id is None:
            raise ValueError("session_id belongs to stream_id")
        return self


class ExportQuery(BaseModel):
    """Query of an export."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["csv", "zip"] = "csv"


class DeletionQuery(BaseModel):
    """Query that deletes the marks of a recording, of a stream, or all of the tenant."""

    model_config = ConfigDict(extra="forbid")

    recording_id: Id | None = None
    stream_id: StreamId | None = None
    all: Literal["true"] | None = None

    @model_validator(mode="after")
    def _one_extent(self) -> DeletionQuery:
        if sum(value is not None for value in (self.recording_id, self.stream_id, self.all)) != 1:
            raise ValueError("name one of recording_id, stream_id and all=true")
        return self


Parsed = TypeVar("Parsed", bound=BaseModel)


def parse_feedback(body: bytes) -> FeedbackRequest:
    """Parse the body of a request that marks an utterance. Raises `ProtocolError`."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ProtocolError("invalid_message", f"the body must be JSON: {error}") from None
    return _validated(FeedbackRequest, fields)


def parse_query(model: type[Parsed], query: Query) -> Parsed:
    """Parse the query of an export or a deletion. Raises `ProtocolError`."""
    return _validated(model, {key: values[-1] for key, values in query.items()})


def _validated(model: type[Parsed], fields: Any) -> Parsed:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise protocol_error(error) from None
