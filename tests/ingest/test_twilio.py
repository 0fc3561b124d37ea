"""Twilio Media Streams and its relatives as a list of messages. Then one real server."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import orjson
import pytest
from websockets.exceptions import InvalidStatus

from stream.ingest.calls import CallDefaults
from stream.ingest.dialect import Annotate, Audio, Command, End, Request, Start
from stream.ingest.twilio import Twilio
from stream.protocol.errors import ProtocolError
from tests.support.clients import connect, subscriber
from tests.support.running import running_server
from tests.support.utterances import encode, speech

CONNECTED = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
MULAW = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}


def started(**changes: Any) -> dict[str, Any]:
    call = {
        "streamSid": "MZ1",
        "accountSid": "AC1",
        "callSid": "CA1",
        "tracks": ["inbound", "outbound"],
        "customParameters": {"queue": "billing", "tags": "billing,vip"},
        "mediaFormat": MULAW,
    }
    return {"event": "start", "sequenceNumber": "1", "streamSid": "MZ1", "start": call | changes}


def media(data: bytes, at: object = "0", track: str | None = "inbound") -> dict[str, Any]:
    fields = {"chunk": "1", "timestamp": at, "payload": base64.b64encode(data).decode()}
    if track is not None:
        fields["track"] = track
    return {"event": "media", "sequenceNumber": "2", "streamSid": "MZ1", "media": fields}


STOP = {"event": "stop", "sequenceNumber": "9", "streamSid": "MZ1", "stop": {"callSid": "CA1"}}


def run(*messages: dict[str, Any], query: dict[str, list[str]] | None = None) -> list[Command]:
    found = Twilio(Request("/v1/twilio", query or {}), CallDefaults())
    return [c for m in messages for c in found.receive(orjson.dumps(m).decode())]


def test_both_tracks_are_two_channels_with_roles() -> None:
    commands = run(
        CONNECTED, started(), media(b"\2" * 160, "0", "outbound"), media(b"\1" * 160), STOP
    )
    start, note, audio, end = commands
    assert isinstance(start, Start)
    assert isinstance(note, Annotate)
    assert start.config.stream_id == "CA1"
    assert start.config.audio.roles == ("customer", "agent")
    assert start.config.tags == ("billing", "vip")
    assert note.note.attrs == {"queue": "billing", "call_id": "CA1"}
    assert (audio, end) == (Audio(bytes([1, 2]) * 160), End())


@pytest.mark.parametrize(
    ("tracks", "roles"),
    [
        (["inbound"], ("customer",)),
        (["outbound"], ("agent",)),
        (["inbound_track"], ("customer",)),
        (["outbound", "inbound"], ("customer", "agent")),
        ([], ("customer",)),
        (None, ("customer",)),
        (["sideways"], ("customer",)),
    ],
)
def test_roles_follow_the_tracks(tracks: object, roles: tuple[str, ...]) -> None:
    start = run(started(tracks=tracks))[0]
    assert isinstance(start, Start)
    assert start.config.audio.roles == roles


def test_parameters_change_the_roles_of_a_call_that_was_dialled_out() -> None:
    parameters = {"roles": "agent,customer", "disclosed": "true"}
    start = run(started(customParameters=parameters))[0]
    assert isinstance(start, Start)
    assert start.config.audio.roles == ("agent", "customer")
    assert start.config.consent.disclosed


TELNYX = {
    "event": "start",
    "sequence_number": "1",
    "start": {
        "user_id": "u",
        "call_control_id": "v2:T02llQxIyaRkhfRKxgAP8nY511EhFLizdvdUKJiSw8d6A9BborherQ",
        "from": "+13122010094",
        "to": "+13122123456",
        "media_format": {"encoding": "PCMA", "sample_rate": 8000, "channels": 1},
        "custom_parameters": {"queue": "billing"},
    },
    "stream_id": "32DE0DEA",
}
VOXIMPLANT = {
    "event": "start",
    "sequenceNumber": 0,
    "start": {
        "tag": "call-7",
        "mediaFormat": {"encoding": "PCM16", "sampleRate": 16000},
        "customParameters": {"queue": "billing"},
    },
}


@pytest.mark.parametrize(
    ("message", "stream_id", "encoding", "rate"),
    [
        (TELNYX, TELNYX["start"]["call_control_id"], "alaw", 8_000),  # type: ignore[index]
        (VOXIMPLANT, "call-7", "linear16", 16_000),
        ({"event": "start", "streamSid": "FS1", "start": {}}, "FS1", "mulaw", 8_000),
    ],
    ids=["Telnyx", "Voximplant", "Fonoster"],
)
def test_relatives(message: dict[str, Any], stream_id: str, encoding: str, rate: int) -> None:
    """Telephone numbers that Telnyx sends are not kept."""
    start, note, *audio = run(message, media(bytes(320), at=0, track=None))
    assert isinstance(start, Start)
    assert isinstance(note, Annotate)
    assert start.config.stream_id is not None
    assert stream_id.startswith(start.config.stream_id[:30])
    assert note.note.attrs["call_id"] == stream_id
    audio_format = start.config.format
    assert (audio_format.encoding, audio_format.sample_rate) == (encoding, rate)
    assert audio == [Audio(bytes(320))]
    assert "+1312" not in str((start, note))


def test_keys() -> None:
    key = {"event": "dtmf", "streamSid": "MZ1", "dtmf": {"track": "inbound_track", "digit": "5"}}
    note = run(started(), key)[-1]
    assert isinstance(note, Annotate)
    assert note.note.dtmf == "5"


@pytest.mark.parametrize("event", ["mark", "error", "connected", "x", None, 5, ["media"]])
def test_unknown_events_need_nothing(event: object) -> None:
    assert run({"event": event}) == []


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ((media(b"\1"),), "media came before start"),
        ((started(), media(b"\1", track="sideways")), "a track that start did not name"),
        ((started(tracks=["inbound"]), media(b"\1", track="outbound")), "did not name"),
        ((started(), {"event": "media", "media": {"payload": "%%%"}}), "not base64"),
        ((started(), {"event": "media", "media": {"payload": "é"}}), "not base64"),
        ((started(), {"event": "media", "media": {"payload": 5}}), "not base64"),
        ((started(), {"event": "media"}), "not base64"),
        ((started(), {"event": "dtmf", "dtmf": 5}), "has none of 0-9"),
        (({"event": "dtmf", "dtmf": {"digit": "5"}},), "keys came before"),
        ((started(), started()), "has started already"),
    ],
)
def test_a_mistake_does_not_end_the_call(messages: tuple[dict[str, Any], ...], text: str) -> None:
    with pytest.raises(ProtocolError, match=text) as refused:
        run(*messages)
    assert not refused.value.fatal


@pytest.mark.parametrize("message", ["", "[]", "null", "{", "x" * 70_000, b"\0"])
def test_rubbish_does_not_end_the_call(message: str | bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        list(Twilio(Request(), CallDefaults()).receive(message))
    assert not refused.value.fatal


@pytest.mark.parametrize(
    "media_format",
    [
        {"encoding": "audio/x-opus"},
        {"encoding": "PCM16", "sampleRate": 1e99},
        {"encoding": "PCM16", "sampleRate": "many"},
        {"sampleRate": 4000},
        {"encoding": ["x"]},
    ],
)
def test_an_unknown_codec_is_refused(media_format: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="mediaFormat") as refused:
        run(started(mediaFormat=media_format))
    assert (refused.value.code, refused.value.fatal) == ("unsupported_encoding", True)


def test_a_long_name_of_a_codec_is_cut_in_the_answer() -> None:
    with pytest.raises(ProtocolError) as refused:
        run(started(mediaFormat={"encoding": "x" * 500}))
    assert "x" * 32 in refused.value.message
    assert "x" * 33 not in refused.value.message


@pytest.mark.parametrize("at", ["", "x", None, -1, "1e400", True, {}, "nan"])
def test_a_timestamp_that_is_none_does_not_lose_the_audio(at: object) -> None:
    commands = run(started(tracks=["inbound"]), media(b"\1" * 160, at))
    assert commands[-1] == Audio(b"\1" * 160)


@pytest.mark.parametrize("size", [3, 24_000])
def test_packets_of_three_bytes_and_of_three_seconds(size: int) -> None:
    assert run(started(tracks=["inbound"]), media(b"\1" * size))[-1] == Audio(b"\1" * size)


TOKEN = "1f2e3d4c5b6a79880102030405060708"


def signature(url: str, token: str = TOKEN) -> dict[str, str]:
    digest = hmac.digest(token.encode(), url.encode(), hashlib.sha1)
    return {"X-Twilio-Signature": base64.b64encode(digest).decode()}


async def test_a_call_with_loss_on_a_real_server() -> None:
    """Both tracks with every tenth packet lost; the signature is asked for, and nothing is sent."""
    telephony = f"""
