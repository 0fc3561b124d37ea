"""Objects inside events: model, quality, frames, embeddings, details of errors."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from stream.fields import Limits, Role, Share, Stated
from stream.labels import Label
from stream.protocol.wire.common import Channel
from stream.protocol.wire.values import Activation, Count, Milliseconds, Scores, Text
from stream.terms import Band, FaultReason, Sound


class ModelName(TypedDict):
    """The model that made a score."""

    id: Text
    revision: str


class ModelIdentity(ModelName):
    """A model, its labels and its licence."""

    labels: Annotated[list[Label], Stated(min_length=1, unique=True)]
    missing_labels: Annotated[list[Label], Stated(unique=True)]
    licence: str
    embedding_dim: Count
    """Number of values of an embedding; 0: the model has no embeddings."""


class ResultModel(ModelIdentity):
    """The model that made a result."""

    why: NotRequired[str]
    """Reason for choosing this model, if there was a choice."""


class Model(ModelIdentity):
    """The model that scores."""

    device: Text
    why: str
    """Reason for choosing this model, if there was a choice."""


class Quality(TypedDict):
    """Measurements of the utterance so far."""

    rms_dbfs: Annotated[float, Limits(ge=-96, le=0)]
    """Level of its voiced frames."""
    clipped: Share
    """Share of the samples that are clipped."""
    snr_db: Annotated[float, Limits(le=60)] | None
    """Level of the voiced frames against the pauses; null before the first pause."""
    band: Band | None
    speech_s: Annotated[float, Limits(ge=0)]
    """Seconds of voiced frames that were measured."""
    sound: NotRequired[Sound | None]
    """Kind of sound if not ordinary speech; `tone` and `hiss` (steady noise) get no scores."""


class Baseline(TypedDict):
    """The scores before the baseline of the voice moved them, and what the baseline rests on."""

    speech_s: Annotated[float, Limits(ge=0)]
    """Seconds of speech that the baseline was learned from."""
    weight: Share
    """Share of the voice's distance from an average voice that was subtracted."""
    scores: Scores
    """Shares per label of the model itself."""
    activation: Activation
    """Activation of these shares."""
    activation_change: Annotated[float, Limits(ge=-1, le=1)] | None
    """`activation` minus its median over the voice's earlier utterances; null before the fourth."""


class WithBaseline(TypedDict):
    """The baseline of the voice, if it is on."""

    baseline: NotRequired[Baseline]


class Packed(TypedDict):
    """An array of embeddings, on request by `analysis.embeddings`.

    `shape` is [dim] for the mean of an utterance, [frames, dim] for frames. `data` is base64 of
    little-endian float16, row by row.
    """

    dtype: Literal["float16"]
    shape: Annotated[list[Count], Stated(min_length=1, max_length=2)]
    data: str


class Frames(TypedDict):
    """Shares frame by frame, for the frames that no earlier score contained.

    `posteriors` has a row per frame and a column per label.
    """

    start_ms: Milliseconds
    hop_ms: Annotated[int, Limits(ge=1)]
    labels: list[Label]
    posteriors: list[list[Share]]
    embeddings: NotRequired[Packed]


class DetailFields(TypedDict, total=False):
    """Numbers and names in the message of an error or a log entry."""

    reason: FaultReason
    kind: str
    """Type of the file by its first bytes."""
    minutes: float
    """Maximum length of a recording in minutes."""
    mb: float
    """Size of the file in megabytes."""
    most_mb: float
    """Maximum size of a file in megabytes."""
    roles: list[Role]
    """Roles that are not analysed."""
    allowed: list[Role]
    """Roles that are analysed."""
    ahead: Annotated[int, Limits(ge=1)]
    """Recordings before this one."""
    track: Annotated[int, Limits(ge=1)]
    """Audio track that is analysed, counted from 1."""
    tracks: Annotated[int, Limits(ge=1)]
    """Audio tracks in the file."""
    holes: Annotated[int, Limits(ge=1)]
    """Holes in the time stamps of the file."""
    silence_s: Annotated[float, Limits(ge=0)]
    """Seconds of silence in place of the holes."""
    jumps: Annotated[int, Limits(ge=1)]
    """Jumps of the time stamps that were left out."""
    bytes: Annotated[int, Limits(ge=1)]
    """Bytes that were not decoded."""
    gain_db: float
    """Change of the level before the analysis."""
    codec: str
    container: str
    sample_rate: Annotated[int, Limits(ge=1)]
    channels: Annotated[int, Limits(ge=1)]
    duration_s: Annotated[float, Limits(ge=0)]
    """Measured length of the recording."""
    skipped: Annotated[list[Channel], Stated(min_length=1)]
    """Channels that are not analysed."""
    silent: Annotated[list[Channel], Stated(min_length=1)]
    """Channels without sound."""
    audible: Annotated[list[Channel], Stated(min_length=1)]
    """Channels with sound."""


Values = Annotated[DetailFields, Stated(min_length=1)]
"""Numbers and names in the message, so that clients can translate it."""
