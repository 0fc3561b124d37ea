"""Behaviour of a model in everyday use: calm speech, acted calls, and sounds without speech."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stream.backends.base import Backend
from training.data import Clip
from training.nonspeech import CALLS, Utterances, curve, hear, joined, read_sounds
from training.scored import score_corpus
from training.splits import is_measured

CALM_CONDITIONS = ("clean", "telephone")
SHIFTS = (-4.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
"""Biases of `unknown` of the curve, added to the shipped one."""


def markdown_table(head: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def calm_table(
    backend: Backend, before: Backend | None, clips: Sequence[Clip], corpora: set[str], folder: Path
) -> str:
    """Return the share of each label in calm speech that was kept for measurement, in percent."""
    names = sorted({name for one in (backend, before) if one for name in one.info.labels})
    body = []
    for corpus in sorted(corpora):
        own = [clip for clip in clips if clip.corpus == corpus and is_measured(clip)]
        for one in [backend] + ([before] if before else []):
            scored = score_corpus(one, corpus, own, folder, CALM_CONDITIONS)
            for condition in CALM_CONDITIONS:
                logits = scored.logits[condition]
                top = logits[np.isfinite(logits).all(axis=1)].argmax(axis=1)
                counts = np.bincount(top, minlength=len(one.info.labels)) / max(1, len(top))
                shares = dict(zip(one.info.labels, counts, strict=True))
                cells = [percent(shares[name]) if name in shares else "" for name in names]
                body.append([corpus, condition, one.info.id, len(own), *cells])
    return markdown_table(["corpus", "condition", "model", "clips", *names], body)


def sound_tables(backend: Backend, before: Backend | None, path: Path) -> tuple[str, str]:
    """Return tables of sounds without speech and acted calls, and of the bias of `unknown`."""
    sounds, calls = read_sounds(path), read_sounds(path, CALLS)
    models = [backend] + ([before] if before else [])
    body = []
    shipped: list[Utterances] = []
    for one in models:
        parts = {kind: hear(one, audio) for kind, audio in sounds.items()}
        spoken = hear(one, [audio for part in calls.values() for audio in part])
        shipped = shipped or [joined(parts), spoken]
        for kind, heard in (*parts.items(), ("all", joined(parts)), ("acted calls", spoken)):
            body.append(
                [
                    kind,
                    one.info.id,
                    f"{heard.seconds:.0f}",
                    len(heard),
                    heard.count("unknown"),
                    heard.count("neutral"),
                    "" if kind == "acted calls" else f"{heard.per_10_min:.1f}",
                ]
            )
    head = [
        "sound",
        "model",
        "s",
        "utterances",
        "`unknown`",
        "neutral",
        "false emotions per 10 min",
    ]
    points = [
        [f"{point.shift:+.1f}", f"{point.per_10_min:.1f}", *(percent(x) for x in point.unknown)]
        for point in curve(shipped[0], shipped[1:], SHIFTS)
    ]
    biases = ["bias of `unknown`", "false emotions per 10 min", "acted calls: `unknown` %"]
    return markdown_table(head, body), markdown_table(biases, points)
