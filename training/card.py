"""The model card, docs/model-card.md, from the template `card.md` and measured figures."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stream.backends.base import Backend
from stream.backends.embedded import load
from training.data import Clip
from training.measure import FOUR, confusion, measure, recalls, reliability, softmax
from training.model import load_model
from training.nonspeech import FalseEmotions, count, read_sounds
from training.pictures import draw_confusion, draw_reliability
from training.scored import ScoredCorpus, table
from training.speed import costs
from training.views import CONDITIONS

HERE = Path(__file__).parent

AIMS = {
    "emodb-4": {"clean": 92, "telephone": 88},
    "ravdess": {"clean": 60},
    "nemo": {"clean": 50},
}
"""Minimum UAR of four classes, in percent, set before the model was trained."""
UNSEEN = ("ravdess", "nemo")


def markdown_table(head: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


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
            logits, truth = corpus.select(condition, corpus.labels)
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
        logits, truth = corpus.select("clean", corpus.labels)
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


def false_emotions(model: Backend, before: Backend | None, path: Path) -> str:
    """Sounds without speech, of the model and perhaps of one before it."""
    sounds = read_sounds(path)

    def cells(counts: Sequence[FalseEmotions]) -> list[object]:
        seconds = sum(f.seconds for f in counts)
        total, named = (sum(f.windows for f in counts), sum(f.windows_named for f in counts))
        sure_per_10_min = sum(f.sure for f in counts) * 600 / seconds
        utterances = sum(f.utterances for f in counts)
        share = percent(named / total)
        return [utterances, sum(f.named for f in counts), f"{sure_per_10_min:.1f}", f"{share} %"]

    models = [model] + ([before] if before else [])
    counts = [[count(one, kind, audio) for kind, audio in sounds.items()] for one in models]
    body = []
    for part in (*((i,) for i in range(len(sounds))), tuple(range(len(sounds)))):
        kind = list(sounds)[part[0]] if len(part) == 1 else "all"
        seconds = sum(counts[0][i].seconds for i in part)
        columns = [cell for one in counts for cell in cells([one[i] for i in part])]
        body.append([kind, f"{seconds:.0f}", *columns])
    head = ["utterances", "named", "surely named per 10 min", "windows named"]
    names = [title if one is model else f"before: {title}" for one in models for title in head]
    return markdown_table(["sound", "s", *names], body)


def aims(scored: Sequence[ScoredCorpus]) -> str:
    """Return a table of the aims and the figures reached."""
    body = []
    for corpus in scored:
        aim = AIMS.get(corpus.corpus)
        if aim is None:
            continue
        figures = {name: measure(*corpus.select(name, FOUR)) for name in CONDITIONS}
        clean = figures["clean"]
        for condition, minimum in aim.items():
            body.append([f"{corpus.corpus}, UAR of 4, {condition}", f"≥ {minimum}"])
            body[-1].append(percent(figures[condition].uar))
        if corpus.corpus in UNSEEN:
            for condition in [name for name in CONDITIONS if name != "clean"]:
                loss = 100 * (clean.uar - figures[condition].uar)
                body.append([f"{corpus.corpus}, loss of UAR, {condition}", "≤ 4", f"{loss:.1f}"])
            share = percent(corpus.activation("clean"))
            body.append([f"{corpus.corpus}, activation UAR, clean", "≥ 80", share])
            body.append([f"{corpus.corpus}, ECE, clean", "≤ 10", percent(clean.ece)])
    return markdown_table(["figure", "aim", "reached"], body)


def experiments() -> str:
    with (HERE / "experiments.csv").open(newline="", encoding="utf-8") as lines:
        table_rows = list(csv.reader(lines))
    return markdown_table(table_rows[0], table_rows[1:])


def write_card(
    options: argparse.Namespace, about: dict[str, Any], backend: Backend, scored: list[ScoredCorpus]
) -> None:
    """Measure, fill the template `card.md`, and write the card with its pictures."""
    base = options.card.parent
    folder = base / "images" / options.card.stem
    model = load_model(options.trained / "model.npz")
    before = load(options.before) if options.before else None
    cost = [
        [c.seconds, c.batch, f"{c.shipped:.1f}", f"{c.plain:.1f}", f"{c.shipped / c.plain:.2f}"]
        for c in costs(backend, model)
    ]
    size = (options.model / "model.onnx").stat().st_size
    parts = {
        "id": about["id"],
        "revision": about["revision"],
        "licence": about["licence"],
        "data": about["training_data"],
        "labels": ", ".join(about["labels"]),
        "missing": ", ".join(about["missing_labels"]),
        "temperature": about["temperature"],
        "fitted": about["fitted_temperature"],
        "disguised": about["fitted_temperature_disguised"],
        "shift": about["unknown_shift"],
        "dim": about["dim"],
        "size": f"{size / 1e6:.1f} MB",
        "speakers": ", ".join(
            sorted({c.speaker for x in scored if x.corpus not in UNSEEN for c in x.clips})
        ),
        "aims": aims(scored),
        "four": table(scored),
        "by_sex": group_table(
            scored, "sex", lambda clip: clip.gender.replace("?", "") or "not given"
        ),
        "by_language": group_table(scored, "language", lambda clip: clip.language or "not given"),
        "by_label": by_label(scored),
        "pictures": draw(scored, folder, base),
        "sounds": false_emotions(backend, before, options.sounds),
        "speed": markdown_table(["window s", "batch", "ms", "plain export ms", "ratio"], cost),
        "experiments": experiments(),
    }
    text = (HERE / "card.md").read_text(encoding="utf-8")
    for name, value in parts.items():
        text = text.replace("{" + name + "}", str(value))
    options.card.write_text(text, encoding="utf-8")
