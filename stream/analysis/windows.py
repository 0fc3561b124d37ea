"""Sliding windows over the speech of one channel."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from stream.analysis.quality import QualityMeter
from stream.types import SAMPLE_RATE, Samples, Span, Trigger, Utterance, Window


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """Samples at 16 kHz; `lengths` ascend and are multiples of one VAD frame."""

    lengths: tuple[int, ...] = (SAMPLE_RATE, 2 * SAMPLE_RATE, 3 * SAMPLE_RATE)
    hop: int = SAMPLE_RATE

    @property
    def longest(self) -> int:
        return self.lengths[-1]


class History:
    """The newest audio of a channel: an int16 ring of fixed size, addressed by position."""

    def __init__(self, capacity: int) -> None:
        self._ring = np.zeros(capacity, np.int16)
        self.end = 0
        self.start = 0

    def write(self, samples: np.ndarray[tuple[int], np.dtype[np.int16]]) -> None:
        """Append at most `capacity` samples."""
        at = self.end % len(self._ring)
        fits = min(len(samples), len(self._ring) - at)
        self._ring[at : at + fits] = samples[:fits]
        self._ring[: len(samples) - fits] = samples[fits:]
        self.end += len(samples)

    def jump(self, position: int) -> None:
        """Go on at `position`; what lies before it is not audio that a window may hold."""
        self.end = self.start = position

    def real(self, start: int) -> int:
        """Where the audio of a window from `start` on really begins."""
        return max(start, self.start, self.end - len(self._ring))

    def read(self, start: int, end: int) -> Samples:
        """Float32 of `[start, end)`; audio before the first that is there is mirrored.

        A mirror keeps level and spectrum of the real audio, where zeros would change what a
        layer-normed model hears; frames before `start` of the stream are never counted.
        """
        first = self.real(start)
        at, count = first % len(self._ring), end - first
        real = np.concatenate(
            [self._ring[at : at + count], self._ring[: max(0, at + count - len(self._ring))]]
        )
        audio = real.astype(np.float32) * np.float32(1 / 32768)
        missing = first - start
        return np.pad(audio, (missing, 0), "symmetric") if missing > 0 else audio


class Windower:
    """Cuts a window when a hop of new speech has been heard, and at the end of an utterance.

    The elastic hop: a window that no backend has taken yet is followed by one that still covers
    its speech, as long as that fits the longest length. The caller says what was `taken`.
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
        self._cut = self._since = 0
        self.handed = 0
        """Speech before this position was handed to a backend."""

    def hear(self, speech: Utterance) -> Iterator[Window]:
        """The window due now that the open utterance reaches to `speech.end`, if one is.

        More than one when a pause that turned out to be within speech brings more than fits.
        """
        since = max(self._cut, speech.start)
        while speech.end - since >= self._settings.hop:
            end = min(speech.end, since + self._settings.longest)
            yield self._window(Utterance(speech.index, speech.start, end), "interval")
            since = end

    def close(self, utterance: Utterance) -> Window | None:
        """The window over what the ended utterance still has unheard, if anything."""
        window = None
        if utterance.end > max(self._cut, utterance.start):
            window = self._window(utterance, utterance.trigger)
        self._ended.append((utterance.start, utterance.end))
        return window

    def taken(self, window: Window) -> None:
        """A backend has `window` now: its speech need not be covered again."""
        self.handed = max(self.handed, window.end)

    def drop(self, window: Window) -> None:
        """What is new in `window`, the newest one, was no speech: no window shall cover it."""
        self._dropped.append((self._since, window.end))

    def _window(self, speech: Utterance, trigger: Trigger) -> Window:
        end = speech.end
        self._since = max(self._cut, speech.start)
        while self._ended and self._ended[0][1] <= end - self._settings.longest:
            self._ended.popleft()
        while self._dropped and self._dropped[0][1] <= end - self._settings.longest:
            self._dropped.popleft()
        spans = without((*self._ended, (speech.start, end)), self._dropped)
        fresh = next(max(start, self.handed) for start, stop in spans if stop > self.handed)
        context = min(fresh, speech.start)
        lengths = self._settings.lengths
        length = next((n for n in lengths if end - context <= n), lengths[-1])
        start = end - length
        heard = self._history.real(start)
        self._cut = end
        audio = self._history.read(start, end)
        self._meter.spectrum(audio)
        self._meter.sound(audio[self._since - end :])
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
    """The parts of `spans` inside `[start, end)`; none where that is empty."""
    inside = ((max(a, start), min(b, end)) for a, b in spans)
    return tuple(span for span in inside if span[0] < span[1])


def without(spans: tuple[Span, ...], holes: Iterable[Span]) -> tuple[Span, ...]:
    """The parts of `spans` that lie in none of `holes`."""
    for start, end in holes:
        pieces = (part for a, b in spans for part in ((a, min(b, start)), (max(a, end), b)))
        spans = tuple((a, b) for a, b in pieces if a < b)
    return spans


def total(spans: tuple[Span, ...]) -> int:
    """Samples in `spans`, which do not overlap."""
    return sum(end - start for start, end in spans)
