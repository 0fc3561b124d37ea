"""Messages about recordings on `/v1/files`."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from stream.fields import Limits, RuleName, Share, Stated
from stream.protocol.wire.codes import LogCode
from stream.protocol.wire.common import OfFile, Reply
from stream.protocol.wire.parts import Model, Values
from stream.protocol.wire.result import Result
from stream.protocol.wire.values import Milliseconds, Positive, Text, Time
from stream.terms import MAX_RULES, RESULT_FILES

Stage = Literal["upload", "decode", "analysis", "write"]
Level = Literal["info", "warning"]


class RecordingLimits(TypedDict):
    """Limits of recordings on this server."""

    max_bytes: Annotated[int, Limits(ge=1)]
    max_s: Positive
    """Maximum length in seconds of audio."""
    max_message_bytes: Annotated[int, Limits(ge=1024)]
    keep_s: Annotated[float, Limits(ge=0)]
    """Seconds for which results are kept."""
    idle_timeout_s: Positive
    """Maximum time between two recordings."""


class FilesReadyBody(TypedDict):
    """The first message of the connection, with the limits, the model and the formats."""

    type: Literal["files.ready"]
    limits: RecordingLimits
    model: Model
    denoise: bool
    """True if noise suppression is available."""
    formats: Annotated[list[str], Stated(min_length=1)]
    """Common formats; other formats that FFmpeg decodes are accepted as well."""
    rules: NotRequired[Annotated[list[RuleName], Stated(max_length=MAX_RULES)]]
    """Names of the server's rules of alerts, which the option `server_rules` tries."""


class FilesReady(Reply, FilesReadyBody): ...


class FileAcceptedBody(OfFile):
    """A recording that was accepted; its bytes can be sent."""

    type: Literal["file.accepted"]
    name: str


class FileAccepted(Reply, FileAcceptedBody): ...


class Progress(TypedDict):
    """Progress of a recording: its stage, and the share of the stage that is done."""

    stage: Stage
    share: Share
    audio_ms: NotRequired[Milliseconds]
    eta_s: NotRequired[Annotated[float, Limits(ge=0)]]
    """Estimated seconds until the end of this stage."""


class FileProgressBody(OfFile, Progress):
    """Progress of a recording."""

    type: Literal["file.progress"]


class FileProgress(Reply, FileProgressBody): ...


class LogFields(TypedDict):
    """A line of the log of the analysis, for people."""

    level: Level
    message: Text
    code: LogCode
    values: NotRequired[Values]


class FileLogBody(OfFile, LogFields):
    """A line of the log of the analysis, for people."""

    type: Literal["file.log"]


class FileLog(Reply, FileLogBody): ...


class ResultFile(TypedDict):
    """A file of the result, and the path of its download."""

    name: Annotated[str, Stated(among=RESULT_FILES)]
    bytes: Annotated[int, Limits(ge=1)]
    url: Annotated[str, Limits(pattern=r"^/v1/results/[A-Za-z0-9_-]{32}/[a-z_.]+$")]


class FileDoneBody(OfFile):
    """The result without its frames, and its files."""

    type: Literal["file.done"]
    result: Result
    files: Annotated[list[ResultFile], Stated(min_length=1)]
    expires: Time


class FileDone(Reply, FileDoneBody): ...


class FileCancelledBody(OfFile):
    """A recording that was cancelled and removed."""

    type: Literal["file.cancelled"]


class FileCancelled(Reply, FileCancelledBody): ...
