"""Sliding windows over the speech of one channel."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.analysis.quality import QualityMeter
from stream.types import SAMPLE_RATE, Samples, Span, Trigger, Utterance, Window


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """Window lengths and hop in samples at 16 kHz.

    `lengths` ascend and are multiples of one VAD frame.
    """

    lengths: tuple[int, ...] = (SAMPLE_RATE, 2 * SAMPLE_RATE, 3 * SAMPLE_RATE)
    hop: int = SAMPLE_RATE

    @property
    def longest(self) -> int:
        return self.lengths[-1]


class History:
    """Newest audio of a channel: an int16 ring of fixed size, addressed by position."""

    def __init__(self, capacity: int) -> None:
        self._ring = np.zeros(capacity, np.int16)
        self.end = 0
        self.start = 0

    def write(self, samples: NDArray[np.int16] | Samples) -> NDArray[np.int16]:
        """Append at most `capacity` samples in steps of int16; return them as int16.

        The result may be a view of the ring, which is valid until the next call.
        """
        count, at = len(samples), self.end % len(self._ring)
        self.end += count
        fits = len(self._ring) - at
        if count <= fits:
            view = self._ring[at : at + count]
            view[:] = samples
            return view
        self._ring[at:] = samples[:fits]
        self._ring[: count - fits] = samples[fits:]
        return samples.astype(np.int16)

    def jump(self, position: int) -> None:
        """Continue at `position`; windows must not contain the audio before it."""
        self.end = self.start = position

    def real_start(self, start: int) -> int:
        """Return the position at which the real audio of a window from `start` on begins."""
        return max(start, self.start, self.end - len(self._ring))

    def copy(self, start: int, end: int) -> NDArray[np.int16]:
        """Return a copy of int16 of `[start, end)`, without what precedes `real_start(start)`."""
        first = self.real_start(start)
        at, count = first % len(self._ring), max(0, end - first)
        real = self._ring[at : at + count]
        return np.concatenate([real, self._ring[: count - len(real)]])

    def read(self, start: int, end: int) -> Samples:
        """Return float32 of `[start, end)`; audio before `real_start(start)` is mirrored.

        A mirror keeps the level and spectrum of the real audio; zeros would change the statistics
        of a layer-normed model. Mirrored frames are never counted.
        """
        first = self.real_start(start)
        at, count = first % len(self._ring), end - first
        real = self._ring[at : at + count]
        if len(real) < count:
            real = np.concatenate([real, self._ring[: count - len(real)]])
        audio = real.astype(np.float32)
        audio *= np.float32(1 / 32768)
        missing = first - start
        return np.pad(audio, (missing, 0), "symmetric") if missing > 0 else audio


class Windower:
    """Cutter of windows: one after each hop of new speech, and one at the end of an utterance.

    The hop is elastic: while no backend has taken a window, the next window also covers its speech,
    as far as the longest length permits. The caller reports each taken window by `taken`.
    """

    def __init__(
        self, settings: WindowSettings, channel: int, history: History, meter: QualityMeter
    ) -> None:
        self._settings = settings
        self._channel = channel
        self._history = history
        self._meter = meter
        self._ended: deque[Span] = deque()
        self._dropped: deque[Span] = deque()
        self._newest_end = self._newest_start = 0
        self.taken_until = 0
        """End of the newest window that a backend has taken."""

    def due(self, start: int, end: int) -> bool:
        """Return whether a window is due now that the open utterance is `[start, end)`."""
        return end - max(self._newest_end, start) >= self._settings.hop

    def next_due(self, start: int) -> int:
        """Return the end of the next window, if the utterance that began at `start` goes on."""
        return max(self._newest_end, start) + self._settings.hop

    def extend(self, speech: Utterance) -> Iterator[Window]:
        """Yield the windows that are due now that the open utterance ends at `speech.end`.

        It is at most one, unless a pause that turned out to be part of the utterance adds more than
        the longest window holds.
        """
        since = max(self._newest_end, speech.start)
        while speech.end - since >= self._settings.hop:
            end = min(speech.end, since + self._settings.longest)
            yield self._window(Utterance(speech.index, speech.start, end), "interval")
            since = end

    def close(self, utterance: Utterance) -> Window | None:
        """Return the window over the part of the ended utterance that no window covers, if any."""
        window = None
        if utterance.end > max(self._newest_end, utterance.start):
            window = self._window(utterance, utterance.trigger)
        self._ended.append((utterance.start, utterance.end))
        return window

    def taken(self, window: Window) -> None:
        """Note that a backend has taken `window`: later windows need not cover its speech."""
        self.taken_until = max(self.taken_until, window.end)

    def drop(self, window: Window) -> int:
        """Exclude the new part of `window`, the newest, from later windows: it is not speech.

        Return its number of samples.
        """
        self._dropped.append((self._newest_start, window.end))
        return window.end - self._newest_start

    def _window(self, speech: Utterance, trigger: Trigger) -> Window:
        end = speech.end
        self._newest_start = max(self._newest_end, speech.start)
        while self._ended and self._ended[0][1] <= end - self._settings.longest:
            self._ended.popleft()
        while self._dropped and self._dropped[0][1] <= end - self._settings.longest:
            self._dropped.popleft()
        spans = subtract((*self._ended, (speech.start, end)), self._dropped)
        taken = self.taken_until
        fresh = next(max(start, taken) for start, stop in spans if stop > taken)
        context = min(fresh, speech.start)
        lengths = self._settings.lengths
        length = next((n for n in lengths if end - context <= n), lengths[-1])
        start = end - length
        heard = self._history.real_start(start)
        self._newest_end = end
        audio = self._history.read(start, end)
        self._meter.spectrum(audio)
        self._meter.sound(audio[self._newest_start - end :])
        return Window(
            channel=self._channel,
            start=start,
            audio=audio,
            heard=heard,
            speech=clip(spans, heard, end),
            fresh=max(fresh, heard),
            utterance=speech.index,
            trigger=trigger,
            quality=self._meter.quality(),
        )


def clip(spans: tuple[Span, ...], start: int, end: int) -> tuple[Span, ...]:
    """Return the parts of `spans` inside `[start, end)`; none if that range is empty."""
    inside = ((max(a, start), min(b, end)) for a, b in spans)
    return tuple(span for span in inside if span[0] < span[1])


def subtract(spans: tuple[Span, ...], holes: Iterable[Span]) -> tuple[Span, ...]:
    """Return the parts of `spans` outside all `holes`."""
    for start, end in holes:
        pieces = (part for a, b in spans for part in ((a, min(b, start)), (max(a, end), b)))
        spans = tuple((a, b) for a, b in pieces if a < b)
    return spans


def total(spans: tuple[Span, ...]) -> int:
    """Return the number of samples in `spans`, which must not overlap."""
    return sum(end - start for start, end in spans)
