"""A toy dialect that is as different from `emotide.v1` as it can be: binary frames over TCP.

A frame is a letter, a length (2 bytes, big-endian) and content: C configuration ("8000 mulaw
call-1"), A audio, P a request for a pong, F flush, H hang up. Scores come back as lines of text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stream.delivery.transport import Message
from stream.ingest.dialect import Audio, Command, End, Flush, Reply, Start
from stream.protocol.errors import ProtocolError
from stream.protocol.events import EncodedEvent
from stream.protocol.messages import SessionConfig

MAX_BYTES = 4_096


class ToyDialect:
    """A producer that speaks frames; see `stream.ingest.dialect.Dialect`."""

    name = "toy"
    resumes = False
    answers = True
    parting_s = 0.0
    rest_s = 0.0

    def __init__(self) -> None:
        self._bytes = bytearray()

    def connected(self) -> Iterable[Command]:
        return ()

    def receive(self, message: Message) -> Iterator[Command]:
        """Yield the commands of all frames that are complete; TCP splits them anywhere."""
        assert isinstance(message, bytes)
        self._bytes += message
        while len(self._bytes) >= 3:
            size = int.from_bytes(self._bytes[1:3], "big")
            if size > MAX_BYTES:
                raise ProtocolError("message_too_large", f"a frame had {size} bytes")
            if len(self._bytes) < 3 + size:
                return
            kind, content = chr(self._bytes[0]), bytes(self._bytes[3 : 3 + size])
            del self._bytes[: 3 + size]
            yield self._command(kind, content)

    def _command(self, kind: str, content: bytes) -> Command:
        match kind:
            case "C":
                return Start(_configuration(content.decode("ascii", "replace")))
            case "A":
                return Audio(content)
            case "P":
                return Reply(b"pong " + content + b"\n")
            case "F":
                return Flush()
            case "H":
                return End()
        raise ProtocolError("unknown_message", f"unknown frame {kind!r}", fatal=False)

    def tick(self) -> Iterable[Command]:
        return ()

    def send(self, event: EncodedEvent) -> Iterable[Message]:
        match event.type:
            case "emotion.score":
                best = event.body["top"]
                return (f"score {best['label']} {best['score']:.2f}\n",)
            case "error":
                return (f"error {event.body['code']}: {event.body['message']}\n",)
            case "session.closed":
                return (f"bye {event.body['reason']}\n",)
        return ()

    def close_code(self, reason: str) -> int:
        return 0


def _configuration(text: str) -> SessionConfig:
    try:
        rate, encoding, stream_id = text.split(" ")
        audio = {"sample_rate": int(rate), "encoding": encoding}
        return SessionConfig.model_validate({"audio": audio, "stream_id": stream_id})
    except ValueError:
        raise ProtocolError(
            "config_invalid", f"expected RATE ENCODING ID, not {text[:50]!r}"
        ) from None
