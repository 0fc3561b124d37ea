"""Scores of one channel: logits on a timeline, and its baseline. Pure and synchronous."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stream.analysis.baseline import Baseline, BaselineSettings, adapted
from stream.analysis.quality import hints
from stream.analysis.timeline import Mean, RollingSettings, Timeline, softmax, speech_mask
from stream.analysis.windows import total
from stream.types import (
    SAMPLE_RATE,
    BaselineUse,
    Features,
    FramePosteriors,
    FrameScores,
    ModelInfo,
    Quality,
    Score,
    Segment,
    Utterance,
    UtteranceFrames,
)


class ChannelScores:
    """Frame logits → scores of windows, utterances and horizons, of one channel.

    The timeline holds the longest horizon and an utterance of `utterance_s`, which the results may
    be behind by `slack_s`, both in seconds. `frames` adds per-frame posteriors to every score,
    `embeddings` mean features to every segment.
    """

    def __init__(
        self,
        model: ModelInfo,
        rolling: RollingSettings,
        utterance_s: float,
        slack_s: float,
        *,
        frames: bool,
        embeddings: bool,
        baseline: BaselineSettings | None,
    ) -> None:
        self._model = model
        self._rolling = rolling
        self._frames = frames
        self._emitted_until = self._scored_until = 0
        hop, reach_s = model.frame_hop, max((*rolling.horizons, utterance_s))
        self._baseline: Baseline | None = None
        if baseline is not None:
            self._baseline = Baseline(model.labels, model.reference, baseline)
        # With a baseline, a row has the logits and what the baseline subtracts from them.
        width = len(model.labels) * (1 if baseline is None else 2)
        self._timeline = Timeline(width, hop, reach_s + slack_s)
        # A row is a hundred times as wide as one of labels, so this holds one utterance only.
        self._embeddings = Timeline(model.dim, hop, utterance_s + slack_s) if embeddings else None
        self.one_voice = False
        """True if another channel carries the same voice."""

    def add(self, output: FrameScores) -> Score:
        """Add the output for one window to the timeline; return its score."""
        window, logits = output.window, output.logits
        mask = speech_mask(window, len(logits), self._model.frame_hop)
        self._timeline.add(window, self._rows(logits), mask)
        if self._embeddings is not None and output.features is not None:
            self._embeddings.add(window, output.features, mask)
        # As logits[mask].mean(axis=0), in a quarter of the time.
        weights = (mask / np.count_nonzero(mask)).astype(np.float32)
        mean = self._rows((weights @ logits).reshape(1, -1))[0]
        scores = self._by_label(mean)
        return Score(
            channel=window.channel,
            utterance=window.utterance,
            start=window.start,
            end=window.end,
            trigger=window.trigger,
            speech_ratio=round(total(window.speech) / window.length, 3),
            scores=scores,
            rolling=self._horizons(window.end),
            quality=window.quality,
            hints=hints(window.quality, max(scores.values()), self.one_voice),
            frames=self._posteriors(output, mask) if self._frames else None,
            baseline=self._use(mean),
        )

    def segment(
        self,
        channel: int,
        utterance: Utterance,
        quality: Quality,
        audio: NDArray[np.int16] | None,
    ) -> Segment:
        """Return the segment of an utterance, all of whose windows are settled.

        The baseline learns from it, so it is called once per utterance, in their order.
        """
        mean, count = self._timeline.mean(utterance.start, utterance.end)
        cells = max(1, (utterance.end - utterance.start) // self._model.frame_hop)
        scores = self._by_label(mean) if count else {}
        use = self._use(mean) if count else None
        if self._baseline is not None and use is not None:
            seconds = count * self._model.frame_hop / SAMPLE_RATE
            self._baseline.add(use.logits, use.scores, seconds)
        return Segment(
            channel=channel,
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

    def summary(self) -> dict[str, float]:
        """Return the scores over all frames since the stream began; empty if none is scored."""
        mean, count = self._timeline.overall()
        return self._by_label(mean) if count else {}

    def frames(self, utterance: Utterance) -> UtteranceFrames | None:
        """Return the scored frames of an utterance; None if none is scored.

        Where windows overlap, a frame is their mean, as in every score over a horizon.
        """
        starts, rows = self._timeline.cells(utterance.start, utterance.end)
        if not len(starts):
            return None
        posteriors = softmax(rows[:, : len(self._model.labels)], self._model.temperature)
        return UtteranceFrames(utterance.index, starts, posteriors)

    def embedding(self) -> tuple[Features, int]:
        """Return the mean features float32[dim] of all scored frames, and their number.

        With 0 frames the features have no meaning.
        """
        if self._embeddings is None:
            return np.zeros(0, np.float32), 0
        return self._embeddings.overall()

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

    def _horizons(self, end: int) -> Mapping[str, Mapping[str, float]]:
        means = {
            f"{seconds}s": self._timeline.mean(end - seconds * SAMPLE_RATE, end)
            for seconds in self._rolling.horizons
        }
        means["call"] = self._timeline.overall()
        scored = {name: mean for name, (mean, count) in means.items() if count}
        return dict(zip(scored, self._by_labels(list(scored.values())), strict=True))

    def _embedding(self, utterance: Utterance) -> Features | None:
        """Return the mean features float32[dim] of the utterance's scored frames, or None."""
        if self._embeddings is None:
            return None
        mean, count = self._embeddings.mean(utterance.start, utterance.end)
        return mean if count else None

    def _posteriors(self, output: FrameScores, mask: NDArray[np.bool_]) -> FramePosteriors:
        """Return the frames that no earlier window had, so that a stream's frames are contiguous.

        They begin with speech: audio before it is only context for the model.
        """
        window, logits, features = output.window, output.logits, output.features
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
        scores = self._shares([logits])[0]
        return BaselineUse(state.speech_s, state.weight, logits, scores, state.activation)

    def _by_label(self, mean: Mean) -> dict[str, float]:
        """Return the scores of a mean row of the timeline, moved by the baseline if it is on."""
        return self._by_labels([mean])[0]

    def _by_labels(self, means: Sequence[Mean]) -> list[dict[str, float]]:
        if self._baseline is not None:
            emotions = self._baseline.emotions
            halves = (np.split(mean, 2) for mean in means)
            means = [adapted(logits, shift, emotions) for logits, shift in halves]
        return self._shares(means)

    def _shares(self, logits: Sequence[Mean]) -> list[dict[str, float]]:
        if not logits:
            return []
        shares = softmax(np.stack(logits), self._model.temperature).astype(np.float64)
        rows = shares.round(4).tolist()
        return [dict(zip(self._model.labels, row, strict=True)) for row in rows]
