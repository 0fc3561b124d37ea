"""The model card, docs/model-card.md: figures in braces are measured here or read from files."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stream.backends.base import Backend
from stream.backends.embedded import load
from training.data import Clip
from training.evaluate import Scored, table
from training.measure import FOUR, confusion, measure, recalls, reliability, softmax
from training.model import load_model
from training.nonspeech import FalseEmotions, count, read_sounds
from training.pictures import draw_confusion, draw_reliability
from training.speed import costs
from training.views import LINES

HERE = Path(__file__).parent

AIMS = {
    "emodb-4": {"clean": 92, "telephone": 88},
    "ravdess": {"clean": 60},
    "nemo": {"clean": 50},
}
"""Least UAR of four classes, set before the model was trained."""
UNSEEN = ("ravdess", "nemo")


def rows(head: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def by(scored: Sequence[Scored], what: str, of: Callable[[Clip], str]) -> str:
    """Four-class UAR over every line and activation, for groups of clips."""
    body = []
    for corpus in scored:
        for group in sorted({of(clip) for clip in corpus.clips}):
            part = corpus.only([i for i, clip in enumerate(corpus.clips) if of(clip) == group])
            uars = [percent(measure(*part.among(line, FOUR)).uar) for line in LINES]
            body.append([corpus.corpus, group, *uars, percent(part.activation("clean"))])
    return rows(["corpus", what, *LINES, "activation, clean"], body)


def by_label(scored: Sequence[Scored]) -> str:
    """Recall of every label, all labels of the model in the running."""
    body = []
    for corpus in scored:
        for line in LINES:
            logits, truth = corpus.among(line, corpus.labels)
            figures = measure(logits, truth)
            found = recalls(logits.argmax(axis=1), truth)
            cells = [percent(found[i]) if i in found else "" for i in range(len(corpus.labels))]
            body.append([corpus.corpus, line, *cells, percent(figures.uar), percent(figures.ece)])
    return rows(["corpus", "condition", *scored[0].labels, "UAR", "ECE"], body)


def draw(scored: Sequence[Scored], folder: Path, base: Path) -> str:
    """The pictures, and the Markdown that shows them."""
    shown = []
    for corpus in scored:
        logits, truth = corpus.among("clean", corpus.labels)
        shares = confusion(logits.argmax(axis=1), truth, len(corpus.labels))
        path = folder / f"confusion-{corpus.corpus}.svg"
        draw_confusion(path, f"{corpus.corpus}, clean", shares, corpus.labels)
        shown.append(f"![Confusion matrix of {corpus.corpus}]({path.relative_to(base)})")
        four, answer = corpus.among("clean", FOUR)
        path = folder / f"reliability-{corpus.corpus}.svg"
        draw_reliability(path, f"{corpus.corpus}, 4 classes", reliability(softmax(four), answer))
        shown.append(f"![Reliability of {corpus.corpus}]({path.relative_to(base)})")
    return "\n".join(shown)


def false_emotions(model: Backend, before: Backend | None, path: Path) -> str:
    """Sounds without speech, of the model and perhaps of one before it."""
    sounds = read_sounds(path)

    def cells(found: Sequence[FalseEmotions]) -> list[object]:
        seconds = sum(f.seconds for f in found)
        every, named = (sum(f.windows for f in found), sum(f.windows_named for f in found))
        per = sum(f.sure for f in found) * 600 / seconds
        utterances = sum(f.utterances for f in found)
        share = percent(named / every)
        return [utterances, sum(f.named for f in found), f"{per:.1f}", f"{share} %"]

    models = [model] + ([before] if before else [])
    found = [[count(one, kind, heard) for kind, heard in sounds.items()] for one in models]
    body = []
    for part in (*((i,) for i in range(len(sounds))), tuple(range(len(sounds)))):
        kind = list(sounds)[part[0]] if len(part) == 1 else "all"
        seconds = sum(found[0][i].seconds for i in part)
        columns = [cell for one in found for cell in cells([one[i] for i in part])]
        body.append([kind, f"{seconds:.0f}", *columns])
    head = ["utterances", "named", "surely named per 10 min", "windows named"]
    names = [title if one is model else f"before: {title}" for one in models for title in head]
    return rows(["sound", "s", *names], body)


def aims(scored: Sequence[Scored]) -> str:
    """What was asked for, beside what was reached."""
    body = []
    for corpus in scored:
        aim = AIMS.get(corpus.corpus)
        if aim is None:
            continue
        found = {line: measure(*corpus.among(line, FOUR)) for line in LINES}
        clean = found["clean"]
        for line, wanted in aim.items():
            body.append([f"{corpus.corpus}, UAR of 4, {line}", f"≥ {wanted}"])
            body[-1].append(percent(found[line].uar))
        if corpus.corpus in UNSEEN:
            for line in [line for line in LINES if line != "clean"]:
                lost = 100 * (clean.uar - found[line].uar)
                body.append([f"{corpus.corpus}, what {line} costs", "≤ 4", f"{lost:.1f}"])
            share = percent(corpus.activation("clean"))
            body.append([f"{corpus.corpus}, activation UAR, clean", "≥ 80", share])
            body.append([f"{corpus.corpus}, ECE, clean", "≤ 10", percent(clean.ece)])
    return rows(["figure", "aim", "reached"], body)


def experiments() -> str:
    with (HERE / "experiments.csv").open(newline="", encoding="utf-8") as lines:
        found = list(csv.reader(lines))
    return rows(found[0], found[1:])


def write_card(
    options: argparse.Namespace, about: dict[str, Any], backend: Backend, scored: list[Scored]
) -> None:
    """Fill `card.md` with what is measured and write it, pictures beside it."""
    base = options.card.parent
    folder = base / "images" / options.card.stem
    model = load_model(options.trained / "model.npz")
    before = load(options.before) if options.before else None
    cost = [
        [c.seconds, c.batch, f"{c.ours:.1f}", f"{c.plain:.1f}", f"{c.ours / c.plain:.2f}"]
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
        "by_sex": by(scored, "sex", lambda clip: clip.gender.replace("?", "") or "not given"),
        "by_language": by(scored, "language", lambda clip: clip.language or "not given"),
        "by_label": by_label(scored),
        "pictures": draw(scored, folder, base),
        "sounds": false_emotions(backend, before, options.sounds),
        "speed": rows(["window s", "batch", "ms", "plain export ms", "ratio"], cost),
        "experiments": experiments(),
    }
    text = (HERE / "card.md").read_text(encoding="utf-8")
    for name, value in parts.items():
        text = text.replace("{" + name + "}", str(value))
    options.card.write_text(text, encoding="utf-8")
