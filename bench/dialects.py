"""CPU of a server per second of audio in each dialect, as a ratio to the native protocol.

Both get the same audio in the same pieces, turn by turn, in real time on one server process. The
substitute model answers at once, so this is the cost of socket, dialect, session and events.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import socket
import statistics
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import Frame, Opcode

from bench.process import Server
from bench.speech import recordings
from bench.stand_ins import NULL
from client.audio.encoders import ENCODERS
from stream.audio.samples import Pcm
from stream.types import Encoding

SETTLE_S = 2.0
"""Seconds after the start of all calls in which nothing is measured."""

Packets = Callable[[int, Sequence[bytes]], bytes]
"""Returns the bytes on the socket for the piece with a number; a piece has one part per track."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A dialect as its peers speak it: address, first messages, and the packets of audio.

    `together` sends the channels interleaved in one packet, as the native protocol does. `answered`
    compares with a native producer that gets results, because these peers get some as well.
    """

    name: str
    audio: tuple[Encoding, int, int]
    chunk_ms: int
    path: str
    packets: Packets
    opening: Callable[[str], Sequence[object]] = lambda name: ()
    headers: Callable[[str], Mapping[str, str]] = lambda name: {}
    together: bool = True
    answered: bool = False

    def __str__(self) -> str:
        encoding, rate, channels = self.audio
        sides = ", stereo" if channels == 2 else ""
        return f"{encoding}, {rate // 1000} kHz{sides}, {self.chunk_ms} ms"

    def native(self) -> Caller:
        """Return the native protocol with the same audio."""
        encoding, rate, channels = self.audio
        path = f"/v1/stream?sample_rate={rate}&encoding={encoding}&channels={channels}"
        path += "" if self.answered else "&results=false"
        return Caller("native", self.audio, self.chunk_ms, path, binary)

    def pieces(self, pcm: Pcm) -> list[tuple[bytes, ...]]:
        """Return the whole pieces of a recording, each with one part or one per track."""
        encoding, rate, channels = self.audio
        size = rate * self.chunk_ms // 1000
        split = [pcm] if self.together else [pcm[:, n : n + 1] for n in range(channels)]
        ends = range(size, len(pcm) + 1, size)
        return [tuple(ENCODERS[encoding](part[end - size : end]) for part in split) for end in ends]


def binary(number: int, parts: Sequence[bytes]) -> bytes:
    """Return one binary message."""
    return Frame(Opcode.BINARY, parts[0]).serialize(mask=True)


def text(message: object) -> bytes:
    """Return a JSON message."""
    return Frame(Opcode.TEXT, orjson.dumps(message)).serialize(mask=True)


def twilio_media(number: int, parts: Sequence[bytes]) -> bytes:
    """Return a message for each track, as Twilio sends them."""
    names = ("inbound", "outbound")
    return b"".join(
        text(
            {
                "event": "media",
                "sequenceNumber": str(number + 2),
                "media": {
                    "track": track,
                    "chunk": str(number + 1),
                    "timestamp": str(20 * number),
                    "payload": base64.b64encode(part).decode(),
                },
                "streamSid": "MZ18ad3ab5a668481ce02b83e7395059f0",
            }
        )
        for track, part in zip(names, parts, strict=False)
    )


def twilio_start(tracks: Sequence[str], name: str) -> Sequence[object]:
    """Return the first two messages of Twilio."""
    media = {"encoding": "audio/x-mulaw", "sampleRate": 8_000, "channels": 1}
    call = {"streamSid": "MZ1", "callSid": name, "tracks": tracks, "mediaFormat": media}
    return (
        {"event": "connected", "protocol": "Call", "version": "1.0.0"},
        {"event": "start", "sequenceNumber": "1", "start": call, "streamSid": "MZ1"},
    )


def asterisk_start(name: str) -> Sequence[object]:
    """Return the first message of chan_websocket."""
    start = {"event": "MEDIA_START", "connection_id": "bench", "channel_id": name}
    return ({**start, "format": "ulaw", "optimal_frame_size": 160, "ptime": 20},)


def audiohook_open(name: str) -> Sequence[object]:
    """Return the first message of Genesys."""
    media = {"type": "audio", "format": "PCMU", "channels": ["external", "internal"], "rate": 8_000}
    parameters = {
        "organizationId": name,
        "conversationId": name,
        "participant": {"id": name, "ani": "", "aniName": "", "dnis": ""},
        "media": [media],
    }
    head = {"version": "2", "id": name, "type": "open", "seq": 1, "serverseq": 0}
    return ({**head, "parameters": parameters},)


def audiosocket(number: int, parts: Sequence[bytes]) -> bytes:
    """Return a packet of AudioSocket."""
    return b"\x10" + len(parts[0]).to_bytes(2, "big") + parts[0]


FUNASR = {"mode": "2pass", "audio_fs": 16_000, "wav_name": "bench", "wav_format": "pcm"}

CALLERS = {
    caller.name: caller
    for caller in (
        Caller("asterisk", ("mulaw", 8_000, 1), 20, "/v1/asterisk", binary, asterisk_start),
        Caller("audiosocket", ("linear16", 8_000, 1), 20, "", audiosocket),
        Caller(
            "audiohook",
            ("mulaw", 8_000, 2),
            100,
            "/v1/audiohook",
            binary,
            audiohook_open,
            lambda name: {"Audiohook-Session-Id": name},
        ),
        Caller(
            "twilio",
            ("mulaw", 8_000, 1),
            20,
            "/v1/twilio",
            twilio_media,
            partial(twilio_start, ["inbound"]),
        ),
        Caller(
            "twilio, both tracks",
            ("mulaw", 8_000, 2),
            20,
            "/v1/twilio",
            twilio_media,
            partial(twilio_start, ["inbound", "outbound"]),
            together=False,
        ),
        Caller("l16", ("linear16", 16_000, 1), 20, "/v1/l16?sample_rate=16000", binary),
        Caller(
            "vosk",
            ("linear16", 16_000, 1),
            200,
            "/",
            binary,
            lambda name: ({"config": {"sample_rate": 16_000}},),
            answered=True,
        ),
        Caller(
            "funasr",
            ("linear16", 16_000, 1),
            60,
            "/",
            binary,
            lambda name: ({**FUNASR, "is_speaking": True},),
            answered=True,
        ),
    )
}


@dataclass(slots=True)
class Call:
    """One call of a caller, which plays its pieces in a loop."""

    caller: Caller
    pieces: Sequence[tuple[bytes, ...]]
    number: int = 0
    _transport: asyncio.WriteTransport = field(init=False)
    _writer: asyncio.StreamWriter | None = None
    """Kept, because it closes the connection when it is collected."""
    _reading: asyncio.Task[None] = field(init=False)

    async def open(self, server: Server, audiosocket_port: int) -> None:
        """Connect and send the first messages."""
        name = str(uuid.uuid4())
        if not self.caller.path:
            reader, writer = await asyncio.open_connection("127.0.0.1", audiosocket_port)
            writer.write(b"\x01\x00\x10" + uuid.UUID(name).bytes)
            self._transport, self._writer = writer.transport, writer
            self._reading = asyncio.create_task(_discard(reader))
            return
        connection = await connect(
            server.ws + self.caller.path,
            compression=None,
            max_queue=None,
            proxy=None,
            open_timeout=60,
            additional_headers=self.caller.headers(name),
        )
        for message in self.caller.opening(name):
            connection.transport.write(text(message))
        self._transport = connection.transport
        self._reading = asyncio.create_task(_read(connection))

    def send(self) -> None:
        """Send the next piece."""
        parts = self.pieces[self.number % len(self.pieces)]
        self._transport.write(self.caller.packets(self.number, parts))
        self.number += 1

    @property
    def is_alive(self) -> bool:
        return not self._reading.done()

    async def close(self) -> None:
        """Drop the connection."""
        self._transport.abort()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)


async def _discard(reader: asyncio.StreamReader) -> None:
    while await reader.read(65_536):
        pass


async def _read(connection: ClientConnection) -> None:
    async for _ in connection:
        pass


def make_calls(caller: Caller, count: int) -> list[Call]:
    """Return calls with different recordings and starting points."""
    _, rate, channels = caller.audio
    mono = recordings(rate)
    if channels == 2:
        size = min(map(len, mono))
        recorded = [np.concatenate([mono[0][:size], mono[1][:size]], axis=1)]
    else:
        recorded = mono
    pieces = [caller.pieces(pcm) for pcm in recorded]
    calls = []
    for number in range(count):
        own = pieces[number % len(pieces)]
        offset = int(number * 0.618034 % 1 * len(own))
        calls.append(Call(caller, own[offset:] + own[:offset]))
    return calls


async def play(calls: Sequence[Call], seconds: float) -> None:
    """Send all calls' audio in real time for a while, evenly spaced."""
    chunk_s, begin = calls[0].caller.chunk_ms / 1000, time.monotonic()
    for tick in itertools.count():
        for number, call in enumerate(calls):
            due = begin + (tick + number / len(calls)) * chunk_s
            if due - begin > seconds:
                return
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            call.send()