[telephony]
public_url = "wss://emotide.example.com"
twilio_tokens.twilio = ["old-token", "{TOKEN}"]
"""
    mulaw = encode(speech(), "mulaw", 8_000)
    url = "wss://emotide.example.com/v1/twilio"
    with running_server(config=telephony) as server:
        for headers in ({}, signature(url, "wrong"), signature("https" + url[3:])):
            with pytest.raises(InvalidStatus) as refused:
                async with connect(server, "/v1/twilio", additional_headers=headers):
                    pass
            assert refused.value.response.status_code == 403
        async with (
            subscriber(server) as watching,
            connect(server, "/v1/twilio", additional_headers=signature(url)) as peer,
        ):
            await peer.text(orjson.dumps(CONNECTED).decode())
            await peer.text(orjson.dumps(started()).decode())
            for number, at in enumerate(range(0, len(mulaw), 160)):
                if number % 10:
                    for track in ("outbound", "inbound"):
                        data = mulaw[at : at + 160] if track == "inbound" else b"\xff" * 160
                        message = media(data, str(20 * number), track)
                        await peer.text(orjson.dumps(message).decode())
            await peer.text(orjson.dumps(STOP).decode())
            assert await peer.closed() == 1000
            closed = await watching.until("session.closed")
        assert peer.events == []
        assert TOKEN not in server.log()
    assert (closed["stream_id"], closed["reason"]) == ("CA1", "completed")
    assert closed["totals"]["audio_ms"] == pytest.approx(len(mulaw) / 8, abs=40)
    assert {e["role"] for e in watching.of("emotion.score")} == {"customer"}
