"""Asterisk's WebSocket channel as a list of messages. Then one real server."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from stream.ingest.asterisk import Asterisk
from stream.ingest.calls import CallDefaults
from stream.ingest.dialect import Annotate, Audio, Command, Request, Silence, Start
from stream.protocol.errors import ProtocolError
from stream.protocol.events import encode as encode_event
from tests.support.captured import Captured, Clock, replay
from tests.support.clients import Client, connect, subscriber
from tests.support.running import running_server
from tests.support.utterances import encode, speech

JSON = {
    "event": "MEDIA_START",
    "connection_id": "emotide",
    "channel": "WebSocket/emotide/0x7f2a80005270",
    "channel_id": "1795846173.7",
    "format": "ulaw",
    "optimal_frame_size": 160,
    "ptime": 20,
    "channel_variables": {"DIALEDPEERNUMBER": "emotide/c(ulaw)"},
}
PLAIN = (
    "MEDIA_START connection_id:emotide channel:WebSocket/emotide/0x7f2a80005270 "
    "channel_id:1795846173.7 format:ulaw optimal_frame_size:160 ptime:20"
)


def media_start(**fields: object) -> str:
    return orjson.dumps({**JSON, **fields}).decode()


def dialect(query: str = "", clock: Clock | None = None, **defaults: object) -> Asterisk:
    request = Request("/v1/asterisk", parse_qs(query, keep_blank_values=True))
    return Asterisk(request, CallDefaults(**defaults), clock or Clock())  # type: ignore[arg-type]


def commands(found: Asterisk, message: str | bytes) -> list[Command]:
    return list(found.receive(message))


def started(found: Asterisk, message: str = "") -> Start:
    command, _ = commands(found, message or media_start())
    assert isinstance(command, Start)
    return command


@pytest.mark.parametrize("message", [media_start(), PLAIN], ids=["json", "plain-text"])
def test_both_control_formats_start_the_call(message: str) -> None:
    config = started(dialect(), message).config
    assert config.stream_id == "1795846173.7"
    assert (config.format.encoding, config.format.sample_rate) == ("mulaw", 8_000)
    assert config.audio.roles == ("customer",)


def test_calls_of_one_client_are_told_apart() -> None:
    """connection_id is the client's name in the configuration: all calls had one stream id."""
    one = started(dialect(), media_start(channel_id="1795846173.7"))
    other = started(dialect(), media_start(channel_id="1795846173.9"))
    assert one.config.stream_id != other.config.stream_id


def test_a_call_whose_id_is_live_gets_another() -> None:
    """A refusal would end the call in Asterisk, a takeover the other call."""
    start = started(dialect())
    assert (start.renamed, start.takeover) == (True, False)


def test_ids_with_other_characters_stay_different() -> None:
    ids = {
        started(dialect(), media_start(channel_id=name)).config.stream_id
        for name in ("pbx/1", "pbx 1", "pbx-1", "é", "x" * 65, "x" * 66)
    }
    assert len(ids) == 6


@pytest.mark.parametrize(
    ("name", "encoding", "rate"),
    [
        *(("ulaw", "mulaw", 8_000), ("alaw", "alaw", 8_000), ("slin", "linear16", 8_000)),
        *(("slin12", "linear16", 12_000), ("slin16", "linear16", 16_000)),
        *(("slin24", "linear16", 24_000), ("slin32", "linear16", 32_000)),
        *(("slin44", "linear16", 44_100), ("slin48", "linear16", 48_000)),
        *(("slin96", "linear16", 96_000), ("slin192", "linear16", 192_000)),
    ],
)
def test_formats(name: str, encoding: str, rate: int) -> None:
    audio = started(dialect(), media_start(format=name)).config.format
    assert (audio.encoding, audio.sample_rate) == (encoding, rate)


@pytest.mark.parametrize("name", ["opus", "g722", "", None, 5, ["ulaw"]])
def test_an_unknown_codec_is_refused_with_the_remedy(name: object) -> None:
    with pytest.raises(ProtocolError, match=r"dial with c\(ulaw\)") as refused:
        started(dialect(), media_start(format=name))
    assert (refused.value.code, refused.value.fatal) == ("unsupported_encoding", True)


def test_the_query_of_the_dial_string_configures_the_call() -> None:
    query = "call=1795846173.5&side=in&tag=billing&tag=vip&disclosed=true&roles=speaker"
    start, note = commands(dialect(query), media_start())
    assert isinstance(start, Start)
    assert isinstance(note, Annotate)
    config = start.config
    assert config.tags == ("billing", "vip")
    assert config.audio.roles == ("speaker",)
    assert config.consent.disclosed
    attrs = {"call": "1795846173.5", "side": "in", "call_id": "1795846173.7"}
    assert note.note.attrs == attrs


def test_a_wrong_option_is_named() -> None:
    for query, param in (("roles=Customer", "audio.roles"), ("disclosed=perhaps", "consent")):
        with pytest.raises(ProtocolError) as refused:
            started(dialect(query))
        assert refused.value.param is not None
        assert refused.value.param.startswith(param)
    with pytest.raises(ProtocolError, match="at most 64 attributes"):
        started(dialect("&".join(f"a{n}=1" for n in range(70))))