async def cost(caller: Caller, server: Server, port: int, count: int, seconds: float) -> float:
    """Return CPU ms of the server per second of a call's audio. Exits if calls were ended."""
    calls = make_calls(caller, count)
    for call in calls:
        await call.open(server, port)
    playing = asyncio.create_task(play(calls, SETTLE_S + seconds))
    await asyncio.sleep(SETTLE_S)
    before, sent = server.cpu_s(), sum(call.number for call in calls)
    await playing
    used, pieces = server.cpu_s() - before, sum(call.number for call in calls) - sent
    ended = sum(not call.is_alive for call in calls)
    if ended:
        raise SystemExit(f"{caller.name}: the server ended {ended} of {count} calls")
    for call in calls:
        await call.close()
    # The sessions of these calls end before the next ones begin.
    for _ in range(75):
        try:
            series = await asyncio.to_thread(server.metrics)
        except OSError:
            continue  # a machine with other work may be too slow for the request's deadline
        if not sum(n for name, n in series.items() if "emotide_sessions_active" in name):
            break
        await asyncio.sleep(0.2)
    return used * 1000 / (pieces * caller.chunk_ms / 1000)


async def compare(
    names: Sequence[str], count: int, seconds: float, rounds: int
) -> list[dict[str, object]]:
    """Return a row per dialect: its cost and the native one, and the median of their ratios."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "limits.max_sessions": 10 * count,
        "limits.resume_s": 1,
        "telephony.audiosocket_port": port,
    }
    rows = []
    with Server(NULL, settings) as server:
        for name in names:
            caller = CALLERS[name]
            pairs = []
            for _ in range(rounds):
                native = await cost(caller.native(), server, port, count, seconds)
                pairs.append((native, await cost(caller, server, port, count, seconds)))
            ratios = [own / native for native, own in pairs]
            rows.append(
                {
                    "dialect": name,
                    "audio": str(caller),
                    "native ms/s": statistics.median(native for native, _ in pairs),
                    "dialect ms/s": statistics.median(own for _, own in pairs),
                    "ratio": statistics.median(ratios),
                    "least": min(ratios),
                    "most": max(ratios),
                }
            )
    return rows
