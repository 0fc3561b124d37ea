"""Tracks of a call, placed by the timestamps of their packets and interleaved. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from stream.audio.codecs import encoded_silence
from stream.ingest.dialect import Audio, Command, Skip
from stream.types import AudioFormat

JITTER_S = 0.2
"""Time for which a packet is waited for, while later ones are there."""

SLACK_S = 0.015
"""Deviation of a timestamp from the end of the packet before it that is no gap: less than the
shortest packet."""

HOLE_S = 1.0
"""A gap of all tracks that is not filled with silence, but skipped."""

RESTART_S = 600.0
"""A timestamp this far ahead, or more than a second back, begins a new count."""


class Track:
    """Packets of one voice: those that wait in order, and the bytes that are next."""

    def __init__(self, audio: AudioFormat) -> None:
        self._audio = audio
        self._width = audio.bytes_per_frame
        self._waiting: list[tuple[int, int, bytes]] = []
        self._count = 0
        self.end = 0
        """Position behind the last byte that is in order, in samples."""
        self._next = bytearray()

    def add(self, position: int, data: bytes) -> None:
        """Add the packet of a position."""
        # The count keeps packets of one position in their order.
        self._count += 1
        heapq.heappush(self._waiting, (position, self._count, data))

    @property
    def begin(self) -> int:
        """Position of the first sample that waits; -1 if none does."""
        if self._next:
            return self.end - len(self._next) // self._width
        return self._waiting[0][0] if self._waiting else -1

    def spans(self) -> Iterator[tuple[int, int]]:
        """Yield position and length, in samples, of all that waits."""
        if self._next:
            yield self.begin, len(self._next) // self._width
        for position, _, data in self._waiting:
            yield position, len(data) // self._width

    def advance(self, until: int | None, slack: int) -> None:
        """Put packets in order: those without a gap, and those before `until` whatever precedes."""
        while self._waiting:
            position, _, data = self._waiting[0]
            gap = position - self.end
            if gap > slack and (until is None or position >= until):
                return
            heapq.heappop(self._waiting)
            if gap > slack:
                self._silence(gap)
            elif gap < -slack:
                data = data[-gap * self._width :]  # late, or a duplicate
            self._next += data
            self.end += len(data) // self._width

    def fill(self, until: int) -> None:
        """Add silence up to a position for which nothing came."""
        if until > self.end:
            self._silence(until - self.end)

    def _silence(self, samples: int) -> None:
        self._next += encoded_silence(self._audio, samples)
        self.end += samples

    def take(self, samples: int) -> bytes:
        """Return the next `samples`, which must be in order."""
        size = samples * self._width
        data = bytes(self._next[:size])
        del self._next[:size]
        return data

    def jump(self, position: int) -> None:
        """Go on at a position; nothing before it is in order."""
        self.end = max(self.end, position)


class Tracks:
    """Packets of all voices of a call in, interleaved audio out.

    Audio goes where its timestamp says. A packet that is missing is waited for while later ones are
    at most `JITTER_S` ahead; then silence takes its place. Packets later than that are dropped.
    """

    def __init__(self, audio: AudioFormat, names: Sequence[str]) -> None:
        self._rate = audio.sample_rate
        self._audio = AudioFormat(audio.encoding, audio.sample_rate)
        self._width = self._audio.bytes_per_frame
        self._slack = round(SLACK_S * self._rate)
        self._tracks = {name: Track(self._audio) for name in names}
        self._all = tuple(self._tracks.values())
        self._origins: dict[str, int] = {}
        """Position of the sender's clock at which the stream begins, by track."""
        self._at = 0
        """Samples of the stream that were returned."""
        self._newest = 0

    def __contains__(self, name: str) -> bool:
        return name in self._tracks

    def add(self, name: str, timestamp_ms: float | None, data: bytes) -> Iterator[Command]:
        """Add a packet of a track; yield what is complete by it.

        A packet without a timestamp follows the one before it.
        """
        track = self._tracks[name]
        samples = len(data) // self._width
        position = self._position(name, timestamp_ms)
        track.add(position, data[: samples * self._width])
        self._newest = max(self._newest, position + samples)
        yield from self._release(self._newest - round(JITTER_S * self._rate))

    def finish(self) -> Iterator[Command]:
        """Yield the rest."""
        yield from self._release(self._newest)

    def _position(self, name: str, timestamp_ms: float | None) -> int:
        """Return the position of a packet; timestamps are milliseconds since the stream began.

        A count that begins elsewhere, or that jumps, goes on where the newest packet ended.
        """
        if timestamp_ms is None:
            return max(self._tracks[name].end, self._at)
        clock = round(timestamp_ms * self._rate / 1000)
        first = name not in self._origins
        ahead = clock - self._origins.get(name, 0) - self._newest
        longest = HOLE_S if first else RESTART_S
        if ahead < -HOLE_S * self._rate or ahead > longest * self._rate:
            self._origins[name] = clock - self._newest
        return clock - self._origins.setdefault(name, 0)

    def _release(self, until: int) -> Iterator[Command]:
        """Yield all audio that is in order in every track, and all before `until` in any case."""
        hole = HOLE_S * self._rate
        while until - self._at > hole:
            begin = min((track.begin for track in self._all if track.begin >= 0), default=until)
            gap = min(begin, until) - self._at
            if gap > hole:
                yield Skip(gap)
                self._at += gap
                for track in self._all:
                    track.jump(self._at)
            else:
                yield from self._put(min(until, self._hole_after(hole)))
        yield from self._put(until)

    def _hole_after(self, hole: float) -> int:
        """Return the position at which the next hole of all tracks begins."""
        end = self._at
        for position, samples in sorted(span for track in self._all for span in track.spans()):
            if position - end > hole:
                break
            end = max(end, position + samples)
        return end

    def _put(self, until: int) -> Iterator[Command]:
        for track in self._all:
            track.advance(None, self._slack)
            track.advance(until, self._slack)
        end = max(min(track.end for track in self._all), until)
        for track in self._all:
            track.fill(end)
        samples = end - self._at
        if samples > 0:
            self._at = end
            yield Audio(self._interleaved([track.take(samples) for track in self._all]))

    def _interleaved(self, parts: list[bytes]) -> bytes:
        if len(parts) == 1:
            return parts[0]
        width = self._width
        mixed = bytearray(len(parts) * len(parts[0]))
        for channel, part in enumerate(parts):
            for byte in range(width):
                mixed[channel * width + byte :: len(parts) * width] = part[byte::width]
        return bytes(mixed)
