"""Genesys AudioHook as a list of messages and commands: no sockets, no event loop."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from stream.config import TelephonyConfig
from stream.ingest.audiohook import AudioHook
from stream.ingest.audiohook_messages import NULL, choose
from stream.ingest.dialect import (
    Annotate,
    Audio,
    Command,
    End,
    Pause,
    Probe,
    Reply,
    Request,
    Skip,
    Start,
    Unpause,
)
from stream.protocol.errors import ProtocolError
from stream.protocol.events import encode
from tests.support.captured import Captured, replay

SESSION = "30b0e395-84d3-4570-ac13-9a62d8f514c0"
ORG = "d7934305-0972-4844-938e-9060eef73d05"
CALL = "e160e428-53e2-487c-977d-96989bf5c99d"
STEREO = {
    "type": "audio",
    "format": "PCMU",
    "channels": ["external", "internal"],
    "rate": 8000,
}
EXTERNAL = {**STEREO, "channels": ["external"]}
INTERNAL = {**STEREO, "channels": ["internal"]}
OPEN: dict[str, Any] = {
    "organizationId": ORG,
    "conversationId": CALL,
    "participant": {"id": CALL, "ani": "+4930123", "aniName": "Ann", "dnis": "+4989456"},
    "media": [STEREO, EXTERNAL, INTERNAL],
}
PROBE = {
    **OPEN,
    "conversationId": NULL,
    "participant": {"id": NULL, "ani": "", "aniName": "", "dnis": ""},
}


class Client:
    """A client that numbers its messages, and checks the numbers of the replies."""

    def __init__(self, **config: Any) -> None:
        headers = {"audiohook-session-id": SESSION, "audiohook-organization-id": ORG}
        self.dialect = AudioHook(
            Request(headers=headers), TelephonyConfig.model_validate({"dialects": [], **config})
        )
        self.seq = 0
        self.replies = 0

    def send(self, kind: str, parameters: object = None, **fields: object) -> list[Command]:
        self.seq += 1
        message = {
            "version": "2",
            "id": SESSION,
            "type": kind,
            "seq": self.seq,
            "serverseq": self.replies,
            "position": "PT0S",
            "parameters": {} if parameters is None else parameters,
            **fields,
        }
        commands = list(self.dialect.receive(orjson.dumps(message).decode()))
        self.replies += sum(isinstance(command, Reply) for command in commands)
        return commands

    def opened(self) -> Client:
        self.send("open", OPEN)
        return self

    def reply(self, command: Command) -> dict[str, Any]:
        assert isinstance(command, Reply)
        message: dict[str, Any] = orjson.loads(command.message)
        return message

    def fail(self, code: str, message: str = "why", fatal: bool = True) -> list[dict[str, Any]]:
        body: Any = {"type": "error", "code": code, "message": message, "fatal": fatal}
        event = encode(body, 0, "s", "s", 0.0)
        found = [orjson.loads(message) for message in self.dialect.send(event)]
        self.replies += len(found)
        return found


def test_open_is_answered_before_the_session_starts() -> None:
    client = Client()
    opened, start = client.send("open", OPEN)
    assert client.reply(opened) == {
        "version": "2",
        "id": SESSION,
        "type": "opened",
        "seq": 1,
        "clientseq": 1,
        "parameters": {"media": [STEREO], "startPaused": False},
    }
    assert isinstance(start, Start)
    config = start.config
    assert config.stream_id == SESSION
    assert config.audio.roles == ("customer", "agent")
    assert (config.format.encoding, config.format.sample_rate, config.format.channels) == (
        "mulaw",
        8000,
        2,
    )
    assert config.attrs == {
        "organization_id": ORG,
        "conversation_id": CALL,
        "participant_id": CALL,
        "dnis": "+4989456",
    }
    assert not config.consent.disclosed


def test_the_callers_number_is_kept_only_if_the_operator_wants_it() -> None:
    _, start = Client(audiohook_caller_id=True).send("open", OPEN)
    assert isinstance(start, Start)
    assert (start.config.attrs["ani"], start.config.attrs["ani_name"]) == ("+4930123", "Ann")


def test_custom_configuration_gives_tags_attributes_and_the_disclosure() -> None:
    custom = {"tags": ["queue:billing"], "attrs": {"team": 7}, "disclosed": True, "other": 1}
    _, start = Client().send("open", {**OPEN, "customConfig": custom, "language": "de-DE"})
    assert isinstance(start, Start)
    assert start.config.tags == ("queue:billing",)
    assert start.config.attrs["team"] == 7
    assert start.config.attrs["language"] == "de-DE"
    assert start.config.consent.disclosed


@pytest.mark.parametrize(
    ("given", "expected"), [({}, True), ({"disclosed": False}, False), ({"disclosed": True}, True)]
)
def test_a_call_may_contradict_the_operators_disclosure(
    given: dict[str, Any], expected: bool
) -> None:
    _, start = Client(disclosed=True).send("open", {**OPEN, "customConfig": given})
    assert isinstance(start, Start)
    assert start.config.consent.disclosed is expected


def test_languages_are_listed_for_a_client_that_asks() -> None:
    asks = {**OPEN, "supportedLanguages": True, "language": "en-US"}
    opened, _ = Client().send("open", asks)
    assert Client().reply(opened)["parameters"]["supportedLanguages"] == ["en-US"]


L16 = {**EXTERNAL, "format": "L16"}
OTHER = {**STEREO, "format": "OPUS"}


@pytest.mark.parametrize(
    ("offered", "channels", "expected"),
    [
        ([STEREO, EXTERNAL, INTERNAL], "both", STEREO),
        ([STEREO, EXTERNAL, INTERNAL], "external", EXTERNAL),
        ([EXTERNAL, INTERNAL], "both", EXTERNAL),
        ([INTERNAL, EXTERNAL], "both", EXTERNAL),
        ([INTERNAL], "external", INTERNAL),
        ([STEREO], "external", STEREO),
        ([OTHER, L16], "both", L16),
        ([EXTERNAL, L16], "both", EXTERNAL),
        ([OTHER], "both", None),
        ([{**STEREO, "rate": 16000}], "both", None),
        ([{**STEREO, "channels": ["external", "external"]}], "both", None),
        ([{**STEREO, "channels": []}], "both", None),
        ([{}], "both", None),
        ([], "both", None),
    ],
)
def test_one_offered_medium_is_selected(
    offered: list[dict[str, Any]], channels: str, expected: dict[str, Any] | None
) -> None:
    assert choose(tuple(offered), channels) == expected


def test_channels_keep_the_order_in_which_they_were_offered() -> None:
    turned = {**STEREO, "channels": ["internal", "external"]}
    opened, start = Client().send("open", {**OPEN, "media": [turned]})
    assert Client().reply(opened)["parameters"]["media"] == [turned]
    assert isinstance(start, Start)
    assert start.config.audio.roles == ("agent", "customer")


def test_a_probe_starts_no_session() -> None:
    """Genesys probes the address when the integration is activated, with an empty frame."""
    client = Client()
    opened, probe = client.send("open", PROBE)
    assert client.reply(opened)["type"] == "opened"
    assert probe == Probe()
    assert list(client.dialect.receive(b"")) == []
    assert list(client.dialect.receive(b"\xff" * 160)) == []
    (pong,) = client.send("ping")
    assert client.reply(pong)["type"] == "pong"
    assert client.send("paused") == []
    (updated,) = client.send("update", {"language": "de-DE"})
    assert client.reply(updated)["type"] == "updated"
    closed, end = client.send("close", {"reason": "end"})
    assert client.reply(closed)["type"] == "closed"
    assert end == End()


def test_pings_are_answered_with_their_number() -> None:
    client = Client().opened()
    for number in (2, 3):
        (pong,) = client.send("ping", {"rtt": "PT0.05S"} if number == 3 else {})
        assert client.reply(pong) == {
            "version": "2",
            "id": SESSION,
            "type": "pong",
            "seq": number,
            "clientseq": number,
            "parameters": {},
        }


@pytest.mark.parametrize("size", [1, 3, 160, 3200, 48_000])
def test_frames_have_any_length(size: int) -> None:
    assert list(Client().opened().dialect.receive(b"\xff" * size)) == [Audio(b"\xff" * size)]


def test_an_empty_frame_is_no_audio() -> None:
    assert list(Client().opened().dialect.receive(b"")) == []


def test_pauses_move_the_clock_by_what_was_discarded() -> None:
    client = Client().opened()
    assert client.send("paused") == [Pause()]
    hole = {"start": "PT1S", "discarded": "PT2.5S"}
    assert client.send("resumed", hole) == [Skip(20_000), Unpause()]
    skip, note = client.send("discarded", {"start": "PT4S", "discarded": "PT.25S"})
    assert skip == Skip(2_000)
    assert isinstance(note, Annotate)
    assert note.note.mark == "discarded 0.25 s"


def test_an_update_is_answered_and_noted() -> None:
    client = Client().opened()
    updated, note = client.send("update", {"language": "es-ES"})
    assert client.reply(updated)["type"] == "updated"
    assert isinstance(note, Annotate)
    assert note.note.attrs == {"language": "es-ES"}


def test_an_error_of_the_client_is_noted_and_the_session_goes_on() -> None:
    client = Client().opened()
    parameters = {"code": 408, "message": "x" * 500, "retryAfter": "PT1S"}
    (note,) = client.send("error", parameters)
    assert isinstance(note, Annotate)
    assert note.note.attrs["audiohook_error"] == "408 " + "x" * 124
    assert list(client.dialect.receive(b"\xff")) == [Audio(b"\xff")]


def test_close_is_answered_at_once_and_once() -> None:
    client = Client().opened()
    closed, end = client.send("close", {"reason": "end"})
    assert client.reply(closed)["type"] == "closed"
    assert end == End()
    assert list(client.dialect.receive(b"\xff")) == []
    assert client.send("close", {"reason": "end"}) == []
    assert client.fail("draining") == []


def test_the_reason_of_a_close_in_distress_is_noted() -> None:
    closed, note, end = Client().opened().send("close", {"reason": "error"})
    assert isinstance(closed, Reply)
    assert isinstance(note, Annotate)
    assert note.note.attrs == {"audiohook_close": "error"}
    assert end == End()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("draining", "completed"),
        ("session_expired", "completed"),
        ("forbidden", "unauthorized"),
        ("stream_conflict", "error"),
        ("internal_error", "error"),
    ],
)
def test_fatal_errors_ask_the_client_to_close(code: str, reason: str) -> None:
    client = Client().opened()
    (disconnect,) = client.fail(code)
    assert disconnect["type"] == "disconnect"
    assert disconnect["parameters"] == {"reason": reason, "info": "why"}
    assert disconnect["seq"] == 2
    assert client.fail(code) == []
    assert list(client.dialect.receive(b"\xff")) == []
    closed, *_ = client.send("close", {"reason": "disconnect"})
    assert client.reply(closed)["seq"] == 3


def test_numbers_do_not_matter_once_the_end_was_announced() -> None:
    """The message that was refused is not counted; its sender counts it and must get `closed`."""
    client = Client().opened()
    with pytest.raises(ProtocolError, match="seq is 9 and should be 2"):
        client.send("ping", seq=9)
    client.fail("invalid_message")
    closed, *_ = client.send("close", {"reason": "disconnect"}, seq=10)
    assert client.reply(closed)["clientseq"] == 10


def test_errors_that_are_not_fatal_and_events_are_not_sent() -> None:
    client = Client().opened()
    assert client.fail("invalid_message", fatal=False) == []
    body: Any = {"type": "speech.start"}
    assert list(client.dialect.send(encode(body, 0, "s", "s", 0.0))) == []


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"seq": 0}, "seq is 0 and should be 2"),
        ({"seq": 1}, "seq is 1 and should be 2"),
        ({"seq": 3}, "seq is 3 and should be 2"),
        ({"seq": -1}, "seq: Input should be greater"),
        ({"seq": "x"}, "seq: Input should be a valid integer"),
        ({"serverseq": 2}, "serverseq is 2, but the last message sent is 1"),
        ({"version": "3"}, "version: Input should be '2'"),
        ({"id": CALL}, "id is not the Audiohook-Session-Id"),
        ({"id": "x"}, "id: String should match"),
        ({"parameters": 5}, "parameters: Input should be a valid dictionary"),
        ({"parameters": []}, "parameters: Input should be a valid dictionary"),
        ({"type": 5}, "type: Input should be a valid string"),
    ],
)
def test_a_bad_envelope_ends_the_session(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ProtocolError, match=why) as refused:
        Client().opened().send("ping", **fields)
    assert refused.value.fatal


@pytest.mark.parametrize("text", ["", "x", "[]", "5", '"open"', "null", "{}", "[" * 60_000])
def test_text_that_is_no_message_ends_the_session(text: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        list(Client().opened().dialect.receive(text))
    assert refused.value.fatal
    assert refused.value.code == "invalid_message"


def test_text_that_is_too_long_ends_the_session() -> None:
    with pytest.raises(ProtocolError, match="at most 65535 characters"):
        list(Client().opened().dialect.receive("x" * 65_536))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"organizationId": CALL}, "organizationId is not"),
        ({"organizationId": 5}, "open: organizationId"),
        ({"conversationId": "x"}, "open: conversationId"),
        ({"participant": {}}, "open: participant.id"),
        ({"media": None}, "open: media"),
        ({"media": [5]}, "open: media.0"),
        ({"media": [STEREO] * 65}, "open: media"),
        ({"media": [OTHER]}, "no media offered fits"),
        ({"media": []}, "no media offered fits"),
        ({"customConfig": {"tags": ["a b"]}}, "customConfig.tags"),
        ({"customConfig": {"tags": ["a"] * 9}}, "customConfig.tags"),
        ({"customConfig": {"tags": "a"}}, "open: customConfig.tags"),
        ({"customConfig": {"attrs": {"a": "x" * 9_000}}}, "customConfig.attrs"),
        ({"customConfig": {"disclosed": "maybe"}}, "open: customConfig.disclosed"),
    ],
)
def test_a_bad_open_is_refused_by_field(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ProtocolError, match=why) as refused:
        Client().send("open", {**OPEN, **change})
    assert refused.value.fatal


def test_a_second_open_ends_the_session() -> None:
    with pytest.raises(ProtocolError, match="open came twice"):
        Client().opened().send("open", OPEN)


def test_audio_before_opened_ends_the_session() -> None:
    with pytest.raises(ProtocolError, match="audio came before opened") as refused:
        list(Client().dialect.receive(b"\xff" * 160))
    assert refused.value.fatal


@pytest.mark.parametrize(
    ("kind", "parameters", "why"),
    [
        ("resumed", {"start": "PT1S"}, "resumed: discarded"),
        ("resumed", {"start": "PT1S", "discarded": 5}, 'must be a duration like "PT1.5S"'),
        ("discarded", {"start": "PT1S", "discarded": "PT-1S"}, "discarded: discarded"),
        ("discarded", {"start": "PT1S", "discarded": "PTnanS"}, "discarded: discarded"),
        ("discarded", {"start": "PT1S", "discarded": "PT1e9S"}, "discarded: discarded"),
        ("update", {"language": 5}, "update: language"),
        ("error", {}, "error: code"),
        ("close", {"reason": 5}, "close: reason"),
        ("greeting", {}, "unknown message type 'greeting'"),
    ],
)
def test_a_bad_message_of_an_open_session_is_a_mistake_only(
    kind: str, parameters: dict[str, Any], why: str
) -> None:
    """A call does not end because one message of it is odd; the numbers go on."""
    client = Client().opened()
    with pytest.raises(ProtocolError, match=why) as refused:
        client.send(kind, parameters)
    assert not refused.value.fatal
    (pong,) = client.send("ping")
    assert client.reply(pong)["clientseq"] == 3


def test_a_session_without_headers_is_named_by_its_open() -> None:
    """A server without keys needs no signature, and a simple client sends no headers."""
    dialect = AudioHook(Request(), TelephonyConfig())
    client = Client()
    client.dialect = dialect
    _, start = client.send("open", OPEN)
    assert isinstance(start, Start)
    assert start.config.stream_id == SESSION


@pytest.mark.parametrize(("name", "channels"), [("audiohook-stereo", 2), ("audiohook-mono", 1)])
def test_a_call_of_the_real_client_is_understood(name: str, channels: int) -> None:
    """Captured from Genesys' reference client: pings without and with rtt, 200 ms frames, 1005."""
    call = Captured.load(name)
    found = replay(lambda clock: AudioHook(Request(), TelephonyConfig()), call)
    (start,) = found.of(Start)
    assert isinstance(start, Start)
    assert start.config.format.channels == channels
    assert start.config.tags == (("queue:billing",) if channels == 2 else ())
    assert found.samples(channels) == 12_800
    replies = [
        orjson.loads(reply.message) for _, reply in found.commands if isinstance(reply, Reply)
    ]
    assert [reply["type"] for reply in replies] == ["opened", "pong", "pong", "closed"]
    assert [reply["seq"] for reply in replies] == [1, 2, 3, 4]
    assert found.commands[-1][1] == End()
    assert call.end == "close 1005"


def test_a_probe_of_the_real_client_is_understood() -> None:
    call = Captured.load("audiohook-probe")
    found = replay(lambda clock: AudioHook(Request(), TelephonyConfig()), call)
    kinds = [type(command) for _, command in found.commands]
    assert kinds == [Reply, Probe, Reply, End]
