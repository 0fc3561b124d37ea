"""Clients of Vosk and FunASR servers, which need only another address. Pure.

Both send linear16 of one channel to the path "/". The first message decides which one it is. Their
servers return words; this one returns labels of emotions in the place of words, with the scores
beside them (`emotion`): docs/telephony/vosk.md and docs/telephony/funasr.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import orjson
from pydantic import ValidationError

from stream.config import TelephonyConfig
from stream.delivery.transport import Message
from stream.ingest.dialect import Audio, Command, End, Flush, Reply, Request, Start
from stream.protocol.errors import ProtocolError, close_code
from stream.protocol.events import SCORE, SEGMENT, EncodedEvent
from stream.protocol.messages import SessionConfig
from stream.protocol.parsing import MAX_TEXT, Query, overlay, parse_query, protocol_error
from stream.protocol.wire.codes import CloseReason
from stream.types import SAMPLE_RATE

VOSK_RATE = 8_000
"""Samples per second of Vosk's clients that name no rate."""

MAX_NAME = 256
"""Characters of the name of a FunASR recording that are sent back."""

Fields = dict[str, Any]

MakeSession = Callable[[object], SessionConfig]
"""Returns the session for a sample rate as the client sent it. Raises `ProtocolError`."""

EMOTION = ("scores", "activation", "hints", "audio_start_ms", "audio_end_ms")
"""Fields of a score that are sent beside its label."""


class _Client(Protocol):
    """A client whose kind is known."""

    name: str

    def text(self, message: Fields) -> Iterable[Command]:
        """Return the commands of a TEXT message."""
        ...

    def audio(self, data: bytes) -> Iterable[Command]:
        """Return the commands of a BINARY message."""
        ...

    def send(self, event: EncodedEvent) -> Iterable[Message]:
        """Return the messages for an event."""
        ...


class SpeechClient:
    """A client of Vosk or of FunASR; see `stream.ingest.dialect.Dialect`."""

    resumes = False
    parting_s = 3.0
    rest_s = 0.0
    answers = False

    def __init__(self, request: Request, config: TelephonyConfig) -> None:
        self.name = "speech_client"
        self._query = {key: values for key, values in request.query.items() if key != "key"}
        self._config = config
        self._client: _Client | None = None

    def connected(self) -> Iterable[Command]:
        """Check the query, which may name the stream and its tags. Raises `ProtocolError`."""
        parse_query(self._query)
        return ()

    def receive(self, message: Message) -> Iterable[Command]:
        """Return the commands of a message. Raises `ProtocolError`."""
        fields = _load(message) if isinstance(message, str) else None
        if self._client is None:
            self._client = self._choose(fields)
            self.name = self._client.name
        if isinstance(message, bytes):
            return self._client.audio(message)
        return self._client.text(fields or {})

    def _choose(self, first: Fields | None) -> _Client:
        enabled = self._config.dialects
        if first is not None and "vosk" in enabled and isinstance(first.get("config"), dict):
            return Vosk(self._session)
        if first is not None and "funasr" in enabled and first.get("is_speaking") is True:
            return FunAsr(self._session)
        raise ProtocolError(
            "invalid_message",
            "this address is for clients of Vosk, which begin with config, and of FunASR, which "
            "begin with is_speaking; other clients connect to /v1/stream",
        )

    def _session(self, rate: object) -> SessionConfig:
        """Return the session of the query with a sample rate. Raises `ProtocolError`."""
        try:
            given = SessionConfig.model_validate({"audio": {"sample_rate": rate}})
        except ValidationError as error:
            raise protocol_error(error) from None
        query: Query = self._query
        if self._config.disclosed:
            query = {"disclosed": ["true"], **self._query}
        return overlay(query, given)

    def tick(self) -> Iterable[Command]:
        """Return nothing: the client sends audio or ends."""
        return ()

    def send(self, event: EncodedEvent) -> Iterable[Message]:
        """Return the messages for an event, in the words of the client."""
        if self._client is not None:
            return self._client.send(event)
        return (event.data.decode(),) if event.type == "error" else ()

    def close_code(self, reason: CloseReason) -> int:
        """Return the code of `CLOSE_CODES`."""
        return close_code(reason)


