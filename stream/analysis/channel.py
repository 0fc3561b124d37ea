"""One channel of a stream: audio at 16 kHz in, windows and events out. Pure and synchronous."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from stream.analysis.quality import QualityMeter, frame_power, hints
from stream.analysis.timeline import Mean, RollingSettings, Timeline, softmax, speech_mask
from stream.analysis.vad import DETECTORS, Segmenter, VadSettings
from stream.analysis.windows import History, Windower, WindowSettings, clip, total
from stream.types import (
    FRAME,
    SAMPLE_RATE,
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
    Trigger,
    Utterance,
    UtteranceFrames,
    Window,
)

BLOCK = 16 * FRAME
"""Audio goes through in blocks of at most this many samples, so the history stays small."""


class ChannelPipeline:
    """VAD → windows on the way in, frame scores → rolling on the way back.

    Whoever drives it must tell what became of every window: `taken` when a backend starts on it,
    then `scored` or `failed`; or `superseded` when a newer one replaced it before.
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
    ) -> None:
        self.channel = channel
        self._model = model
        self._rolling = rolling
        self._frames = frames
        self._detector = DETECTORS[vad.detector](vad.mode)
        self._min_power = 10 ** (vad.min_dbfs / 10)
        self._segmenter = Segmenter(vad)
        self._meter = QualityMeter(source_rate, vad.only_speech)
        self._history = History(windows.longest + (vad.hangover + 1) * FRAME + BLOCK)
        self._windower = Windower(windows, channel, self._history, self._meter)
        self._partial = np.zeros(0, np.int16)
        self._waiting: deque[tuple[Utterance, Quality]] = deque()
        self._open = 0
        self._settled = self._passed = 0
        self._told = self._reached = 0
        self._ended: Utterance | None = None
        utterance = vad.max_utterance * FRAME / SAMPLE_RATE
        slack = 2 * windows.longest / SAMPLE_RATE
        hop, reach = model.frame_hop, max((*rolling.horizons, utterance))
        self._timeline = Timeline(len(model.labels), hop, reach + slack)
        # A hundred times as wide as the labels, so no longer than one utterance needs.
        self._embeddings = Timeline(model.dim, hop, utterance + slack) if embeddings else None
        self.utterances = 0
        self.speech = 0
        self.lost = 0

    @property
    def position(self) -> int:
        """Samples received, whole frames and the rest."""
        return self._history.end + len(self._partial)

    @property
    def speaking(self) -> bool:
        return self._segmenter.speech is not None

    def feed(self, samples: Samples) -> Iterator[Window | Event]:
        """Take float32[n]; yields what becomes due, in the order of time. Must be run to its end.

        Lazy on purpose: the driver can say `taken` between two windows of one long chunk.
        """
        fresh = np.rint(np.clip(samples, -1, 32767 / 32768) * 32768).astype(np.int16)
        pcm = np.concatenate([self._partial, fresh]) if len(self._partial) else fresh
        whole = len(pcm) // FRAME * FRAME
        self._partial = pcm[whole:]
        for start in range(0, whole, BLOCK):
            yield from self._block(pcm[start : min(start + BLOCK, whole)])

    def _block(self, pcm: NDArray[np.int16]) -> Iterator[Window | Event]:
        self._history.write(pcm)
        power, clipped = frame_power(pcm.reshape(-1, FRAME))
        data = pcm.tobytes()
        segmenter, meter = self._segmenter, self._meter
        for i, (level, clips) in enumerate(zip(power.tolist(), clipped.tolist(), strict=True)):
            frame = data[i * FRAME * 2 : (i + 1) * FRAME * 2]
            voiced = level >= self._min_power and self._detector.is_speech(frame)
            before = segmenter.speech
            ended = segmenter.step(voiced)
            speech = segmenter.speech
            if before is None and speech is not None:
                meter.begin()
                yield SpeechStart(self.channel, speech.index, speech.start)
            if not voiced or speech is not None:
                meter.frame(level, clips, voiced)
            if ended is not None:
                yield from self._end(ended)
            elif voiced and speech is not None:
                for window in self._windower.hear(speech):
                    yield from self._offer(window)

    def flush(self, trigger: Trigger = "flush") -> Iterator[Window | Event]:
        """End the open utterance now, so that all speech heard so far gets its result."""
        ended = self._segmenter.end(trigger)
        if ended is not None:
            yield from self._end(ended)

    def skip(self, samples: int) -> Iterator[Window | Event]:
        """Go `samples` further without audio: the open utterance ends, nothing spans the hole."""
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
        self._partial = np.zeros(target - aligned, np.int16)

    def _end(self, utterance: Utterance) -> Iterator[Window | Event]:
        self._ended = utterance
        self.utterances += 1
        self.speech += utterance.end - utterance.start
        yield SpeechEnd(
            self.channel, utterance.index, utterance.start, utterance.end, utterance.trigger
        )
        window = self._windower.close(utterance)
        self._waiting.append((utterance, self._meter.quality()))
        if window is not None:
            yield from self._offer(window)
        yield from self._segments()

    def _offer(self, window: Window) -> Iterator[Window]:
        """The window, unless what is new in it is no speech: then it counts as settled.

        It does so after the windows before it, whose utterances must be told first.
        """
        if not self._meter.not_speech:
            self._open += 1
            yield window
            return
        self._windower.drop(window)
        self._passed = window.end
        self._settle(0)

    def _settle(self, end: int) -> None:
        """Windows up to `end` are scored or lost; with none under way, so is what was passed by."""
        self._settled = max(self._settled, end, 0 if self._open else self._passed)

    def taken(self, window: Window) -> None:
        """A backend has the window; later windows need not cover its speech."""
        self._windower.taken(window)

    def superseded(self, old: Window, new: Window) -> list[Event]:
        """`new` replaced the waiting `old`: what of its speech `new` is too short to cover."""
        self._open -= 1
        return self._lose(old, max(old.fresh, self._windower.handed), new.heard, "overload")

    def failed(self, window: Window, reason: GapReason) -> list[Event]:
        """The window will never be scored; its unheard speech is lost."""
        events = self._lose(window, max(window.fresh, self._settled), window.end, reason)
        self._open -= 1
        self._settle(window.end)
        return events + list(self._segments())

    def scored(self, scores: FrameScores) -> list[Event]:
        """Take float32[frames, labels] of one window into the timeline; the events this makes."""
        window, logits = scores.window, scores.logits
        mask = speech_mask(window, len(logits), self._model.frame_hop)
        self._timeline.add(window, logits, mask)
        if self._embeddings is not None and scores.features is not None:
            self._embeddings.add(window, scores.features, mask)
        self._open -= 1
        self._settle(window.end)
        now = self._named(logits[mask].mean(axis=0))
        score = Score(
            channel=self.channel,
            utterance=window.utterance,
            start=window.start,
            end=window.end,
            trigger=window.trigger,
            speech_ratio=round(total(window.speech) / window.length, 3),
            scores=now,
            rolling=self._horizons(window.end),
            quality=window.quality,
            hints=hints(window.quality, max(now.values())),
            frames=self._posteriors(scores, mask) if self._frames else None,
        )
        return [score, *self._segments()]

    def summary(self) -> dict[str, float]:
        """Scores over everything scored since the stream began; empty if nothing was."""
        mean, count = self._timeline.whole()
        return self._named(mean) if count else {}

    def frames(self) -> UtteranceFrames | None:
        """The newest utterance of which something is scored, as far as that; None before any.

        Where windows overlap, a frame is their mean, as in every score over a horizon.
        """
        for utterance in (self._segmenter.speech, self._ended):
            if utterance is not None:
                starts, logits = self._timeline.cells(utterance.start, utterance.end)
                if len(starts):
                    posteriors = softmax(logits, self._model.temperature)
                    return UtteranceFrames(utterance.index, starts, posteriors)
        return None

    def embedding(self) -> tuple[Features, int]:
        """Mean features float32[dim] of everything scored, and of how many frames (0: none)."""
        if self._embeddings is None:
            return np.zeros(0, np.float32), 0
        return self._embeddings.whole()

    def _segments(self) -> Iterator[Segment]:
        while self._waiting and self._waiting[0][0].end <= max(self._settled, 0):
            utterance, quality = self._waiting.popleft()
            mean, count = self._timeline.mean(utterance.start, utterance.end)
            cells = max(1, (utterance.end - utterance.start) // self._model.frame_hop)
            scores = self._named(mean) if count else {}
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
                hints=hints(quality, max(scores.values(), default=None)),
                embedding=self._embedding(utterance),
            )

    def _lose(self, window: Window, since: int, until: int, reason: GapReason) -> list[Event]:
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
        means["call"] = self._timeline.whole()
        return {name: self._named(mean) for name, (mean, count) in means.items() if count}

    def _embedding(self, utterance: Utterance) -> Features | None:
        """Mean features float32[dim] of the utterance's scored frames."""
        if self._embeddings is None:
            return None
        mean, count = self._embeddings.mean(utterance.start, utterance.end)
        return mean if count else None

    def _posteriors(self, scores: FrameScores, mask: NDArray[np.bool_]) -> FramePosteriors:
        """The frames that no window before had, so that frames of a stream join up.

        They begin with speech: what lies before it in a window is only what the model heard too.
        """
        window, logits, features = scores.window, scores.logits, scores.features
        hop = self._model.frame_hop
        first = max(0, (max(self._told, window.heard) - window.start) // hop)
        fresh = max(first, (self._reached - window.start) // hop)
        fresh += int(mask[fresh:].argmax()) if mask[fresh:].any() else len(mask[fresh:])
        # A window lacks its own last frame. Without a pause since, it comes now.
        if not mask[first:fresh].all():
            first = fresh
        self._reached = window.end
        posteriors = softmax(logits[first:], self._model.temperature)
        self._told = window.start + len(logits) * hop
        kept = None if features is None else features[first:]
        return FramePosteriors(window.start + first * hop, hop, posteriors, kept)

    def _named(self, mean: Mean) -> dict[str, float]:
        shares = softmax(mean, self._model.temperature).tolist()
        return {label: round(p, 4) for label, p in zip(self._model.labels, shares, strict=True)}
