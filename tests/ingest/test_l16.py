"""Calls of FreeSWITCH, jambonz, Vonage and Infobip, as their documentation shows them."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import orjson
import pytest

from stream.admission import DEFAULT_ROLES
from stream.ingest.calls import CallDefaults
from stream.ingest.dialect import Annotate, Audio, Command, Request, Start
from stream.ingest.l16 import L16
from stream.protocol.errors import ProtocolError
from tests.support.clients import connect, subscriber
from tests.support.running import running_server
from tests.support.utterances import encode, speech

JAMBONZ = {
    "callSid": "3aa5d2e6-8d0c-4e3b-9a52-5f2d8c1f7b60",
    "direction": "inbound",
    "from": "+15083728299",
    "to": "+15085710838",
    "callerName": "Jane",
    "callId": "78d05e3a-1b5c-123c-3a8d-0a2b3c4d5e6f",
    "sampleRate": 16000,
    "mixType": "stereo",
    "metadata": {"queue": "billing", "tags": "vip"},
}
VONAGE = {
    "event": "websocket:connected",
    "content-type": "audio/l16;rate=16000",
    "queue": "billing",
    "uuid": "aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
}
INFOBIP = {"event": "websocket:connected", "content-type": "audio/l16;rate=24000"}


def dialect(query: str = "") -> L16:
    return L16(Request("/v1/l16", parse_qs(query, keep_blank_values=True)), CallDefaults())


def run(*messages: object, query: str = "") -> list[Command]:
    found = dialect(query)
    commands: list[Command] = []
    for message in messages:
        text = message if isinstance(message, str | bytes) else orjson.dumps(message).decode()
        commands += found.receive(text)
    return commands


def started(*messages: object, query: str = "") -> tuple[Start, dict[str, Any]]:
    start, *rest = run(*messages, query=query)
    assert isinstance(start, Start)
    notes = [c.note.attrs for c in rest if isinstance(c, Annotate)]
    return start, notes[0] if notes else {}


@pytest.mark.parametrize(
    ("first", "query", "stream_id", "rate", "roles"),
    [
        (JAMBONZ, "", JAMBONZ["callSid"], 16_000, ("customer", "agent")),
        ({**JAMBONZ, "mixType": "mixed"}, "", JAMBONZ["callSid"], 16_000, ("speaker",)),
        ({**JAMBONZ, "mixType": "mono"}, "", JAMBONZ["callSid"], 16_000, ("customer",)),
        (VONAGE, "", VONAGE["uuid"], 16_000, ("customer",)),
        (INFOBIP, "", None, 24_000, ("customer",)),
        ({"uuid": "u1", "rate": "16k", "channels": 2}, "", "u1", 16_000, ("customer", "agent")),
        ("caller is angry", "sample_rate=16000", None, 16_000, ("customer",)),
        (b"\0\0", "", None, 8_000, ("customer",)),
        (b"\0\0", "sample_rate=16000&channels=2&stream_id=s", "s", 16_000, ("customer", "agent")),
        (
            JAMBONZ,
            "sample_rate=8000&channels=1&role=speaker",
            JAMBONZ["callSid"],
            8_000,
            ("speaker",),
        ),
    ],
    ids=[
        *("jambonz stereo", "jambonz mixed", "jambonz mono", "Vonage", "Infobip"),
        *("mod_audio_fork", "mod_audio_stream", "no description", "query", "query first"),
    ],
)
def test_the_first_message_and_the_query_describe_the_call(
    first: object, query: str, stream_id: str | None, rate: int, roles: tuple[str, ...]
) -> None:
    start, _ = started(first, query=query)
    config = start.config
    assert (config.stream_id, config.audio.sample_rate) == (stream_id, rate)
    # Two channels without roles are customer and agent, for every dialect.
    named = config.audio.roles or DEFAULT_ROLES[config.audio.channels]
    assert (named, config.audio.channels) == (roles, len(roles))
    assert start.renamed


def test_attributes_are_those_of_the_operator() -> None:
    """Telephone numbers came with jambonz' description, and went to every subscriber."""
    start, attrs = started(JAMBONZ, query="node=fs1")
    assert start.config.tags == ("vip",)
    assert attrs["queue"] == "billing"
    assert attrs["node"] == "fs1"
    assert attrs["call_id"] == JAMBONZ["callSid"]
    assert "+1508" not in str(attrs)
    assert started(VONAGE)[1] == {"queue": "billing", "call_id": VONAGE["uuid"]}
    assert started("caller is angry")[1] == {"metadata": "caller is angry"}


