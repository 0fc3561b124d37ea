"""The model card, docs/model-card.md, from the template `card.md` and measured figures."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stream.backends.base import Backend
from stream.backends.embedded import load
from training.behaviour import calm_table, markdown_table, percent, sound_tables
from training.data import Clip
from training.measure import FOUR, confusion, measure, recalls, reliability, softmax
from training.pictures import draw_confusion, draw_reliability
from training.scored import ScoredCorpus, table
from training.speed import costs
from training.views import CONDITIONS

HERE = Path(__file__).parent

AIMS = {"ravdess": (56, 58), "nemo": (50, 52)}
"""Minimum UAR in percent, with all labels in the running and of four classes, clean."""
MAX_LOSS, MAX_ECE = 3, 8
"""Maximum loss of UAR by a condition, and maximum calibration error, in percent."""


def group_table(scored: Sequence[ScoredCorpus], title: str, group_of: Callable[[Clip], str]) -> str:
    """Return a table of four-class UAR by condition, and of activation, for groups of clips."""
    body = []
    for corpus in scored:
        for group in sorted({group_of(clip) for clip in corpus.clips}):
            part = corpus.subset(
                [i for i, clip in enumerate(corpus.clips) if group_of(clip) == group]
            )
            uars = [percent(measure(*part.select(condition, FOUR)).uar) for condition in CONDITIONS]
            body.append([corpus.corpus, group, *uars, percent(part.activation("clean"))])
    return markdown_table(["corpus", title, *CONDITIONS, "activation, clean"], body)


def by_label(scored: Sequence[ScoredCorpus]) -> str:
    """Return a table of the recall of every label, among all labels of the model."""
    body = []
    for corpus in scored:
        for condition in CONDITIONS:
            logits, truth = corpus.select(condition, corpus.known, corpus.labels)
            figures = measure(logits, truth)
            found = recalls(logits.argmax(axis=1), truth)
            cells = [percent(found[i]) if i in found else "" for i in range(len(corpus.labels))]
            summary = [percent(figures.uar), percent(figures.ece)]
            body.append([corpus.corpus, condition, *cells, *summary])
    return markdown_table(["corpus", "condition", *scored[0].labels, "UAR", "ECE"], body)


def draw(scored: Sequence[ScoredCorpus], folder: Path, base: Path) -> str:
    """Draw the pictures; return the Markdown that shows them."""
    images = []
    for corpus in scored:
        logits, truth = corpus.select("clean", corpus.known, corpus.labels)
        shares = confusion(logits.argmax(axis=1), truth, len(corpus.labels))
        path = folder / f"confusion-{corpus.corpus}.svg"
        draw_confusion(path, f"{corpus.corpus}, clean", shares, corpus.labels)
        images.append(f"![Confusion matrix of {corpus.corpus}]({path.relative_to(base)})")
        four, four_truth = corpus.select("clean", FOUR)
        path = folder / f"reliability-{corpus.corpus}.svg"
        draw_reliability(
            path, f"{corpus.corpus}, 4 classes", reliability(softmax(four), four_truth)
        )
        images.append(f"![Reliability of {corpus.corpus}]({path.relative_to(base)})")
    return "\n".join(images)


def aims(scored: Sequence[ScoredCorpus]) -> str:
    """Return a table of the aims and the figures reached."""
    body = []
    for corpus in scored:
        if corpus.corpus not in AIMS:
            continue
        every, four = AIMS[corpus.corpus]
        name = corpus.corpus
        all_labels = measure(*corpus.select("clean", corpus.known, corpus.labels)).uar
        figures = {condition: measure(*corpus.select(condition, FOUR)) for condition in CONDITIONS}
        clean = figures["clean"]
        body.append([f"{name}, UAR, all labels in the running", f"≥ {every}", percent(all_labels)])
        body.append([f"{name}, UAR of 4", f"≥ {four}", percent(clean.uar)])
        body.append([f"{name}, ECE of 4", f"≤ {MAX_ECE}", percent(clean.ece)])
        for condition in list(CONDITIONS)[1:]:
            loss = percent(clean.uar - figures[condition].uar)
            body.append([f"{name}, loss of UAR, {condition}", f"≤ {MAX_LOSS}", loss])
    return markdown_table(["figure", "aim", "reached"], body)


def experiments() -> str:
    with (HERE / "experiments.csv").open(newline="", encoding="utf-8") as lines:
        table_rows = list(csv.reader(lines))
    return markdown_table(table_rows[0], table_rows[1:])


def write_card(
    options: argparse.Namespace,
    about: dict[str, Any],
    backend: Backend,
    scored: list[ScoredCorpus],
    clips: list[Clip],
) -> None:
    """Measure, fill the template `card.md`, and write the card with its pictures."""
    base = options.card.parent
    folder = base / "images" / options.card.stem
    before = load(options.before) if options.before else None
    sounds, unknown_curve = sound_tables(backend, before, options.sounds)
    cost = [
        [c.model, c.seconds, f"{c.per_window_ms:.2f}", f"{c.per_second_ms:.2f}", f"{c.ratio:.2f}"]
        for c in costs([backend] + ([before] if before else []))
    ]
    size = (options.model / "model.onnx").stat().st_size
    shifts = about["shifts"]
    parts = {
        "id": about["id"],
        "revision": about["revision"],
        "licence": about["licence"],
        "data": about["training_data"],
        "labels": ", ".join(about["labels"]),
        "missing": ", ".join(about["missing_labels"]),
        "temperature": about["temperature"],
        "neutral_shift": shifts.get("neutral", 0),
        "unknown_shift": shifts.get("unknown", 0),
        "dim": about["dim"],
        "size": f"{size / 1e6:.1f} MB",
        "aims": aims(scored),
        "four": table(scored),
        "calm": calm_table(backend, before, clips, set(options.calm), options.manifest.parent),
        "by_sex": group_table(
            scored, "sex", lambda clip: clip.gender.replace("?", "") or "not given"
        ),
        "by_language": group_table(scored, "language", lambda clip: clip.language or "not given"),
        "by_label": by_label(scored),
        "pictures": draw(scored, folder, base),
        "sounds": sounds,
        "curve": unknown_curve,
        "speed": markdown_table(
            ["model", "window s", "ms a window", "ms a second of speech", "ratio"], cost
        ),
        "experiments": experiments(),
    }
    text = (HERE / "card.md").read_text(encoding="utf-8")
    for name, value in parts.items():
        text = text.replace("{" + name + "}", str(value))
    options.card.write_text(text, encoding="utf-8")
