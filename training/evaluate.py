"""How good a model is on labelled recordings it never heard; writes the model card."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from stream.backends.base import Backend
from stream.backends.embedded import SHIPPED, load
from training.data import Clip, read_manifest
from training.measure import FOUR, Floats, activation_recall, choose_labels, measure
from training.views import LINES, score

VIEW = "3 s"
"""The view of the tables: the middle 3 s of a clip, as the live server hears it."""


@dataclass(frozen=True)
class Scored:
    """A corpus as a model heard it: mean logits float[clips, labels] over every line."""

    corpus: str
    clips: list[Clip]
    labels: tuple[str, ...]
    logits: dict[str, Floats]
    temperature: float

    def only(self, kept: list[int]) -> Scored:
        """The same of some clips."""
        logits = {line: rows[kept] for line, rows in self.logits.items()}
        clips = [self.clips[i] for i in kept]
        return Scored(self.corpus, clips, self.labels, logits, self.temperature)

    def among(self, line: str, wanted: tuple[str, ...]) -> tuple[Floats, np.ndarray]:
        """Calibrated logits over the wanted labels only, and the truth as indices into them, of
        the clips that have one of them."""
        here = [i for i, clip in enumerate(self.clips) if clip.emotion in wanted]
        truth = np.array([wanted.index(self.clips[i].emotion) for i in here])
        chosen = choose_labels(self.logits[line], self.labels, wanted)[here]
        return chosen / self.temperature, truth

    def activation(self, line: str) -> float:
        emotions = [clip.emotion for clip in self.clips]
        return activation_recall(self.logits[line] / self.temperature, self.labels, emotions)

    @property
    def known(self) -> tuple[str, ...]:
        """The model's labels that occur here."""
        return tuple(x for x in self.labels if any(clip.emotion == x for clip in self.clips))


def listen(backend: Backend, corpus: str, clips: list[Clip]) -> Scored:
    """Score a corpus over every line."""
    rows: dict[str, list[Floats]] = {line: [] for line in LINES}
    for clip in track(clips, description=f"scoring {corpus}"):
        for line, heard in LINES.items():
            rows[line].append(score(backend.infer, heard(clip.audio), VIEW).astype(np.float64))
    logits = {line: np.stack(found) for line, found in rows.items()}
    return Scored(corpus, clips, backend.info.labels, logits, backend.info.temperature)


def left_out(trained: Path, backend: Backend, clips: list[Clip]) -> list[Scored]:
    """What training kept: each clip scored by a model that learnt nothing from its speaker."""
    with np.load(trained / "held-out.npz") as stored:
        order = {path: i for i, path in enumerate(stored["paths"])}
        logits = {line: stored[f"{line}, {VIEW}"] for line in LINES}
    found = []
    for corpus in sorted({clip.corpus for clip in clips if clip.path in order}):
        mine = [clip for clip in clips if clip.corpus == corpus and clip.path in order]
        rows = [order[clip.path] for clip in mine]
        heard = {line: scores[rows] for line, scores in logits.items()}
        found.append(Scored(corpus, mine, backend.info.labels, heard, backend.info.temperature))
    return found


def table(scored: list[Scored]) -> str:
    """Four classes and activation by corpus and line."""
    lines = [
        "| corpus | condition | clips | UAR | accuracy | ECE | confidence | activation UAR |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for corpus in scored:
        for line in LINES:
            f = measure(*corpus.among(line, FOUR))
            shares = (f.uar, f.accuracy, f.ece, f.confidence, corpus.activation(line))
            cells = " | ".join(f"{100 * x:.1f}" for x in shares)
            lines.append(f"| {corpus.corpus} | {line} | {f.clips} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description="Measure a model directory on a manifest (columns as for training.train). "
        "Only speakers it was not trained on say anything about it; for those it was trained on, "
        "name --trained, and models that left them out are measured.",
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=SHIPPED, help="default: the one shipped")
    parser.add_argument("--corpora", nargs="+", required=True, help="corpora it never heard")
    parser.add_argument("--trained", type=Path, help="--out of training.train")
    parser.add_argument("--sounds", type=Path, help="CSV with path and kind: no speech in them")
    parser.add_argument("--before", type=Path, help="a model directory to compare the sounds with")
    parser.add_argument("--card", type=Path, help="model card to write, .md; needs all the above")
    options = parser.parse_args()

    backend = load(options.model)
    about = json.loads((options.model / "model.json").read_text(encoding="utf-8"))
    clips = read_manifest(options.manifest, counts=about.get("counts"))
    scored = left_out(options.trained, backend, clips) if options.trained else []
    for corpus in options.corpora:
        scored.append(listen(backend, corpus, [c for c in clips if c.corpus == corpus]))
    print(table(scored))
    if options.card:
        if not (options.trained and options.sounds):
            raise SystemExit("--card needs --trained and --sounds")
        from training.card import write_card  # matplotlib is needed for a card only

        write_card(options, about, backend, scored)
        print(f"wrote {options.card}")


if __name__ == "__main__":
    main()
