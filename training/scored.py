"""Corpora scored by a model under every recording condition, and their table of figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from stream.backends.base import Backend
from training.data import Clip, decode
from training.measure import FOUR, Floats, Ints, activation_recall, choose_labels, measure
from training.product import overall
from training.views import CONDITIONS


@dataclass(frozen=True)
class ScoredCorpus:
    """A corpus scored by a model: mean logits float[clips, labels] by recording condition.

    Logits are NaN for a clip in which the server found no utterance.
    """

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

    def select(
        self, condition: str, true: Sequence[str], running: Sequence[str] | None = None
    ) -> tuple[Floats, Ints]:
        """Return calibrated logits and the truth of the scored clips that have a label in `true`.

        The logits have the columns `running` only, by default those of `true`; the truth is
        int[clips], indices into them.
        """
        running = true if running is None else running
        scored = np.all(np.isfinite(self.logits[condition]), axis=1).tolist()
        rows = [i for i, clip in enumerate(self.clips) if clip.emotion in true and scored[i]]
        truth = np.array([running.index(self.clips[i].emotion) for i in rows], np.int64)
        chosen = choose_labels(self.logits[condition], self.labels, running)[rows]
        return chosen / self.temperature, truth

    def missed(self, condition: str) -> int:
        """Return the number of clips in which no utterance was found."""
        return int(np.isnan(self.logits[condition]).any(axis=1).sum())

    def activation(self, condition: str) -> float:
        logits = self.logits[condition] / self.temperature
        scored = np.all(np.isfinite(logits), axis=1).tolist()
        emotions = [clip.emotion for clip, kept in zip(self.clips, scored, strict=True) if kept]
        return activation_recall(logits[scored], self.labels, emotions)

    @property
    def known(self) -> tuple[str, ...]:
        """The model's labels that occur in the corpus."""
        return tuple(x for x in self.labels if any(clip.emotion == x for clip in self.clips))


def score_corpus(
    backend: Backend,
    corpus: str,
    clips: list[Clip],
    folder: Path,
    conditions: Sequence[str] = tuple(CONDITIONS),
) -> ScoredCorpus:
    """Score the files of a corpus, relative to `folder`, in the server's pipeline."""
    labels = backend.info.labels
    rows: dict[str, list[Floats]] = {condition: [] for condition in conditions}
    for clip in track(clips, description=f"scoring {corpus}"):
        audio = decode(folder / clip.path)
        for condition in conditions:
            logits = overall(backend, CONDITIONS[condition](audio))
            rows[condition].append(np.full(len(labels), np.nan) if logits is None else logits)
    stacked = {condition: np.stack(clip_rows) for condition, clip_rows in rows.items()}
    return ScoredCorpus(corpus, clips, labels, stacked, backend.info.temperature)


def held_out(trained: Path, backend: Backend, clips: list[Clip]) -> list[ScoredCorpus]:
    """Read the scores of training: each clip scored by a model trained without its speaker."""
    with np.load(trained / "held-out.npz") as stored:
        order = {path: i for i, path in enumerate(stored["paths"])}
        logits = {condition: stored[condition] for condition in CONDITIONS}
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
    """Return a Markdown table by corpus and condition: all labels, four classes, activation."""
    lines = [
        "| corpus | condition | clips | UAR, all labels | UAR of 4 | accuracy of 4 | ECE of 4 | "
        "confidence | activation UAR | not scored |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for corpus in scored:
        for condition in CONDITIONS:
            everything = measure(*corpus.select(condition, corpus.known, corpus.labels))
            f = measure(*corpus.select(condition, FOUR))
            shares = (everything.uar, f.uar, f.accuracy, f.ece, f.confidence)
            cells = " | ".join(f"{100 * x:.1f}" for x in (*shares, corpus.activation(condition)))
            missed = corpus.missed(condition)
            lines.append(f"| {corpus.corpus} | {condition} | {f.clips} | {cells} | {missed} |")
    return "\n".join(lines)
