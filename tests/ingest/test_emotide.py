"""The dialect `emotide.v1` as a list of messages and commands: no sockets, no event loop."""

from __future__ import annotations

from urllib.parse import parse_qs

import orjson
import pytest

from stream.ingest.dialect import (
    Annotate,
    Audio,
    Command,
    End,
    Flush,
    Offer,
    Pause,
    Request,
    Resume,
    Start,
    Unpause,
)
from stream.ingest.emotide import Emotide
from stream.protocol.errors import ProtocolError
from stream.protocol.events import encode

UPDATE = '{"type": "session.update", "session": {"audio": {"sample_rate": 8000}}}'


def dialect(query: str = "") -> Emotide:
    return Emotide(Request(query=parse_qs(query, keep_blank_values=True)))


def configured(query: str = "sample_rate=8000") -> Emotide:
    native = dialect(query)
    native.connected()
    return native


def send(native: Emotide, kind: str, **fields: object) -> list[Command]:
    return list(native.receive(orjson.dumps({"type": kind, **fields}).decode()))


def test_a_url_with_a_rate_starts_the_session() -> None:
    (start,) = dialect("sample_rate=8000&encoding=mulaw&stream_id=a").connected()
    assert isinstance(start, Start)
    assert (start.config.stream_id, start.config.format.encoding) == ("a", "mulaw")
    assert (start.takeover, start.event_type) == (False, "session.created")


def test_takeover_comes_from_the_url() -> None:
    for query in ("sample_rate=8000&takeover=true", "takeover=true"):
        native = dialect(query)
        (command,) = native.connected()
        if isinstance(command, Offer):
            (command,) = native.receive(UPDATE)
        assert isinstance(command, Start)
        assert command.takeover


def test_without_a_rate_the_defaults_are_offered_and_the_update_starts() -> None:
    native = dialect("stream_id=a&encoding=mulaw")
    assert list(native.connected()) == [Offer()]
    (start,) = native.receive(UPDATE)
    assert isinstance(start, Start)
    assert start.event_type == "session.updated"
    assert start.config.stream_id == "a", "the update builds on the URL"
    assert (start.config.format.encoding, start.config.format.sample_rate) == ("mulaw", 8000)


@pytest.mark.parametrize(
    ("query", "last"),
    [("resume=t&last_seq=17", 17), ("resume=t", -1), ("resume=t&last_seq=-1", -1)],
)
def test_a_token_resumes(query: str, last: int) -> None:
    native = dialect(query)
    assert list(native.connected()) == [Resume("t", last)]
    assert list(native.receive(b"\0")) == [Audio(b"\0")], "audio may follow at once"


@pytest.mark.parametrize("last", ["x", "", "1.5", "٣", "9" * 16, "+1"])
def test_a_last_seq_that_is_no_number_is_refused(last: str) -> None:
    with pytest.raises(ProtocolError, match="last_seq") as refused:
        dialect(f"resume=t&last_seq={last}").connected()
    assert (refused.value.code, refused.value.fatal) == ("config_invalid", True)


def test_audio_before_its_format_is_refused_with_the_remedy() -> None:
    native = dialect()
    native.connected()
    with pytest.raises(ProtocolError, match=r"session\.update first") as refused:
        native.receive(bytes(2))
    assert refused.value.param == "session.audio.sample_rate"


@pytest.mark.parametrize(
    ("kind", "fields", "command"),
    [
        ("input.flush", {}, Flush()),
        ("input.pause", {}, Pause()),
        ("input.resume", {}, Unpause(0)),
        ("input.resume", {"skipped_ms": 40}, Unpause(40)),
        ("session.annotate", {"objected": True}, End("objected")),
        ("session.close", {}, End("completed")),
    ],
)
def test_a_control_message_is_a_command(
    kind: str, fields: dict[str, object], command: Command
) -> None:
    assert send(configured(), kind, **fields) == [command]


def test_an_annotation_is_kept() -> None:
    (command,) = send(configured(), "session.annotate", mark="m")
    assert isinstance(command, Annotate)
    assert command.note.mark == "m"


def test_a_keepalive_needs_nothing() -> None:
    assert send(configured(), "keepalive") == []


def test_a_second_configuration_is_refused_and_not_fatal() -> None:
    with pytest.raises(ProtocolError, match="can only come first") as refused:
        configured().receive(UPDATE)
    assert not refused.value.fatal
    native = dialect()
    native.connected()
    native.receive(UPDATE)
    with pytest.raises(ProtocolError, match="can only come first"):
        native.receive(UPDATE)


def test_before_its_session_a_close_ends_the_connection_and_others_wait() -> None:
    native = dialect()
    native.connected()
    assert send(native, "keepalive") == []
    assert send(native, "input.flush") == []
    with pytest.raises(ProtocolError, match="closed before a session") as ended:
        send(native, "session.close")
    assert ended.value.code == "completed"


def test_events_are_sent_as_they_are_encoded() -> None:
    event = encode({"type": "warning", "message": "x"}, 3, "s", "call", 0.0)
    (message,) = configured().send(event)
    assert isinstance(message, str)
    assert orjson.loads(message) == orjson.loads(event.data)


def test_close_codes_are_those_of_the_protocol() -> None:
    native = configured()
    assert native.close_code("completed") == 1000
    assert native.close_code("idle_timeout") == 4408
    assert (native.name, native.resumes) == ("native", True)


def test_an_update_overrides_the_url_only_where_it_says_something() -> None:
    """Defaults of the update replaced what the URL had asked for, or the update was left out."""
    native = dialect("stream_id=a&encoding=mulaw&interval_ms=500&tag=x")
    native.connected()
    (start,) = native.receive(
        '{"type": "session.update", "session": {"stream_id": "b", "audio": {"sample_rate": 8000}}}'
    )
    assert isinstance(start, Start)
    config = start.config
    assert (config.stream_id, config.audio.sample_rate) == ("b", 8000)
    assert (config.audio.encoding, config.analysis.interval_ms) == ("mulaw", 500)
    assert config.tags == ("x",)
