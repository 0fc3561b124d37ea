"""Clients of Vosk and FunASR as lists of messages: no sockets, no event loop."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import orjson
import pytest

from stream.config import TelephonyConfig
from stream.delivery.transport import Message
from stream.ingest.dialect import Audio, Command, End, Flush, Reply, Request, Start
from stream.ingest.speech_clients import SpeechClient
from stream.protocol.errors import ProtocolError
from stream.protocol.events import encode
from tests.support.captured import Captured, replay

VOSK = '{ "config" : { "sample_rate" : 8000 } }'
FUNASR = '{"mode": "2pass", "audio_fs": 8000, "wav_name": "demo", "is_speaking": true}'


def client(query: str = "", **config: Any) -> SpeechClient:
    request = Request(query=parse_qs(query, keep_blank_values=True))
    return SpeechClient(request, TelephonyConfig.model_validate(config))


def commands(dialect: SpeechClient, *messages: Message) -> list[Command]:
    return [command for message in messages for command in dialect.receive(message)]


def answer(dialect: SpeechClient) -> dict[str, Any]:
    """Send a chunk; return its answer."""
    reply, audio = commands(dialect, b"\0\0")
    assert isinstance(reply, Reply)
    assert audio == Audio(b"\0\0")
    found: dict[str, Any] = orjson.loads(reply.message)
    return found


def emotion(kind: str, label: str = "angry", start_ms: int = 500) -> dict[str, Any]:
    return {
        "type": kind,
        "top": {"label": label, "score": 0.75},
        "scores": {label: 0.75, "neutral": 0.25},
        "activation": 0.75,
        "hints": [],
        "audio_start_ms": start_ms,
        "audio_end_ms": start_ms + 1000,
    }


def emit(dialect: SpeechClient, body: dict[str, Any]) -> list[dict[str, Any]]:
    event = encode(body, 0, "s", "s", 0.0)
    return [orjson.loads(message) for message in dialect.send(event)]


# -- Vosk ------------------------------------------------------------------------------------


def test_vosk_starts_with_its_configuration() -> None:
    dialect = client()
    (start,) = commands(dialect, VOSK)
    assert isinstance(start, Start)
    assert (start.config.format.encoding, start.config.format.sample_rate) == ("linear16", 8000)
    assert dialect.name == "vosk"


@pytest.mark.parametrize("config", ['{"config": {}}', '{"config": {"sample_rate": 8000.0}}'])
def test_vosk_sends_its_rate_as_a_float_or_not_at_all(config: str) -> None:
    (start,) = commands(client(), config)
    assert isinstance(start, Start)
    assert start.config.format.sample_rate == 8000


def test_vosk_gets_one_answer_for_each_chunk_and_none_between() -> None:
    """Its clients wait for each answer: 8.3 s of audio took 26.6 s with scores as they came."""
    dialect = client()
    commands(dialect, VOSK)
    assert answer(dialect) == {"partial": ""}
    assert emit(dialect, emotion("emotion.score", "sad")) == []
    found = answer(dialect)
    assert found["partial"] == "sad"
    assert found["emotion"]["scores"] == {"sad": 0.75, "neutral": 0.25}
    assert emit(dialect, emotion("emotion.segment", "angry")) == []
    assert emit(dialect, emotion("emotion.segment", "happy", 2000)) == []
    found = answer(dialect)
    assert found["text"] == "angry happy"
    assert found["result"] == [
        {"conf": 0.75, "start": 0.5, "end": 1.5, "word": "angry"},
        {"conf": 0.75, "start": 2.0, "end": 3.0, "word": "happy"},
    ]
    assert found["emotion"]["label"] == "happy"
    assert answer(dialect) == {"partial": ""}


def test_the_end_of_vosk_is_answered_once_everything_is_scored() -> None:
    dialect = client()
    commands(dialect, VOSK)
    assert commands(dialect, '{"eof" : 1}') == [End()]
    assert emit(dialect, emotion("emotion.segment")) == []
    (last,) = emit(dialect, {"type": "session.closed", "reason": "completed"})
    assert last["text"] == "angry"
    (empty,) = emit(dialect, {"type": "session.closed", "reason": "completed"})
    assert empty == {"result": [], "text": ""}


def test_a_reset_of_vosk_is_answered_and_ends_the_utterance() -> None:
    dialect = client()
    commands(dialect, VOSK)
    reply, flush = commands(dialect, '{"reset" : 1}')
    assert isinstance(reply, Reply)
    assert flush == Flush()


def test_a_second_configuration_of_vosk_gets_no_answer() -> None:
    dialect = client()
    assert len(commands(dialect, VOSK)) == 1
    assert commands(dialect, VOSK) == []


# -- FunASR ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "kinds"),
    [
        ("2pass", ["2pass-online", "2pass-offline"]),
        ("online", ["online"]),
        ("offline", ["offline"]),
    ],
)
def test_funasr_gets_the_passes_that_it_asked_for(mode: str, kinds: list[str]) -> None:
    dialect = client()
    (start,) = commands(dialect, FUNASR.replace("2pass", mode))
    assert isinstance(start, Start)
    assert start.config.format.sample_rate == 8000
    assert dialect.name == "funasr"
    found = emit(dialect, emotion("emotion.score")) + emit(dialect, emotion("emotion.segment"))
    assert [message["mode"] for message in found] == kinds
    assert {message["text"] for message in found} == {"angry "}
    assert {message["wav_name"] for message in found} == {"demo"}
    assert not any(message["is_final"] for message in found)


def test_the_end_of_funasr_is_confirmed() -> None:
    """Its client raised "connection closed before end-of-input acknowledgement"."""
    dialect = client()
    commands(dialect, FUNASR)
    assert commands(dialect, '{"is_speaking": false, "is_end": true}') == [End()]
    (last,) = emit(dialect, {"type": "session.closed", "reason": "completed"})
    assert last["is_end"]
    assert last["is_final"]


def test_funasr_reads_16_khz_unless_it_says_otherwise() -> None:
    (start,) = commands(client(), '{"mode": "online", "is_speaking": true}')
    assert isinstance(start, Start)
    assert start.config.format.sample_rate == 16_000


def test_a_compressed_file_of_funasr_is_refused() -> None:
    with pytest.raises(ProtocolError, match="send pcm"):
        commands(client(), FUNASR.replace('"mode"', '"wav_format": "others", "mode"'))


# -- both ------------------------------------------------------------------------------------


def test_the_query_names_the_stream_and_its_tags() -> None:
    dialect = client("stream_id=desk-1&tag=a&tag=b&key=secret", disclosed=True)
    assert list(dialect.connected()) == []
    (start,) = commands(dialect, VOSK)
    assert isinstance(start, Start)
    assert start.config.stream_id == "desk-1"
    assert start.config.tags == ("a", "b")
    assert start.config.consent.disclosed
    assert start.config.format.sample_rate == 8000


def test_a_wrong_query_is_refused_by_name() -> None:
    with pytest.raises(ProtocolError, match="unknown query parameter 'rate'"):
        client("rate=1").connected()


@pytest.mark.parametrize(
    "first",
    [b"\0\0", "{}", '{"type": "session.update"}', '{"is_speaking": false}', '{"config": 1}'],
)
def test_others_are_sent_to_their_own_address(first: Message) -> None:
    dialect = client()
    with pytest.raises(ProtocolError, match="other clients connect to /v1/stream") as refused:
        commands(dialect, first)
    assert refused.value.fatal
    (event,) = emit(dialect, {"type": "error", "fatal": True, "message": "why"})
    assert event["message"] == "why"


@pytest.mark.parametrize(("dialects", "first"), [(["vosk"], FUNASR), (["funasr"], VOSK)])
def test_a_client_that_is_switched_off_is_refused(dialects: list[str], first: str) -> None:
    with pytest.raises(ProtocolError, match="this address"):
        commands(client(dialects=dialects), first)


@pytest.mark.parametrize("first", [VOSK, FUNASR])
@pytest.mark.parametrize(
    ("text", "code"),
    [("x", "invalid_message"), ("[]", "invalid_message"), ("x" * 65_537, "message_too_large")],
)
def test_bad_text_is_refused(first: str, text: str, code: str) -> None:
    dialect = client()
    commands(dialect, first)
    with pytest.raises(ProtocolError) as refused:
        commands(dialect, text)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "first", ['{"config": {"sample_rate": "x"}}', '{"is_speaking": true, "audio_fs": 1}']
)
def test_a_bad_rate_is_named(first: str) -> None:
    with pytest.raises(ProtocolError, match=r"audio\.sample_rate"):
        commands(client(), first)


@pytest.mark.parametrize("first", [VOSK, FUNASR])
def test_only_fatal_errors_are_sent(first: str) -> None:
    """Another message would be taken by Vosk's client for the answer to its next chunk."""
    dialect = client()
    commands(dialect, first)
    error = {"type": "error", "fatal": False, "message": "why"}
    assert emit(dialect, error) == []
    (sent,) = emit(dialect, {**error, "fatal": True})
    assert sent["error"] == "why"


@pytest.mark.parametrize(("name", "answers"), [("vosk", 8), ("funasr", 0)])
def test_a_run_of_the_real_client_is_understood(name: str, answers: int) -> None:
    """Captured from vosk-server's test.py and FunASR's funasr_wss_client.py."""
    found = replay(lambda clock: client(), Captured.load(name))
    (start,) = found.of(Start)
    assert isinstance(start, Start)
    assert start.config.format.sample_rate == 8000
    assert found.samples() == 12_800
    assert len(found.of(Reply)) == answers
    assert found.commands[-1][1] == End()