@pytest.mark.parametrize(
    "message",
    ['{"event":"DTMF_END","channel_id":"1","digit":"#"}', "DTMF_END digit:# channel_id:1"],
)
def test_keys(message: str) -> None:
    found = dialect()
    started(found)
    (note,) = commands(found, message)
    assert isinstance(note, Annotate)
    assert note.note.dtmf == "#"


@pytest.mark.parametrize(
    "message",
    ["", " ", "[]", '{"event": 5}', "QUEUE_DRAINED", '{"event":"STATUS"}', "MEDIA_XON x", "null"],
)
def test_other_messages_need_nothing(message: str) -> None:
    assert commands(dialect(), message) == []


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (bytes(160), "before MEDIA_START"),
        ("x" * 70_000, "at most 65536 characters"),
        ("DTMF_END digit:5", "keys came before the call started"),
    ],
    ids=["media before start", "oversized text", "key before start"],
)
def test_a_mistake_before_the_start_does_not_end_the_call(message: str | bytes, text: str) -> None:
    with pytest.raises(ProtocolError, match=text) as refused:
        commands(dialect(), message)
    assert not refused.value.fatal


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ('{"event":"DTMF_END"}', "has none of 0-9"),
        ("DTMF_END digit:55x", "has none of 0-9"),
        (PLAIN, "has started already"),
    ],
)
def test_a_mistake_does_not_end_the_call(message: str, text: str) -> None:
    found = dialect()
    started(found)
    with pytest.raises(ProtocolError, match=text) as refused:
        commands(found, message)
    assert not refused.value.fatal


def test_the_time_without_frames_is_silence() -> None:
    clock = Clock()
    found = dialect(clock=clock)
    started(found)
    clock.now += 0.02
    assert commands(found, bytes(160)) == [Audio(bytes(160))]
    clock.now += 5.02
    assert commands(found, bytes(160)) == []
    assert not list(found.tick())
    clock.now += 0.1
    assert list(found.tick()) == [Silence(40_000), Audio(bytes(160))]
    ticks = []
    for _ in range(20):
        clock.now += 0.1
        ticks += list(found.tick())
    assert {type(c) for c in ticks} == {Silence}
    assert commands(found, b"") == []


def test_nothing_is_sent() -> None:
    """Asterisk reports every event of ours as a warning, and plays binary messages."""
    event = encode_event({"type": "warning", "message": "x"}, 3, "s", "call", 0.0)
    found = dialect()
    assert (list(found.send(event)), found.answers) == ([], False)


@pytest.mark.parametrize(
    ("name", "encoding", "rate"),
    [("asterisk-json", "mulaw", 8_000), ("asterisk-plain", "linear16", 16_000)],
)
def test_a_captured_call(name: str, encoding: str, rate: int) -> None:
    """Messages of a real Asterisk: speech, a key, 1.6 s without frames, speech, close 1000."""
    call = Captured.load(name)
    query = parse_qs(urlsplit(call.url).query)
    request = Request("/v1/asterisk", query)
    found = replay(lambda clock: Asterisk(request, CallDefaults(), clock), call)
    (start,), (note, key) = found.of(Start), found.of(Annotate)
    assert isinstance(start, Start)
    assert isinstance(note, Annotate)
    assert isinstance(key, Annotate)
    assert (start.config.format.encoding, start.config.format.sample_rate) == (encoding, rate)
    assert note.note.attrs["call"] == query["call"][0]
    assert key.note.dtmf == "5"
    last = call.messages[-1][0]
    width = start.config.format.bytes_per_frame
    assert found.samples(width) / rate == pytest.approx(last, abs=0.2)
    assert call.end == "close 1000"


async def test_two_sides_of_a_call_on_a_real_server() -> None:
    """Each side is a socket of its own; a common attribute joins them. Nothing comes back."""
    mulaw = encode(speech(), "mulaw", 8_000)
    with running_server("--set", 'privacy.analyse_roles=["customer","speaker"]') as server:
        async with subscriber(server) as watching:
            sockets: list[Client] = []
            for side, role in (("in", "customer"), ("out", "speaker")):
                query = {"call": "c1", "side": side, "roles": role}
                path = "/v1/asterisk"
                async with connect(server, path, query, subprotocols=["media"]) as peer:
                    assert peer.socket.subprotocol == "media"
                    await peer.text(media_start(channel_id=f"1.{len(sockets)}"))
                    await peer.audio(mulaw, chunk=160)
                    await peer.socket.close()
                    sockets.append(peer)
                await watching.until("session.closed", count=len(sockets))
            created = watching.of("session.created")
        assert [e["stream_id"] for e in created] == ["1.0", "1.1"]
        notes = [e["attrs"] for e in watching.of("session.annotated")]
        assert [(n["call"], n["side"]) for n in notes] == [("c1", "in"), ("c1", "out")]
        assert len(watching.of("emotion.segment")) == 4
        assert [peer.events for peer in sockets] == [[], []]
