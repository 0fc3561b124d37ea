"""Warnings and errors."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from stream.fields import Limits
from stream.protocol.wire.codes import ErrorCode, WarningCode
from stream.protocol.wire.common import Reply, Stamped
from stream.protocol.wire.parts import Values
from stream.protocol.wire.values import FileId, Text


class WarningBody(TypedDict):
    """A possible problem; nothing was refused."""

    type: Literal["warning"]
    code: WarningCode
    message: Text


class Warning(Stamped, WarningBody): ...


class ErrorBody(TypedDict):
    """A refused message."""

    type: Literal["error"]
    code: ErrorCode
    message: Text
    """The problem and the remedy, for people."""
    param: NotRequired[str]
    """The field or key that is wrong."""
    retryable: bool
    """True if the same request may succeed later."""
    fatal: bool
    """True if the connection ends."""
    retry_after_s: NotRequired[Annotated[float, Limits(ge=0)]]
    values: NotRequired[Values]


class Error(Stamped, ErrorBody): ...


class Refusal(Reply, ErrorBody):
    """A refused message of a subscriber."""


class FileErrorBody(ErrorBody):
    """A refused message, or a recording without a result."""

    file_id: NotRequired[FileId]


class FileError(Reply, FileErrorBody): ...
