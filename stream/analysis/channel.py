"""Analysis of one channel: audio at 16 kHz in, windows and events out. Pure and synchronous."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stream.analysis.baseline import Baseline, BaselineSettings, adapted
from stream.analysis.highpass import HighPass
from stream.analysis.hysteresis import FrameDecider
from stream.analysis.levels import clipped_samples, frame_power
from stream.analysis.quality import QualityMeter, hints
from stream.analysis.talk import TalkDetector
from stream.analysis.timeline import Mean, RollingSettings, Timeline, softmax, speech_mask
from stream.analysis.vad import Segmenter, VadSettings
from stream.analysis.windows import History, Windower, WindowSettings, clip, total
from stream.terms import End
from stream.types import (
    FRAME,
    SAMPLE_RATE,
    BaselineUse,
    Event,
    Features,
    FramePosteriors,
    FrameScores,
    Gap,
    GapReason,
    ModelInfo,
    Quality,
    Samples,
    Score,
    Segment,
    SpeechEnd,
    SpeechStart,
    Utterance,
    UtteranceFrames,
    Window,
)

BLOCK = 16 * FRAME
"""Samples processed at a time at most, so that the history stays small."""

_STEPS = np.float32(32_768)
"""Steps of int16 in full scale."""


class ChannelPipeline:
    """Audio → high-pass → VAD → windows, and frame logits → rolling scores, of one channel.

    Offset, hum and rumble are filtered out before everything: level, VAD, quality and windows.

    The caller must report the outcome of every window: `taken` when a backend starts on it, then
    `scored` or `failed`; or `superseded` if a newer one replaced it before it was taken.
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
        self._model = model
        self._rolling = rolling
        self._frames = frames
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
        self._emitted_until = self._scored_until = 0
        self._last_ended: Utterance | None = None
        utterance = vad.max_utterance * FRAME / SAMPLE_RATE
        slack = 2 * windows.longest / SAMPLE_RATE
        hop, reach = model.frame_hop, max((*rolling.horizons, utterance))
        self._baseline: Baseline | None = None
        if baseline is not None:
            self._baseline = Baseline(model.labels, model.reference, baseline)
        # With a baseline, a row has the logits and what the baseline subtracts from them.
        width = len(model.labels) * (1 if baseline is None else 2)
        self._timeline = Timeline(width, hop, reach + slack)
        # A row is a hundred times as wide as one of labels, so this holds one utterance only.
        self._embeddings = Timeline(model.dim, hop, utterance + slack) if embeddings else None
        self.utterances = 0
        self._ended_samples = self._dropped_samples = 0
        self.one_voice = False
        """True if another channel carries the same voice."""
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
        self._partial = steps[end:]
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

    def scored(self, scores: FrameScores) -> list[Event]:
        """Add the output for one window to the timeline; return its score and the segments due."""
        window, logits = scores.window, scores.logits
        mask = speech_mask(window, len(logits), self._model.frame_hop)
        self._timeline.add(window, self._rows(logits), mask)
        if self._embeddings is not None and scores.features is not None:
            self._embeddings.add(window, scores.features, mask)
        self._open_windows -= 1
        self._settle(window.end)
        mean = self._rows(logits[mask].mean(axis=0, keepdims=True))[0]
        shares = self._by_label(mean)
        score = Score(
            channel=self.channel,
            utterance=window.utterance,
            start=window.start,
            end=window.end,
            trigger=window.trigger,
            speech_ratio=round(total(window.speech) / window.length, 3),
            scores=shares,
            rolling=self._horizons(window.end),
            quality=window.quality,
            hints=hints(window.quality, max(shares.values()), self.one_voice),
            frames=self._posteriors(scores, mask) if self._frames else None,
            baseline=self._use(mean),
        )
        return [score, *self._segments()]

    def summary(self) -> dict[str, float]:
        """Return the scores over all frames since the stream began; empty if none is scored."""
        mean, count = self._timeline.overall()
        return self._by_label(mean) if count else {}

    def frames(self) -> UtteranceFrames | None:
        """Return the scored frames of the newest utterance that has any; None if none has.

        Where windows overlap, a frame is their mean, as in every score over a horizon.
        """
        for utterance in (self._segmenter.speech, self._last_ended):
            if utterance is not None:
                starts, rows = self._timeline.cells(utterance.start, utterance.end)
                if len(starts):
                    logits = rows[:, : len(self._model.labels)]
                    posteriors = softmax(logits, self._model.temperature)
                    return UtteranceFrames(utterance.index, starts, posteriors)
        return None

    def embedding(self) -> tuple[Features, int]:
        """Return the mean features float32[dim] of all scored frames, and their number.

        With 0 frames the features have no meaning.
        """
        if self._embeddings is None:
            return np.zeros(0, np.float32), 0
        return self._embeddings.overall()

    def _segments(self) -> Iterator[Segment]:
        while self._unsettled and self._unsettled[0][0].end <= max(self._settled, 0):
            utterance, quality, audio = self._unsettled.popleft()
            mean, count = self._timeline.mean(utterance.start, utterance.end)
            cells = max(1, (utterance.end - utterance.start) // self._model.frame_hop)
            scores = self._by_label(mean) if count else {}
            use = self._use(mean) if count else None
            if self._baseline is not None and use is not None:
                seconds = count * self._model.frame_hop / SAMPLE_RATE
                self._baseline.add(use.logits, use.scores, seconds)
            yield Segment(
                channel=self.channel,
                utterance=utterance.index,
                start=utterance.start,
                end=utterance.end,
                trigger=utterance.trigger,
                covered=round(min(1.0, count / cells), 3),
                scores=scores,
                rolling=self._horizons(utterance.end),
                quality=quality,
                hints=hints(quality, max(scores.values(), default=None), self.one_voice),
                embedding=self._embedding(utterance),
                baseline=use,
                audio=audio,
            )

    def _gap(self, window: Window, since: int, until: int, reason: GapReason) -> list[Event]:
        lost = clip(window.speech, since, until)
        if not lost:
            return []
        self.lost += total(lost)
        return [Gap(self.channel, lost[0][0], lost[-1][1], total(lost), reason)]

    def _horizons(self, end: int) -> Mapping[str, Mapping[str, float]]:
        means = {
            f"{seconds}s": self._timeline.mean(end - seconds * SAMPLE_RATE, end)
            for seconds in self._rolling.horizons
        }
        means["call"] = self._timeline.overall()
        return {name: self._by_label(mean) for name, (mean, count) in means.items() if count}

    def _embedding(self, utterance: Utterance) -> Features | None:
        """Return the mean features float32[dim] of the utterance's scored frames, or None."""
        if self._embeddings is None:
            return None
        mean, count = self._embeddings.mean(utterance.start, utterance.end)
        return mean if count else None

    def _posteriors(self, scores: FrameScores, mask: NDArray[np.bool_]) -> FramePosteriors:
        """Return the frames that no earlier window had, so that a stream's frames are contiguous.

        They begin with speech: audio before it is only context for the model.
        """
        window, logits, features = scores.window, scores.logits, scores.features
        hop = self._model.frame_hop
        first = max(0, (max(self._emitted_until, window.heard) - window.start) // hop)
        fresh = max(first, (self._scored_until - window.start) // hop)
        fresh += int(mask[fresh:].argmax()) if mask[fresh:].any() else len(mask[fresh:])
        # A window has no frame for its last 20 ms; the next window has it. It is emitted with that
        # window, unless a pause lies between them.
        if not mask[first:fresh].all():
            first = fresh
        self._scored_until = window.end
        posteriors = softmax(logits[first:], self._model.temperature)
        self._emitted_until = window.start + len(logits) * hop
        new_features = None if features is None else features[first:]
        return FramePosteriors(window.start + first * hop, hop, posteriors, new_features)

    def reconsidered(self, use: BaselineUse) -> tuple[dict[str, float], BaselineUse]:
        """Return the scores of a segment moved by the baseline as it is now, and that baseline.

        A recording is analysed to its end before its result is written, so that all its utterances
        can be compared with the whole voice.
        """
        assert self._baseline is not None
        row = np.concatenate([use.logits, self._baseline.shift])
        state = self._baseline.state
        now = replace(
            use, speech_s=state.speech_s, weight=state.weight, activation=state.activation
        )
        return self._by_label(row), now

    def _rows(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return rows of the timeline for logits float32[n, labels]."""
        if self._baseline is None:
            return logits
        shift = np.broadcast_to(self._baseline.shift, logits.shape)
        return np.concatenate([logits, shift], axis=1)

    def _use(self, mean: Mean) -> BaselineUse | None:
        """Return what the baseline did to a mean row of the timeline."""
        if self._baseline is None:
            return None
        state = self._baseline.state
        logits = mean[: len(self._model.labels)]
        scores = self._shares(logits)
        return BaselineUse(state.speech_s, state.weight, logits, scores, state.activation)

    def _by_label(self, mean: Mean) -> dict[str, float]:
        """Return the scores of a mean row of the timeline, moved by the baseline if it is on."""
        if self._baseline is not None:
            logits, shift = np.split(mean, 2)
            mean = adapted(logits, shift, self._baseline.emotions)
        return self._shares(mean)

    def _shares(self, mean: Mean) -> dict[str, float]:
        shares = softmax(mean, self._model.temperature).tolist()
        return {label: round(p, 4) for label, p in zip(self._model.labels, shares, strict=True)}
