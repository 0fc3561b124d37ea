"""The baseline of a voice, simulated on calls made of the clips of one speaker.

Every clip goes through the product's pipeline once; then its logits are given to the product's
own `Baseline` in many orders: shuffled, sorted by emotion (the worst), a calm or an angry
beginning, and one emotion only (the known price).
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from rich.progress import track

from stream.analysis.baseline import Baseline, BaselineSettings, adapted
from stream.analysis.timeline import softmax
from stream.backends.base import Embedder
from stream.backends.registry import load
from stream.types import SAMPLE_RATE, ModelInfo
from training.adapt import segments_of
from training.behaviour import markdown_table
from training.data import decode
from training.measure import FOUR

ORDERS = 3
"""Random orders of each speaker's clips."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A clip: its emotion, seconds of speech, and mean logits float32[labels]."""

    emotion: str
    seconds: float
    logits: NDArray[np.float32]


Order = Callable[[list[Spoken], Generator], list[Spoken]]


def shuffled(clips: list[Spoken], rng: Generator) -> list[Spoken]:
    return [clips[i] for i in rng.permutation(len(clips))]


def by_emotion(clips: list[Spoken], rng: Generator) -> list[Spoken]:
    emotions = sorted({clip.emotion for clip in clips})
    rng.shuffle(emotions)
    return [c for e in emotions for c in shuffled([x for x in clips if x.emotion == e], rng)]


def beginning(emotion: str) -> Order:
    """Return an order that begins with up to twenty clips of an emotion."""

    def order(clips: list[Spoken], rng: Generator) -> list[Spoken]:
        mixed = shuffled(clips, rng)
        first = [clip for clip in mixed if clip.emotion == emotion][:20]
        return first + [clip for clip in mixed if not any(clip is other for other in first)]

    return order


def only(emotion: str) -> Order:
    return lambda clips, rng: [c for c in shuffled(clips, rng) if c.emotion == emotion]


def recall(guesses: Sequence[tuple[str, str]]) -> float:
    """Return the unweighted average recall of (truth, guess), in percent."""
    by_truth: dict[str, list[bool]] = defaultdict(list)
    for truth, guess in guesses:
        by_truth[truth].append(truth == guess)
    return 100 * float(np.mean([np.mean(hits) for hits in by_truth.values()])) if by_truth else 0.0


def simulate(
    speakers: Sequence[list[Spoken]],
    info: ModelInfo,
    settings: BaselineSettings | None,
    order: Order,
) -> dict[str, list[tuple[str, str]]]:
    """Return (truth, guess) of all clips by position: "first 3", "first 5", "later", "all"."""
    labels = info.labels
    four = [labels.index(label) for label in FOUR]
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for seed in range(ORDERS):
        rng = np.random.default_rng(seed)
        for clips in speakers:
            baseline = Baseline(labels, info.reference, settings or BaselineSettings())
            for number, clip in enumerate(order(clips, rng)):
                moved = clip.logits
                if settings is not None:
                    moved = adapted(moved, baseline.shift, baseline.emotions)
                shares = softmax(clip.logits, info.temperature)
                scores = dict(zip(labels, shares.tolist(), strict=True))
                baseline.add(clip.logits, scores, clip.seconds)
                if clip.emotion in labels:
                    found["all"].append((clip.emotion, labels[int(moved.argmax())]))
                if clip.emotion in FOUR:
                    place = "first 3" if number < 3 else "first 5" if number < 5 else "later"
                    found[place].append((clip.emotion, FOUR[int(moved[four].argmax())]))
    return found


def read(manifest: Path, corpus: str, backend: Embedder) -> list[list[Spoken]]:
    """Score the clips of a corpus; return them by speaker."""
    speakers: dict[str, list[Spoken]] = defaultdict(list)
    with manifest.open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["corpus"] == corpus]
    for row in track(rows, corpus):
        segments = segments_of(backend, decode(manifest.parent / row["path"]))
        if not segments:
            continue
        weights = [segment.end - segment.start for segment in segments]
        shares = np.average([list(s.scores.values()) for s in segments], 0, weights)
        logits = np.log(np.maximum(shares, 1e-4)) * backend.info.temperature
        seconds = sum(weights) / SAMPLE_RATE
        speakers[row["speaker"]].append(
            Spoken(row["emotion"], seconds, np.asarray(logits, np.float32))
        )
    return list(speakers.values())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.baseline",
        description="Simulate the baseline of a voice on calls made of labelled clips.",
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--corpora", nargs="+", required=True)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--weights", nargs="+", type=float, default=[0.5, 0.7])
    options = parser.parse_args()
    backend = load(options.model)
    if not isinstance(backend, Embedder):
        raise SystemExit(f"{backend.info.id} has no embeddings")
    corpora = {name: read(options.manifest, name, backend) for name in options.corpora}
    rows = []
    for weight in (0.0, *options.weights):
        settings = BaselineSettings(max_weight=weight) if weight else None
        for name, speakers in corpora.items():
            mixed = simulate(speakers, backend.info, settings, shuffled)
            row: dict[str, object] = {
                "corpus": name,
                "max_weight": weight or "off",
                "all labels": round(recall(mixed["all"]), 1),
                "first 3": round(recall(mixed["first 3"]), 1),
                "later": round(recall(mixed["later"]), 1),
            }
            for title, order in (
                ("sorted", by_emotion),
                ("calm first", beginning("neutral")),
                ("angry first", beginning("angry")),
                *((f"only {emotion}", only(emotion)) for emotion in ("neutral", "sad", "angry")),
            ):
                found = simulate(speakers, backend.info, settings, order)
                row[title] = round(recall(found["later"]), 1)
            rows.append(row)
    print(markdown_table(list(rows[0]), [list(row.values()) for row in rows]))
    backend.close()


if __name__ == "__main__":
    main()
