"""Bad input of every dialect and its answer: one table, so that no dialect is forgotten.

docs/telephony/README.md lists the answers. Signatures are in `test_http_signature` and
`tests/server/access/test_credentials`, calls with one id and peers that never close in
`tests/server/endpoints`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, get_args

import orjson
import pytest

from stream.config import TelephonyConfig
from stream.config.telephony import TelephonyDialect
from stream.delivery.transport import Message
from stream.ingest.asterisk import Asterisk
from stream.ingest.audiohook import AudioHook
from stream.ingest.audiosocket import AudioSocket
from stream.ingest.calls import CallDefaults
from stream.ingest.dialect import Audio, Command, Dialect, Request, Start
from stream.ingest.l16 import L16
from stream.ingest.speech_clients import SpeechClient
from stream.ingest.twilio import Twilio
from stream.protocol.errors import ProtocolError
from stream.protocol.events import encode
from stream.protocol.parsing import MAX_TEXT
from stream.types import AudioFormat

SECRET = "whsec-do-not-repeat-me"
"""Part of every refused message; no error may repeat so much of what a stranger sent."""

SESSION = "30b0e395-84d3-4570-ac13-9a62d8f514c0"
MEDIA = {"type": "audio", "format": "PCMU", "channels": ["external"], "rate": 8000}


def text(**fields: Any) -> str:
    return orjson.dumps(fields).decode()


def audiohook(kind: str, seq: int = 1, **parameters: Any) -> str:
    head = {"version": "2", "id": SESSION, "type": kind, "seq": seq, "serverseq": 0}
    return text(**head, parameters=parameters)


def audiohook_open(media: dict[str, Any]) -> str:
    person = {"id": SESSION, "ani": "", "aniName": "", "dnis": ""}
    return audiohook(
        "open",
        organizationId=SESSION,
        conversationId=SESSION,
        participant=person,
        media=[media],
    )


def twilio_start(encoding: str = "audio/x-mulaw", tracks: tuple[str, ...] = ("inbound",)) -> str:
    media = {"encoding": encoding, "sampleRate": 8000, "channels": 1}
    return text(event="start", start={"callSid": "CA1", "tracks": tracks, "mediaFormat": media})


def twilio_media(data: bytes | str, track: str = "inbound") -> str:
    payload = base64.b64encode(data).decode() if isinstance(data, bytes) else data
    return text(event="media", media={"track": track, "timestamp": "0", "payload": payload})


def asterisk_start(name: str = "ulaw") -> str:
    return text(event="MEDIA_START", channel_id="1.1", format=name)


def packet(data: bytes, kind: int = 0x10) -> bytes:
    return bytes([kind]) + len(data).to_bytes(2, "big") + data


Frame = Callable[[bytes], Message]


@dataclass(frozen=True)
class Peer:
    """A dialect with the beginning of a call; `frame` carries audio of the format `audio`."""

    make: Callable[[], Dialect]
    begin: tuple[Message, ...]
    frame: Frame
    audio: AudioFormat
    longest_s: float = 3.0
    """Seconds of the longest frame that the protocol can carry, at most 3."""


def plain(data: bytes) -> Message:
    return data


PHONE, WIDE = AudioFormat("mulaw", 8_000), AudioFormat("linear16", 16_000)
DEFAULTS, CONFIG, REQUEST = CallDefaults(), TelephonyConfig(), Request()
PEERS = {
    "asterisk": Peer(lambda: Asterisk(REQUEST, DEFAULTS), (asterisk_start(),), plain, PHONE),
    "audiosocket": Peer(
        lambda: AudioSocket(DEFAULTS),
        (packet(bytes(16), 0x01),),
        packet,
        AudioFormat("linear16", 8_000),
    ),
    "audiohook": Peer(
        lambda: AudioHook(Request(headers={"audiohook-session-id": SESSION}), CONFIG),
        (audiohook_open(MEDIA),),
        plain,
        PHONE,
    ),
    "twilio": Peer(lambda: Twilio(REQUEST, DEFAULTS), (twilio_start(),), twilio_media, PHONE),
    "l16": Peer(
        lambda: L16(REQUEST, DEFAULTS),
        (text(sample_rate=16_000),),
        plain,
        WIDE,
    ),
    "vosk": Peer(
        lambda: SpeechClient(REQUEST, CONFIG),
        (text(config={"sample_rate": 16_000}),),
        plain,
        WIDE,
    ),
    "funasr": Peer(
        lambda: SpeechClient(REQUEST, CONFIG),
        (text(mode="2pass", audio_fs=16_000, is_speaking=True),),
        plain,
        WIDE,
    ),
}


def run(dialect: Dialect, messages: Iterable[Message]) -> list[Command]:
    return [command for message in messages for command in dialect.receive(message)]


def audio_of(commands: Iterable[Command]) -> bytes:
    return b"".join(command.data for command in commands if isinstance(command, Audio))


def test_the_table_has_every_dialect() -> None:
    assert PEERS.keys() == {*get_args(TelephonyDialect), "audiosocket"}


@pytest.mark.parametrize("name", PEERS)
def test_frames_of_three_bytes_are_audio(name: str) -> None:
    """Short frames end every playback of Asterisk; one that splits a sample must not shift it."""
    peer = PEERS[name]
    dialect = peer.make()
    run(dialect, peer.begin)
    data = bytes(range(100, 103)) * 200
    frames = [peer.frame(data[at : at + 3]) for at in range(0, len(data), 3)]
    found = audio_of(run(dialect, frames))
    width = peer.audio.bytes_per_frame
    if name == "twilio":  # by timestamp: all of these have the same one, so one is kept
        assert len(found) >= 3
        return
    assert found[: len(data) // width * width] == data[: len(data) // width * width]


@pytest.mark.parametrize("name", PEERS)
def test_a_frame_of_three_seconds_is_audio(name: str) -> None:
    peer = PEERS[name]
    dialect = peer.make()
    run(dialect, peer.begin)
    data = bytes([7, 9]) * (3 * peer.audio.bytes_per_second // 2)
    found = audio_of(run(dialect, [peer.frame(data)]))
    # Asterisk's clock holds what came late; Twilio's waits for later packets.
    held = audio_of(getattr(dialect, "tick", tuple)()) if name != "twilio" else b""
    assert data.startswith(found + held)
    assert len(found + held) in (0, len(data)) or name == "twilio"


Answer = tuple[str, bool]
"""Error code, and whether it ends the call."""

AUDIO_FIRST: dict[str, Answer | None] = {
    "asterisk": ("invalid_message", False),
    "audiosocket": None,  # the id may be missing
    "audiohook": ("invalid_message", True),
    "twilio": ("invalid_message", False),
    "l16": None,  # the query describes the call
    "vosk": ("invalid_message", True),
    "funasr": ("invalid_message", True),
}
"""Answer to audio before the call was described; None if it may begin so."""

LONG_TEXT: dict[str, Answer] = {
    "asterisk": ("invalid_message", False),
    "audiohook": ("message_too_large", True),
    "twilio": ("invalid_message", False),
    "l16": ("invalid_message", False),
    "vosk": ("message_too_large", True),
    "funasr": ("message_too_large", True),
}

RUBBISH: dict[str, Answer | None] = {
    "asterisk": None,  # other control messages need nothing
    "audiohook": ("invalid_message", True),
    "twilio": ("invalid_message", False),
    "l16": None,  # a later text is a note, or nothing
    "vosk": ("invalid_message", False),
    "funasr": ("invalid_message", False),
}
"""Answer to a text that is no message of the dialect, in a call."""

CODECS: dict[str, tuple[Message, Answer]] = {
    "asterisk": (asterisk_start("opus"), ("unsupported_encoding", True)),
    "audiosocket": (packet(b"\0\0", 0x1F), ("unknown_message", True)),
    "audiohook": (audiohook_open({**MEDIA, "format": "OPUS"}), ("unsupported_encoding", True)),
    "twilio": (twilio_start("audio/opus"), ("unsupported_encoding", True)),
    "l16": (text(encoding="opus", sample_rate=16_000), ("unsupported_encoding", True)),
    "funasr": (
        text(mode="2pass", audio_fs=16_000, is_speaking=True, wav_format="mp3"),
        ("unsupported_encoding", True),
    ),
}
"""A beginning with an unknown codec. Vosk's clients cannot state one."""


