"""Messages of a server that is none, or a broken one."""

from __future__ import annotations

import pytest

from client.remote.call import stream
from client.remote.errors import Refused
from client.remote.reader import malformed, read_event


def test_an_event_of_any_type_is_read() -> None:
    assert read_event(b'{"type": "emotion.colour", "x": 1}') == {"type": "emotion.colour", "x": 1}


@pytest.mark.parametrize(
    "message", ["", "hello", "[1]", "null", '{"seq": 1}', '{"type": 3}', b"\xff", "<html></html>"]
)
def test_other_messages_are_refused_with_a_remedy(message: str | bytes) -> None:
    """A wrong port, or a proxy's page: the caller got a KeyError out of an ExceptionGroup."""
    with pytest.raises(Refused, match="is it an Emotide server") as refused:
        read_event(message)
    assert (refused.value.code, refused.value.reason) == (4400, "invalid_message")


@pytest.mark.parametrize(
    "message",
    [
        '{"type": "error"}',
        '{"type": "audio.ack"}',
        '{"type": "audio.ack", "received_samples": "many"}',
        '{"type": "session.created", "limits": {"max_frame_ms": "long"}}',
        '{"type": "session.resumed"}',
    ],
)
async def test_a_call_refuses_events_that_lack_their_fields(message: str) -> None:
    call = stream("ws://127.0.0.1")
    with pytest.raises(Refused, match="malformed"):
        call._receive(message)


def test_the_error_names_the_type_and_is_short() -> None:
    assert "a malformed 'audio.ack'" in str(malformed({"type": "audio.ack"}))  # type: ignore[arg-type]  # on purpose
    assert len(str(malformed({"type": "x" * 5000}))) < 300  # type: ignore[arg-type]  # on purpose
