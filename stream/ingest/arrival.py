"""Silence of producers that send nothing while nothing is said: the time between messages. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from stream.ingest.dialect import Audio, Command, Silence
from stream.types import AudioFormat

LATE_S = 0.2
"""Audio that comes later than this, beyond its own length, may have had silence before it."""

SETTLE_S = 0.05
"""Time after which late audio is taken for what comes after silence: nothing else came."""

WAIT_S = 1.0
"""Time without audio after which silence is counted before more audio has come."""

STALL_S = 0.3
"""Time between two ticks in which this process did not run, so audio may wait in the socket."""


class ArrivalClock:
    """Compares the audio of a call with the time in which it came.

    Asterisk sends no frames while nothing is played or said, so only the time of arrival shows
    where in the call a frame belongs. A frame that comes late is held until the next one: after
    silence that comes a frame later, after a stall of the network or of a process many come at
    once. `clock` returns seconds.
    """

    def __init__(self, audio: AudioFormat, clock: Callable[[], float] = time.monotonic) -> None:
        self._width = audio.bytes_per_frame
        self._rate = audio.sample_rate
        self._clock = clock
        self._begin: float | None = None
        self._samples = 0
        """Samples of the call so far, silence included."""
        self._held = bytearray()
        """Audio that came late, the last of it at `_held_at`."""
        self._held_at = self._ticked = 0.0

    def begin(self) -> None:
        """Start the time of the call; otherwise it starts with its first audio."""
        self._begin = self._clock()

    def audio(self, data: bytes) -> Iterator[Command]:
        """Yield audio that has just come, after the silence before it."""
        now, samples = self._clock(), len(data) // self._width
        if self._begin is None:
            # The first frame was recorded before it came.
            self._begin = now - samples / self._rate
        if self._held and now - self._held_at > samples / self._rate / 2:
            yield from self.settle()
        self._held += data
        self._held_at = now
        if self._missing(now) <= LATE_S * self._rate:
            yield from self._release()

    def settle(self) -> Iterator[Command]:
        """Yield the audio that is held, after silence for the time before it."""
        if self._held:
            silence = self._missing(self._held_at)
            if silence > LATE_S * self._rate:
                self._samples += silence
                yield Silence(silence)
            yield from self._release()

    def tick(self) -> Iterator[Command]:
        """Yield what is due without more audio; call at least every `STALL_S` seconds."""
        now = self._clock()
        stalled, self._ticked = now - self._ticked > STALL_S, now
        if self._begin is None or stalled:
            return
        if now - self._held_at > SETTLE_S:
            yield from self.settle()
        if not self._held and (silence := self._missing(now)) > WAIT_S * self._rate:
            silence -= int(LATE_S * self._rate)
            self._samples += silence
            yield Silence(silence)

    def _release(self) -> Iterator[Command]:
        data, self._held = bytes(self._held), bytearray()
        self._samples += len(data) // self._width
        yield Audio(data)

    def _missing(self, now: float) -> int:
        """Return the samples until `now` for which nothing came."""
        assert self._begin is not None
        passed = round((now - self._begin) * self._rate)
        return passed - self._samples - len(self._held) // self._width