def refused(dialect: Dialect, message: Message) -> Answer | None:
    """Return the answer to a message; None if it is accepted. No error repeats the secret."""
    try:
        run(dialect, [message])
        return None
    except ProtocolError as error:
        found = error
    assert SECRET not in found.message
    return found.code, found.fatal


@pytest.mark.parametrize("name", PEERS)
def test_audio_before_the_call_was_described(name: str) -> None:
    peer = PEERS[name]
    assert refused(peer.make(), peer.frame(bytes(160))) == AUDIO_FIRST[name]


@pytest.mark.parametrize("name", LONG_TEXT)
def test_a_text_that_is_too_long(name: str) -> None:
    peer = PEERS[name]
    dialect = peer.make()
    run(dialect, peer.begin)
    assert refused(dialect, SECRET + "x" * MAX_TEXT) == LONG_TEXT[name]


@pytest.mark.parametrize("name", RUBBISH)
def test_a_text_that_is_no_message(name: str) -> None:
    peer = PEERS[name]
    dialect = peer.make()
    run(dialect, peer.begin)
    assert refused(dialect, f"{{{SECRET}") == RUBBISH[name]


@pytest.mark.parametrize("name", CODECS)
def test_an_unknown_codec(name: str) -> None:
    message, answer = CODECS[name]
    assert refused(PEERS[name].make(), message) == answer


