"""How good a model is on labelled recordings, clean and as a telephone call makes them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream.backends.embedded import load
from training.data import FRAME, RATE, Array, mirrored, read_manifest, telephone

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Infer = Callable[[Array], Array]

LONGEST = 3 * RATE
VIEWS = ("1 s", "3 s", "clip")
"""The middle 1 s or 3 s of a clip in one window, or all of it in windows of 3 s every second."""
LINES: dict[str, Callable[[Array], Array]] = {"clean": lambda audio: audio, "telephone": telephone}


@dataclass(frozen=True)
class Figures:
    """Unweighted average recall, accuracy, expected calibration error, confidence: all in 0-1."""

    clips: int
    uar: float
    accuracy: float
    ece: float
    confidence: float

    def __str__(self) -> str:
        parts = (self.uar, self.accuracy, self.ece, self.confidence)
        return f"{self.clips:6d} " + " ".join(f"{100 * x:6.1f}" for x in parts)


def windows(audio: Array, view: str) -> list[tuple[Array, int]]:
    """The windows of a view of a clip, each with how many of its last frames count."""
    if view == "clip":
        ends = [*range(LONGEST, len(audio), RATE), len(audio)]
        pieces = [audio[max(0, end - LONGEST) : end] for end in ends]
        length = LONGEST
    else:
        length = RATE * int(view.split()[0])
        start = max(0, len(audio) - length) // 2
        pieces = [audio[start : start + length]]
    return [(mirrored(piece, length), len(piece) // FRAME) for piece in pieces]


def score(infer: Infer, audio: Array, view: str) -> Array:
    """Mean logits float32[labels] over the frames that count."""
    frames = [infer(window[None])[0, -n:] for window, n in windows(audio, view)]
    mean: Array = np.concatenate(frames).mean(axis=0)
    return mean


def softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    share: Floats = powers / powers.sum(axis=1, keepdims=True)
    return share


def fit_temperature(logits: Floats, truth: Ints) -> float:
    """The temperature of least negative log-likelihood of `truth` int[n], to 2 percent."""
    candidates = np.exp(np.arange(-1.5, 1.5, 0.02))
    rows = np.arange(len(truth))
    losses = [-np.log(softmax(logits / t)[rows, truth] + 1e-12).mean() for t in candidates]
    return float(candidates[int(np.argmin(losses))])


def measure(logits: Floats, truth: Ints) -> Figures:
    """Figures of calibrated logits float[n, labels]; the error of calibration over ten bins."""
    posteriors = softmax(logits)
    guess, confidence = posteriors.argmax(axis=1), posteriors.max(axis=1)
    right = guess == truth
    bins = np.minimum((confidence * 10).astype(int), 9)
    gaps = [abs(float((right[bins == b] - confidence[bins == b]).sum())) for b in range(10)]
    recalls = [right[truth == label].mean() for label in np.unique(truth)]
    return Figures(
        clips=len(truth),
        uar=float(np.mean(recalls)),
        accuracy=float(right.mean()),
        ece=sum(gaps) / len(truth),
        confidence=float(confidence.mean()),
    )


def choose_labels(logits: Floats, names: Sequence[str], wanted: Sequence[str]) -> Floats:
    """The columns of the wanted labels only, as if the model knew no others."""
    columns: Floats = logits[:, [names.index(label) for label in wanted]]
    return columns


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description="Measure a model directory on a manifest (CSV: path, corpus, speaker, emotion; "
        "paths relative to the CSV). Only speakers it was not trained on say anything about it.",
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="model directory (default: the one shipped)")
    parser.add_argument("--corpora", nargs="+", required=True, help="corpora of the manifest")
    parser.add_argument("--labels", nargs="+", help="only clips and scores of these labels")
    options = parser.parse_args()

    backend = load(options.model)
    names = backend.info.labels
    wanted = options.labels or list(names)
    print(f"{'corpus':10} {'line':10} {'view':5}  clips    UAR    acc    ECE   conf  (percent)")
    for corpus in options.corpora:
        clips = [c for c in read_manifest(options.manifest, {corpus}) if c.emotion in wanted]
        truth = np.array([wanted.index(c.emotion) for c in clips])
        for line, heard in LINES.items():
            audio = [heard(c.audio) for c in clips]
            for view in VIEWS:
                scores = np.stack([score(backend.infer, a, view) for a in audio])
                logits = choose_labels(scores.astype(np.float64), names, wanted)
                figures = measure(logits / backend.info.temperature, truth)
                print(f"{corpus:10} {line:10} {view:5} {figures}", flush=True)


if __name__ == "__main__":
    main()
