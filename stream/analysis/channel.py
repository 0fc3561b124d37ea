"""Analysis of one channel: audio at 16 kHz in, windows and events out. Pure and synchronous."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from stream.analysis.baseline import BaselineSettings
from stream.analysis.highpass import HighPass
from stream.analysis.hysteresis import FrameDecider
from stream.analysis.levels import clipped_samples, frame_power
from stream.analysis.quality import QualityMeter
from stream.analysis.scores import ChannelScores
from stream.analysis.talk import TalkDetector
from stream.analysis.timeline import RollingSettings
from stream.analysis.vad import Segmenter, VadSettings
from stream.analysis.windows import History, Windower, WindowSettings, clip, total
from stream.terms import End
from stream.types import (
    FRAME,
    SAMPLE_RATE,
    Event,
    FrameScores,
    Gap,
    GapReason,
    ModelInfo,
    Quality,
    Samples,
    Segment,
    SpeechEnd,
    SpeechStart,
    Utterance,
    UtteranceFrames,
    Window,
)

BLOCK = 16 * FRAME
"""Samples processed at a time at most, so that the history stays small."""

START = 10 * FRAME
"""Samples gathered in silence: fewer calls cost less, and `speech.start` waits for them."""

OVERDUE = 3 * FRAME
"""Samples that are gathered while a window is overdue and nobody speaks."""

_STEPS = np.float32(32_768)
"""Steps of int16 in full scale."""


class ChannelPipeline:
    """Audio → high-pass → VAD → windows, of one channel, and what becomes of each window.

    Offset, hum and rumble are filtered out before everything: level, VAD, quality and windows.

    The caller must report the outcome of every window: `taken` when a backend starts on it, then
    `scored` or `failed`; or `superseded` if a newer one replaced it before it was taken. `scores`
    turns the outputs into scores.
    """

    def __init__(
        self,
        channel: int,
        source_rate: int,
        model: ModelInfo,
        vad: VadSettings,
        windows: WindowSettings,
        rolling: RollingSettings,
        frames: bool = False,
        embeddings: bool = False,
        baseline: BaselineSettings | None = None,
        audio: bool = False,
    ) -> None:
        self.channel = channel
        self._high_pass = HighPass()
        self._decider = FrameDecider.of(vad)
        self._segmenter = Segmenter(vad)
        self._meter = QualityMeter(source_rate, vad.only_speech)
        self._audio = audio
        longest = (
            max(windows.longest, (vad.max_utterance + 1) * FRAME) if audio else windows.longest
        )
        self._history = History(longest + (vad.hangover + 1) * FRAME + BLOCK)
        self._windower = Windower(windows, channel, self._history, self._meter)
        self._partial = np.zeros(0, np.float32)
        """Samples of an incomplete frame, in steps of int16."""
        self._unsettled: deque[tuple[Utterance, Quality, NDArray[np.int16] | None]] = deque()
        """Utterances without a segment, their quality, and their audio if it is kept."""
        self._open_windows = 0
        self._settled = self._dropped_until = 0
        self._last_ended: Utterance | None = None
        self.scores = ChannelScores(
            model,
            rolling,
            vad.max_utterance * FRAME / SAMPLE_RATE,
            2 * windows.longest / SAMPLE_RATE,
            frames=frames,
            embeddings=embeddings,
            baseline=baseline,
        )
        self.utterances = 0
        self._ended_samples = self._dropped_samples = 0
        self.lost = 0
        self.talk: TalkDetector | None = None
        """Detector that gets the decisions on all frames, if the conversation is measured."""

    @property
    def position(self) -> int:
        """Number of samples received, including an incomplete frame."""
        return self._history.end + len(self._partial)

    @property
    def speaking(self) -> bool:
        return self._segmenter.speaking

    @property
    def due_in(self) -> int:
        """Samples after `position` at which the next window or end of an utterance can come.

        `START` while nobody speaks. In a pause a window may be overdue: the next voiced frame
        brings it, but the audio until then is not worth a call for every frame.
        """
        segmenter = self._segmenter
        if not segmenter.speaking:
            return START
        window = max(self._windower.next_due(segmenter.start), segmenter.position + OVERDUE)
        return min(window, segmenter.next_end) - self.position

    @property
    def speech(self) -> int:
        """Samples of all ended utterances, without those that are tones or steady noise."""
        return max(0, self._ended_samples - self._dropped_samples)

    def feed(self, samples: Samples) -> Iterator[Window | Event]:
        """Process float32[n]; yield windows and events in the order of time.

        The iterator must be exhausted. It is lazy, so that the caller can report `taken` between
        two windows of one long chunk.
        """
        if not len(samples):
            return
        steps = samples * _STEPS
        np.rint(steps, out=steps)
        if len(self._partial):
            steps = np.concatenate([self._partial, steps])
        end = len(steps) // FRAME * FRAME
        # Not a view: it would keep all of `steps` until the next call.
        self._partial = steps[end:].copy()
        for start in range(0, end, BLOCK):
            yield from self._block(steps[start : min(start + BLOCK, end)])

    def _block(self, steps: Samples) -> Iterable[Window | Event]:
        """Process float32[n * FRAME] in steps of int16."""
        clipped = clipped_samples(steps)
        steps = self._high_pass.push(steps)
        np.rint(steps, out=steps)
        power = frame_power(steps)
        decisions = self._decider.decide(self._history.write(steps), power)
        if self.talk is not None:
            self.talk.push(decisions)
        # Most blocks have no event: frame by frame they would cost 3 % of the pipeline more.
        voiced, frames = decisions[0], len(decisions)
        if decisions.count(voiced) == frames and self._advance(voiced, frames):
            if voiced:
                self._meter.speech(power, clipped)
            else:
                self._meter.pause(power)
            return ()
        return self._step(power, clipped, decisions)

    def _advance(self, voiced: bool, frames: int) -> bool:
        """Process equal decisions if no event and no window follows; return False otherwise."""
        segmenter = self._segmenter
        end = segmenter.position + frames * FRAME
        if voiced and (not segmenter.speaking or self._windower.due(segmenter.start, end)):
            return False
        return segmenter.advance(voiced, frames)

    def _step(
        self, power: list[float], clipped: list[int], decisions: list[bool]
    ) -> Iterator[Window | Event]:
        segmenter, meter, windower = self._segmenter, self._meter, self._windower
        for level, clips, voiced in zip(power, clipped, decisions, strict=True):
            spoke = segmenter.speaking
            ended = segmenter.step(voiced)
            speaking = segmenter.speaking
            if speaking and not spoke:
                meter.begin()
                yield SpeechStart(self.channel, segmenter.index, segmenter.start)
            if not voiced:
                meter.pause((level,))
            elif speaking:
                meter.speech((level,), (clips,))
            if ended is not None:
                yield from self._end(ended)
            elif voiced and speaking and windower.due(segmenter.start, segmenter.end):
                utterance = Utterance(segmenter.index, segmenter.start, segmenter.end)
                for window in windower.extend(utterance):
                    yield from self._emit_window(window)

    def flush(self, trigger: End = "flush") -> Iterator[Window | Event]:
        """End the open utterance now, so that all speech received so far gets its result."""
        ended = self._segmenter.close(trigger)
        if ended is not None:
            yield from self._end(ended)

    def skip(self, samples: int) -> Iterator[Window | Event]:
        """Advance by `samples` without audio; the open utterance ends before the hole."""
        yield from self.flush()
        target = self.position + samples
        pad = -len(self._partial) % FRAME
        if samples < pad + FRAME:
            yield from self.feed(np.zeros(samples, np.float32))
            return
        yield from self.feed(np.zeros(pad, np.float32))
        aligned = target // FRAME * FRAME
        self._history.jump(aligned)
        self._segmenter.jump(aligned)
        if self.talk is not None:
            self.talk.jump(aligned)
        self._high_pass.reset()
        self._decider.reset()
        self._partial = np.zeros(target - aligned, np.float32)

    def _end(self, utterance: Utterance) -> Iterator[Window | Event]:
        self._last_ended = utterance
        self.utterances += 1
        self._ended_samples += utterance.end - utterance.start
        yield SpeechEnd(
            self.channel, utterance.index, utterance.start, utterance.end, utterance.trigger
        )
        window = self._windower.close(utterance)
        # Cut now, because a hole may follow before the utterance is scored.
        audio = self._history.copy(utterance.start, utterance.end) if self._audio else None
        self._unsettled.append((utterance, self._meter.quality(), audio))
        if window is not None:
            yield from self._emit_window(window)
        yield from self._segments()

    def _emit_window(self, window: Window) -> Iterator[Window]:
        """Yield the window, or drop it if its new part is not speech.

        A dropped window settles only after all windows before it, because the segments of earlier
        utterances come first.
        """
        if not self._meter.not_speech:
            self._open_windows += 1
            yield window
            return
        self._dropped_samples += self._windower.drop(window)
        self._dropped_until = window.end
        self._settle(0)

    def _settle(self, end: int) -> None:
        """Mark speech up to `end` as settled, and dropped windows as well if none is open."""
        dropped_until = 0 if self._open_windows else self._dropped_until
        self._settled = max(self._settled, end, dropped_until)

    def taken(self, window: Window) -> None:
        """Note that a backend has taken the window: later windows need not cover its speech."""
        self._windower.taken(window)

    def superseded(self, old: Window, new: Window) -> list[Event]:
        """Note that `new` replaced the waiting `old`; return a gap for speech not in `new`."""
        self._open_windows -= 1
        return self._gap(old, max(old.fresh, self._windower.taken_until), new.heard, "overload")

    def failed(self, window: Window, reason: GapReason) -> list[Event]:
        """Note that the window will not be scored; return the gap and the segments now due."""
        events = self._gap(window, max(window.fresh, self._settled), window.end, reason)
        self._open_windows -= 1
        self._settle(window.end)
        return events + list(self._segments())

    def scored(self, output: FrameScores) -> list[Event]:
        """Note that the window has an output; return its score and the segments now due."""
        self._open_windows -= 1
        self._settle(output.window.end)
        return [self.scores.add(output), *self._segments()]

    def frames(self) -> UtteranceFrames | None:
        """Return the scored frames of the newest utterance that has any; None if none has."""
        for utterance in (self._segmenter.speech, self._last_ended):
            frames = None if utterance is None else self.scores.frames(utterance)
            if frames is not None:
                return frames
        return None

    def _segments(self) -> Iterator[Segment]:
        while self._unsettled and self._unsettled[0][0].end <= max(self._settled, 0):
            yield self.scores.segment(self.channel, *self._unsettled.popleft())

    def _gap(self, window: Window, since: int, until: int, reason: GapReason) -> list[Event]:
        lost = clip(window.speech, since, until)
        if not lost:
            return []
        self.lost += total(lost)
        return [Gap(self.channel, lost[0][0], lost[-1][1], total(lost), reason)]
