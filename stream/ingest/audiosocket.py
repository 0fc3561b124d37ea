"""The dialect of Asterisk's AudioSocket, over TCP: docs/telephony/audiosocket.md."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from uuid import UUID

import numpy as np

from stream.audio.resample import Resampler
from stream.delivery.transport import Message
from stream.ingest.arrival import ArrivalClock
from stream.ingest.calls import CallDefaults, keys_pressed, start
from stream.ingest.dialect import Command, End
from stream.protocol.errors import ProtocolError
from stream.protocol.events import EncodedEvent
from stream.protocol.wire.codes import CloseReason
from stream.types import SAMPLE_RATE, AudioFormat

HEAD = 3
"""Bytes before the content of a packet: its kind, and its length (big-endian)."""

HANG_UP, CALL_ID, KEY, ERROR = 0x00, 0x01, 0x03, 0xFF
RATES = {
    0x10: 8_000,
    0x11: 12_000,
    0x12: 16_000,
    0x13: 24_000,
    0x14: 32_000,
    0x15: 44_100,
    0x16: 48_000,
    0x17: 96_000,
    0x18: 192_000,
}
"""Sample rate by kind of packet; the content is 16-bit PCM, little-endian, one channel."""

MAX_EARLY = 32


class AudioSocket:
    """A call from Asterisk's AudioSocket application or channel.

    https://docs.asterisk.org/Configuration/Channel-Drivers/AudioSocket/. It hangs up by closing
    the connection, and sends nothing while nothing is said.
    """

    name = "audiosocket"
    resumes = False
    parting_s = 0.0
    rest_s = 0.06
    answers = False

    def __init__(self, defaults: CallDefaults, clock: Callable[[], float] = time.monotonic) -> None:
        self._defaults = defaults
        self._bytes = bytearray()
        self._packets: deque[tuple[int, bytes]] = deque()
        """Complete packets without their commands: those behind one with a mistake wait."""
        self._id: str | None = None
        self._early: list[Command] = []
        """Keys that were pressed before the first audio."""
        self._rate = 0
        """Sample rate of the session; 0 before it starts."""
        self._clock = clock
        self._arrival = ArrivalClock(AudioFormat(), clock)
        self._resampler: tuple[int, Resampler] | None = None

    def connected(self) -> Iterable[Command]:
        """Return nothing: the call's id and its sample rate come in packets."""
        return ()

    def receive(self, message: Message) -> Iterator[Command]:
        """Yield the commands of all packets that are complete; TCP splits them anywhere."""
        self._bytes += message if isinstance(message, bytes) else message.encode()
        self._packets += self._complete()
        while self._packets:
            kind, content = self._packets.popleft()
            if kind in RATES:
                yield from self._audio(RATES[kind], content)
            elif kind == CALL_ID:
                self._identify(content)
            elif kind == KEY:
                key = keys_pressed(content.decode("ascii", "replace"))
                if self._rate:
                    yield key
                elif len(self._early) < MAX_EARLY:
                    self._early.append(key)
            elif kind == HANG_UP:
                yield from self._arrival.settle()
                yield End()

    def _complete(self) -> Iterator[tuple[int, bytes]]:
        while len(self._bytes) >= HEAD:
            kind, size = self._bytes[0], int.from_bytes(self._bytes[1:HEAD], "big")
            if kind not in RATES and kind not in (HANG_UP, CALL_ID, KEY, ERROR):
                # Lengths of foreign bytes mean nothing, so no packet can follow.
                raise ProtocolError(
                    "unknown_message", f"a packet of the unknown kind 0x{kind:02x}; not AudioSocket"
                )
            if len(self._bytes) < HEAD + size:
                return
            content = bytes(self._bytes[HEAD : HEAD + size])
            del self._bytes[: HEAD + size]
            yield kind, content

    def _audio(self, rate: int, content: bytes) -> Iterator[Command]:
        if not self._rate:
            yield from self._start(rate)
        if rate == self._rate:
            yield from self._arrival.audio(content)
            return
        if self._rate != SAMPLE_RATE:
            raise ProtocolError(
                "unsupported_encoding",
                f"the sample rate changed from {self._rate} to {rate} Hz in the call",
                fatal=False,
            )
        # The call was silent for so long that its session had to start without its rate.
        if self._resampler is None or self._resampler[0] != rate:
            self._resampler = rate, Resampler(rate)
        samples = np.frombuffer(content[: len(content) // 2 * 2], "<i2").astype(np.float32)
        resampled = self._resampler[1].push(samples / np.float32(32_768))
        steps = np.clip(np.rint(resampled * np.float32(32_768)), -32_768, 32_767)
        yield from self._arrival.audio(steps.astype("<i2").tobytes())

    def _identify(self, content: bytes) -> None:
        if len(content) != 16:
            raise ProtocolError(
                "invalid_message", f"an id of {len(content)} bytes instead of 16", fatal=False
            )
        self._id = self._id or str(UUID(bytes=content))

    def _start(self, rate: int) -> Iterator[Command]:
        self._rate, audio = rate, AudioFormat("linear16", rate)
        self._arrival = ArrivalClock(audio, self._clock)
        early, self._early = self._early, []
        return chain(start(audio, self._id, {}, self._defaults), early)

    def tick(self) -> Iterable[Command]:
        """Return the silence since the last packet, or start a call that was silent so far."""
        if self._rate:
            return self._arrival.tick()
        if self._id is None:
            return ()
        commands = self._start(SAMPLE_RATE)
        self._arrival.begin()
        return commands

    def send(self, event: EncodedEvent) -> Iterable[Message]:
        """Return nothing: audio is all that Asterisk understands, and it would be played."""
        return ()

    def close_code(self, reason: CloseReason) -> int:
        """Return 0: the end of the connection has no code."""
        return 0
