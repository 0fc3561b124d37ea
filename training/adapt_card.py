"""Model card of an adapted model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from training.head import Evaluation


def write_card(path: Path, about: Mapping[str, object], evaluation: Evaluation) -> None:
    """Write the card: its data, its figures beside the replaced head's, its confusions."""
    names = evaluation.labels
    better = evaluation.better
    verdict = (
        "The base has other labels, or was not run on these clips, so there is no comparison."
        if better is None
        else f"It gains {100 * better:+.1f} points of UAR over the head that it replaces."
    )
    recalls = "\n".join(
        f"| {name} | {100 * evaluation.recalls.get(name, 0):.0f} "
        f"| {_percent(evaluation.base_recalls.get(name))} |"
        for name in names
    )
    rows = "\n".join(
        f"| {name} | " + " | ".join(f"{100 * share:.0f}" for share in row) + " |"
        for name, row in zip(names, evaluation.confusion, strict=True)
    )
    path.write_text(
        f"""# Model card: {about["id"]}

Written by `python -m training.adapt`. One linear layer on the features of {about["base_id"]},
revision {about["base_revision"]}. Licence: {about["licence"]}.

- **Data**: {evaluation.clips} clips of {evaluation.speakers} speakers.
- **Labels**: {", ".join(names)}. The model has no others, also not `unknown` unless it is listed.
- **Temperature**: {evaluation.temperature:.3f}, fitted on the clips of held-out speakers.

## Figures

{evaluation.folds} folds; nobody is on both sides of one. The replaced head is measured on the same
clips, with only these labels in the running. All shares in percent.

{evaluation.table()}

{verdict}

| label | recall of the new head | of the head it replaces |
|---|---|---|
{recalls}

Confusions, true label by row:

| | {" | ".join(names)} |
|---|{"---|" * len(names)}
{rows}

These figures hold for speakers and lines like those of the clips, and for nothing else. With few
speakers they vary by several points. The rules of [the base's card](../docs/model-card.md) on uses
apply here too.
""",
        encoding="utf-8",
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f}"
