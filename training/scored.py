"""Corpora scored by a model under every recording condition, and their table of figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from stream.backends.base import Backend
from training.data import Clip
from training.measure import FOUR, Floats, Ints, activation_recall, choose_labels, measure
from training.views import CONDITIONS, score

VIEW = "3 s"
"""The view of the tables: the middle 3 s of a clip, as the live server scores it."""


@dataclass(frozen=True)
class ScoredCorpus:
    """A corpus scored by a model: mean logits float[clips, labels] by recording condition."""

    corpus: str
    clips: list[Clip]
    labels: tuple[str, ...]
    logits: dict[str, Floats]
    temperature: float

    def subset(self, indices: list[int]) -> ScoredCorpus:
        """Return the same for some of the clips."""
        logits = {condition: rows[indices] for condition, rows in self.logits.items()}
        clips = [self.clips[i] for i in indices]
        return ScoredCorpus(self.corpus, clips, self.labels, logits, self.temperature)

    def select(self, condition: str, labels: tuple[str, ...]) -> tuple[Floats, Ints]:
        """Return calibrated logits and the truth of the clips that have one of `labels`.

        The logits have the columns `labels` only; the truth is int[clips], indices into `labels`.
        """
        clips = [i for i, clip in enumerate(self.clips) if clip.emotion in labels]
        truth = np.array([labels.index(self.clips[i].emotion) for i in clips])
        chosen = choose_labels(self.logits[condition], self.labels, labels)[clips]
        return chosen / self.temperature, truth

    def activation(self, condition: str) -> float:
        emotions = [clip.emotion for clip in self.clips]
        return activation_recall(self.logits[condition] / self.temperature, self.labels, emotions)

    @property
    def known(self) -> tuple[str, ...]:
        """The model's labels that occur in the corpus."""
        return tuple(x for x in self.labels if any(clip.emotion == x for clip in self.clips))


def score_corpus(backend: Backend, corpus: str, clips: list[Clip]) -> ScoredCorpus:
    """Score a corpus under every recording condition."""
    rows: dict[str, list[Floats]] = {condition: [] for condition in CONDITIONS}
    for clip in track(clips, description=f"scoring {corpus}"):
        for condition, apply in CONDITIONS.items():
            logits = score(backend.infer, apply(clip.audio), VIEW)
            rows[condition].append(logits.astype(np.float64))
    stacked = {condition: np.stack(clip_rows) for condition, clip_rows in rows.items()}
    return ScoredCorpus(corpus, clips, backend.info.labels, stacked, backend.info.temperature)


def held_out(trained: Path, backend: Backend, clips: list[Clip]) -> list[ScoredCorpus]:
    """Read the scores of training: each clip scored by a model trained without its speaker."""
    with np.load(trained / "held-out.npz") as stored:
        order = {path: i for i, path in enumerate(stored["paths"])}
        logits = {condition: stored[f"{condition}, {VIEW}"] for condition in CONDITIONS}
    corpora = []
    for corpus in sorted({clip.corpus for clip in clips if clip.path in order}):
        own = [clip for clip in clips if clip.corpus == corpus and clip.path in order]
        rows = [order[clip.path] for clip in own]
        own_logits = {condition: scores[rows] for condition, scores in logits.items()}
        corpora.append(
            ScoredCorpus(corpus, own, backend.info.labels, own_logits, backend.info.temperature)
        )
    return corpora


def table(scored: list[ScoredCorpus]) -> str:
    """Return a Markdown table of four classes and activation by corpus and condition."""
    lines = [
        "| corpus | condition | clips | UAR | accuracy | ECE | confidence | activation UAR |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for corpus in scored:
        for condition in CONDITIONS:
            f = measure(*corpus.select(condition, FOUR))
            shares = (f.uar, f.accuracy, f.ece, f.confidence, corpus.activation(condition))
            cells = " | ".join(f"{100 * x:.1f}" for x in shares)
            lines.append(f"| {corpus.corpus} | {condition} | {f.clips} | {cells} |")
    return "\n".join(lines)
