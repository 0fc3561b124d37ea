"""Parsing of requests that send a recording over HTTP: the URL's query, the part `options`."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import BaseModel, Field, ValidationError

from stream.protocol.errors import ProtocolError
from stream.protocol.file_options import FileOptions, ShortFileOptions
from stream.protocol.parsing import Query, protocol_error

MAX_WAIT_S = 600
"""Longest time in seconds that a request may wait for a result."""

MAX_NAME = 255
"""Characters of the name of a recording."""

Wait = Annotated[float, Field(ge=0, le=MAX_WAIT_S)]


class FileQuery(ShortFileOptions):
    """Query of a request that sends a recording: its options, its name, the time to wait."""

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME)] | None = None
    wait: Wait = 0.0

    @property
    def options(self) -> FileOptions:
        return FileOptions.model_validate(self.given())

    def given(self) -> dict[str, Any]:
        """Return the options that the query has, without defaults."""
        names = self.model_fields_set & ShortFileOptions.model_fields.keys()
        return {name: getattr(self, name) for name in names}


class _WaitQuery(BaseModel):
    wait: Wait = 0.0


class _OptionsPart(BaseModel):
    options: FileOptions


def parse_file_query(query: Query) -> FileQuery:
    """Parse the query of a request that sends a recording. Raises `ProtocolError`."""
    _check_names(query, FileQuery)
    fields: dict[str, Any] = {key: values[-1] for key, values in query.items()}
    if "roles" in query:
        fields["roles"] = [role for role in ",".join(query["roles"]).split(",") if role]
    try:
        return FileQuery.model_validate(fields)
    except ValidationError as error:
        raise protocol_error(error) from None


def parse_wait(query: Query) -> float:
    """Return the seconds that a request for a recording waits. Raises `ProtocolError`."""
    _check_names(query, _WaitQuery)
    try:
        return _WaitQuery.model_validate({key: values[-1] for key, values in query.items()}).wait
    except ValidationError as error:
        raise protocol_error(error) from None


def _check_names(query: Query, model: type[BaseModel]) -> None:
    """Refuse unknown parameters, because a misspelt one would act as its default."""
    for key in query.keys() - model.model_fields.keys():
        known = ", ".join(sorted(model.model_fields))
        raise ProtocolError(
            "config_invalid", f"unknown query parameter {key!r}; known: {known}", param=key
        )


def parse_options(part: bytes, query: FileQuery) -> FileOptions:
    """Parse the part `options`, which overrides the options of the query.

    Raises `ProtocolError`.
    """
    try:
        fields = orjson.loads(part)
    except orjson.JSONDecodeError as error:
        raise ProtocolError(
            "invalid_message", f"options: must be a JSON object: {error}", param="options"
        ) from None
    if not isinstance(fields, dict):
        raise ProtocolError(
            "invalid_message",
            f"options: must be a JSON object, not {type(fields).__name__}",
            param="options",
        )
    try:
        return _OptionsPart.model_validate({"options": {**query.given(), **fields}}).options
    except ValidationError as error:
        raise protocol_error(error) from None
