"""Confusion matrices and reliability diagrams of the model card, as SVG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from training.measure import Bin, Floats

mpl.rcParams |= {"svg.hashsalt": "emotide", "svg.fonttype": "none", "font.size": 9}


def save(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    plt.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close()
    # matplotlib leaves trailing spaces.
    path.write_text("".join(f"{line.rstrip()}\n" for line in path.read_text().splitlines()))


def draw_confusion(path: Path, title: str, shares: Floats, labels: Sequence[str]) -> None:
    """Draw `shares` float[acted, predicted], both in the order of `labels`, in percent.

    Rows without clips are omitted.
    """
    rows = [i for i in range(len(labels)) if shares[i].any()]
    _, axes = plt.subplots(figsize=(0.62 * len(labels) + 1.2, 0.5 * len(rows) + 1.0))
    axes.imshow(shares[rows], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right")
    axes.set_yticks(range(len(rows)), [labels[i] for i in rows])
    axes.set_title(title)
    axes.set_ylabel("acted")
    axes.set_xlabel("predicted")
    for y, row in enumerate(rows):
        for x, share in enumerate(shares[row]):
            if share >= 0.005:
                colour = "white" if share > 0.6 else "black"
                axes.text(x, y, f"{100 * share:.0f}", ha="center", va="center", color=colour)
    save(path)


def draw_reliability(path: Path, title: str, bins: Sequence[Bin]) -> None:
    """Draw accuracy over confidence; a well-calibrated model lies on the diagonal."""
    _, axes = plt.subplots(figsize=(2.9, 2.9))
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
    largest = max(b.clips for b in bins)
    for number, b in enumerate(bins):
        if b.clips:
            axes.bar((number + 0.5) / 10, b.accuracy, width=0.09, color="#8fb8de")
            size = 8 + 60 * b.clips / largest
            axes.scatter(b.confidence, b.accuracy, s=size, color="#1f4e79", zorder=3)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", title=title)
    axes.set_aspect("equal")
    save(path)