@pytest.mark.parametrize(
    ("payload", "track", "code"),
    [
        (f"%%%{SECRET}", "inbound", "invalid_audio_frame"),
        ("AAA", "inbound", "invalid_audio_frame"),
        (b"\xff" * 160, f"sideways-{SECRET}", "invalid_message"),
        (b"\xff" * 160, "outbound", "invalid_message"),
    ],
)
def test_rubbish_in_base64_and_unknown_tracks_of_twilio(
    payload: bytes | str, track: str, code: str
) -> None:
    peer = PEERS["twilio"]
    dialect = peer.make()
    run(dialect, peer.begin)
    assert refused(dialect, twilio_media(payload, track)) == (code, False)
    assert refused(dialect, twilio_media(b"\xff" * 160)) is None, "the call goes on"


@pytest.mark.parametrize("seq", [0, 1, 3, 10**9])
def test_a_wrong_number_of_audiohook_ends_the_session(seq: int) -> None:
    dialect = PEERS["audiohook"].make()
    run(dialect, PEERS["audiohook"].begin)
    assert refused(dialect, audiohook("ping", seq=seq)) == ("invalid_message", True)


@pytest.mark.parametrize("name", ["asterisk", "twilio", "audiohook"])
def test_a_second_beginning_starts_no_second_session(name: str) -> None:
    peer = PEERS[name]
    dialect = peer.make()
    [start] = [c for c in run(dialect, peer.begin) if isinstance(c, Start)]
    assert start.config.audio.sample_rate == peer.audio.sample_rate
    assert refused(dialect, peer.begin[0]) is not None


@pytest.mark.parametrize("name", PEERS)
def test_nothing_of_the_analysis_is_sent_to_a_telephony_system(name: str) -> None:
    """It would be played to the caller, or fill the log of the other side."""
    if name in ("vosk", "funasr"):
        return
    peer = PEERS[name]
    dialect = peer.make()
    run(dialect, peer.begin)
    for kind in ("emotion.score", "speech.start", "alert", "warning", "session.created"):
        assert list(dialect.send(encode({"type": kind}, 0, "s", "s", 0.0))) == []