def test_audio_follows_and_empty_messages_are_tolerated() -> None:
    assert run(VONAGE, b"", bytes(3), bytes(96_000))[-2:] == [Audio(bytes(3)), Audio(bytes(96_000))]


@pytest.mark.parametrize(
    "message",
    [
        {"event": "websocket:dtmf", "digit": "5", "duration": 260},
        {"event": "dtmf", "dtmf": "5", "duration": "1600"},
    ],
    ids=["Vonage", "jambonz"],
)
def test_keys(message: dict[str, Any]) -> None:
    note = run(VONAGE, message)[-1]
    assert isinstance(note, Annotate)
    assert note.note.dtmf == "5"


def test_later_texts_are_attributes_or_nothing() -> None:
    note = run(VONAGE, {"agent": "A7"})[-1]
    assert isinstance(note, Annotate)
    assert note.note.attrs == {"agent": "A7"}
    for text in ("bye", '{"event":"websocket:cleared"}', '{"type":"x"}', "[]", "{}", ""):
        assert len(run(VONAGE, text)) == len(run(VONAGE)), text


@pytest.mark.parametrize(
    ("first", "query", "text"),
    [
        (b"\0", "sample_rate=fast", "sample_rate: must be a number from 8000"),
        (b"\0", "sample_rate=4000", "sample_rate: must be"),
        (b"\0", "channels=3", "channels: must be a number from 1 to 2"),
        (b"\0", "encoding=opus", "encoding: only"),
        ({"event": "websocket:connected", "content-type": "audio/opus;rate=16000"}, "", "encoding"),
        ({"event": "MEDIA_START"}, "", "use /v1/asterisk"),
        ({**JAMBONZ, "sampleRate": None}, "", "sample_rate: must be"),
    ],
)
def test_a_wrong_description_is_refused(first: object, query: str, text: str) -> None:
    with pytest.raises(ProtocolError, match=text) as refused:
        run(first, query=query)
    assert refused.value.fatal


@pytest.mark.parametrize("message", ["x" * 70_000, {f"a{n}": 1 for n in range(70)}])
def test_a_mistake_does_not_end_the_call(message: object) -> None:
    with pytest.raises(ProtocolError) as refused:
        run(VONAGE, message)
    assert not refused.value.fatal


@pytest.mark.parametrize("protocol", ["audio.drachtio.org", "audio.jambonz.org", None])
async def test_a_stereo_call_on_a_real_server(protocol: str | None) -> None:
    """FreeSWITCH and jambonz hang up unless their subprotocol is selected."""
    stereo = encode(speech(), "linear16", 8_000, channels=2)
    with running_server() as server:
        async with subscriber(server) as watching:
            offered = [protocol] if protocol else None
            query = {"sample_rate": 8_000}
            async with connect(server, "/v1/l16", query, subprotocols=offered) as peer:
                assert peer.socket.subprotocol == protocol
                await peer.text(orjson.dumps(JAMBONZ).decode())
                await peer.audio(stereo, chunk=640)
                await peer.socket.close()
            closed = await watching.until("session.closed")
        assert peer.events == []
    assert (closed["stream_id"], closed["reason"]) == (JAMBONZ["callSid"], "client_closed")
    assert closed["totals"]["audio_ms"] == pytest.approx(len(stereo) / 32, abs=2)
    assert {e["role"] for e in watching.of("emotion.score")} == {"customer"}
