"""Parsing of messages in tests, and the form of every refusal."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

import pytest

from stream.ingest.aliases import translate
from stream.protocol import parsing
from stream.protocol.errors import CLOSE_CODES, ProtocolError
from stream.protocol.messages import (
    ProducerMessage,
    SessionConfig,
)
from stream.protocol.parsing import parse_query

LONGEST = 300
"""Maximum length of an error message, which is part of a log line and of a close reason."""


def parse_producer(text: str) -> ProducerMessage:
    """Parse a message as the dialect `emotide.v1` does, with the control words of other clients."""
    return parsing.parse_producer(text, translate)


def refused(parse: Any, text: Any) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        parse(text)
    return caught.value


def parsed_or_refused(parse: Any, text: Any) -> Any:
    """Return the parsed message, or the error."""
    try:
        return parse(text)
    except ProtocolError as error:
        return error


def update(session: Any) -> str:
    return json.dumps({"type": "session.update", "session": session})


def query(text: str) -> SessionConfig | None:
    return parse_query(parse_qs(text, keep_blank_values=True))


def assert_well_formed(error: ProtocolError) -> None:
    assert len(error.message) <= LONGEST
    assert "\n" not in error.message
    assert "Traceback" not in error.message
    assert "pydantic" not in error.message.lower()
    if error.param is not None:
        assert error.param in error.message or error.param == "type"
    assert error.close_code in CLOSE_CODES.values()
    body = error.body()
    assert body["type"] == "error"
    assert body["code"] == error.code
    assert body["fatal"] is error.fatal
    assert ("param" in body) == (error.param is not None)
    json.dumps(body)