class Vosk:
    """A client of vosk-server, which waits for one answer to each chunk of audio.

    https://github.com/alphacep/vosk-server, websocket/asr_server.py
    """

    name = "vosk"

    def __init__(self, session: MakeSession) -> None:
        self._session = session
        self._started = False
        self._partial: Fields | None = None
        """The newest score of the utterance that is going on."""
        self._words: list[Fields] = []
        self._emotion: Fields | None = None
        """Utterances since the last answer, and the scores of the last one."""

    def text(self, message: Fields) -> Iterable[Command]:
        """Start, flush or end the session; `config` gets no answer, as from Vosk."""
        if "eof" in message:
            return (End(),)
        if "reset" in message:
            return (Reply(self._answer()), Flush())
        config = message.get("config")
        if not isinstance(config, dict):
            raise ProtocolError(
                "unknown_message", "expected config, reset or eof", param="config", fatal=False
            )
        if self._started:
            return ()
        self._started = True
        return (Start(self._session(config.get("sample_rate", VOSK_RATE))),)

    def audio(self, data: bytes) -> Iterable[Command]:
        """Answer a chunk at once with what is known by now."""
        return (Reply(self._answer()), Audio(data))

    def send(self, event: EncodedEvent) -> Iterable[Message]:
        """Keep scores for the next answer; the end of the session is the last answer."""
        body = event.body
        match event.type:
            case "emotion.score":
                self._partial = _emotion(body)
            case "emotion.segment":
                self._partial, self._emotion = None, _emotion(body)
                self._words.append(_word(body))
            case "session.closed":
                return (self._answer(is_last=True),)
            case "error" if body["fatal"]:
                return (_dump({"error": body["message"]}),)
        return ()

    def _answer(self, is_last: bool = False) -> str:
        words, self._words = self._words, []
        if not words and not is_last:
            partial = self._partial
            if partial is None:
                return _dump({"partial": ""})
            return _dump({"partial": partial["label"], "emotion": partial})
        text = " ".join(word["word"] for word in words)
        answer: Fields = {"result": words, "text": text}
        if words:
            answer["emotion"] = self._emotion
        return _dump(answer)


class FunAsr:
    """A client of FunASR's runtime, which reads answers whenever they come.

    https://github.com/modelscope/FunASR, runtime/docs/websocket_protocol.md
    """

    name = "funasr"

    def __init__(self, session: MakeSession) -> None:
        self._session = session
        self._mode = "2pass"
        self._wav_name = ""
        self._started = False

    def text(self, message: Fields) -> Iterable[Command]:
        """Start the session with `is_speaking`, end it without."""
        if message.get("is_speaking") is False:
            return (End(),)
        if self._started:
            return ()  # hot words and chunk sizes may be sent again
        if message.get("wav_format", "pcm") not in ("pcm", "wav"):
            raise ProtocolError(
                "unsupported_encoding",
                "wav_format: send pcm, or the whole file to /v1/files",
                param="wav_format",
            )
        self._started = True
        mode = message.get("mode")
        self._mode = mode if mode in ("online", "offline") else "2pass"
        self._wav_name = str(message.get("wav_name", ""))[:MAX_NAME]
        return (Start(self._session(message.get("audio_fs", SAMPLE_RATE))),)

    def audio(self, data: bytes) -> Iterable[Command]:
        """Return the audio."""
        return (Audio(data),) if data else ()

    def send(self, event: EncodedEvent) -> Iterable[Message]:
        """Return scores as results of the first pass, utterances as those of the second."""
        body = event.body
        if event.type == SCORE and self._mode != "offline":
            return (self._result("online", body),)
        if event.type == SEGMENT and self._mode != "online":
            return (self._result("offline", body),)
        if event.type == "session.closed":
            return (self._end(is_final=True),)
        if event.type == "error" and body["fatal"]:
            return (self._end(is_final=False, error=body["message"]),)
        return ()

    def _result(self, phase: str, body: Mapping[str, Any]) -> str:
        emotion = _emotion(body)
        # Clients put the texts of utterances together.
        text = f"{emotion['label']} "
        return _dump({**self._head(phase), "text": text, "is_final": False, "emotion": emotion})

    def _end(self, **fields: object) -> str:
        phase = "online" if self._mode == "online" else "offline"
        return _dump({**self._head(phase), "text": "", "is_end": True, **fields})

    def _head(self, phase: str) -> Fields:
        mode = f"2pass-{phase}" if self._mode == "2pass" else self._mode
        return {"mode": mode, "wav_name": self._wav_name}


def _load(text: str) -> Fields:
    """Return a TEXT message. Raises `ProtocolError`."""
    if len(text) > MAX_TEXT:
        raise ProtocolError(
            "message_too_large", f"a text message has at most {MAX_TEXT} characters"
        )
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        message = None
    if not isinstance(message, dict):
        raise ProtocolError("invalid_message", "text messages must be JSON objects", fatal=False)
    return message


def _emotion(body: Mapping[str, Any]) -> Fields:
    """Return what is sent of a score or of an utterance."""
    best = body["top"]
    found = {name: body[name] for name in EMOTION}
    return {"label": best["label"], "score": best["score"], **found}


def _word(body: Mapping[str, Any]) -> Fields:
    """Return an utterance in the form of a word of Vosk, times in seconds."""
    best = body["top"]
    return {
        "conf": best["score"],
        "start": body["audio_start_ms"] / 1000,
        "end": body["audio_end_ms"] / 1000,
        "word": best["label"],
    }


def _dump(fields: Fields) -> str:
    return orjson.dumps(fields).decode()
