"""Manifest of labelled clips and of feedback, for `training.adapt`."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stream.labels import LABELS


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the manifest."""

    line: int
    label: str
    speaker: str
    path: Path | None
    features: Path | None
    start_s: float
    end_s: float | None
    model: tuple[str, str] | None = None
    """Id and revision of the model whose features these are, None if unknown."""


def read_rows(manifest: Path) -> list[Row]:
    """Read a manifest. Raises `ValueError`, naming the line and the column."""
    rows = []
    with manifest.open(newline="", encoding="utf-8") as lines:
        for number, fields in enumerate(csv.DictReader(lines), 2):
            label = (fields.get("label") or fields.get("emotion") or "").strip()
            if label not in LABELS:
                raise ValueError(
                    f"line {number}, label: {label!r} is not one of {', '.join(LABELS)}"
                )
            speaker = (fields.get("speaker") or "").strip()
            if not speaker:
                raise ValueError(
                    f"line {number}, speaker: name the speaker, so that no voice is on both sides "
                    "of a check; where it is unknown, name the recording"
                )
            features, path = fields.get("features"), fields.get("path")
            if not features and not path:
                raise ValueError(f"line {number}: name a path or features")
            end = fields.get("end_s")
            model = (fields.get("model") or "").strip()
            if features and not model and "model" in fields:
                raise ValueError(
                    f"line {number}, model: name the model whose features these are; the server's "
                    "export does"
                )
            rows.append(
                Row(
                    number,
                    label,
                    speaker,
                    manifest.parent / path if path else None,
                    manifest.parent / features if features else None,
                    float(fields.get("start_s") or 0),
                    float(end) if end else None,
                    (model, (fields.get("revision") or "").strip()) if model else None,
                )
            )
    return rows


def of_model(
    rows: Sequence[Row], model: tuple[str, str]
) -> tuple[list[Row], Counter[tuple[str, str]]]:
    """Return the rows that a model can use, and the number of others by the model of theirs.

    Features of one model mean nothing to another, even if they are as many. A row of another model
    is used by its audio, if it has some.
    """
    usable, others = [], Counter[tuple[str, str]]()
    for row in rows:
        if row.features is None or row.model is None or row.model == model:
            usable.append(row)
        elif row.path is not None:
            usable.append(replace(row, features=None, model=None))
        else:
            others[row.model] += 1
    return usable, others
