"""The clips that a model is trained on, and their features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stream.labels import LABELS
from training.data import Array, Clip, read_manifest
from training.features import FeatureCache, Features
from training.measure import Floats, Ints
from training.recipe import Recipe
from training.splits import is_measured
from training.views import CONDITIONS

CALM_CONDITIONS = ("clean", "telephone")
"""Conditions in which calm speech sets the bias of neutral."""


@dataclass(frozen=True)
class TrainingSet:
    """Acted clips and calm ones, and the model's labels, where `unknown` is last if present.

    Clips of emotions that are not among the labels are encoded, but neither learnt nor measured.
    """

    acted: list[Clip]
    calm: list[Clip]
    labels: list[str]

    @property
    def truth(self) -> Ints:
        """Labels of the acted clips as indices into `labels`, -1 for others."""
        index = {label: i for i, label in enumerate(self.labels)}
        return np.array([index.get(clip.emotion, -1) for clip in self.acted])

    def by_corpus(self, logits: Floats) -> dict[str, tuple[Floats, Ints]]:
        """Return logits float[acted, labels] and truth by corpus, without clips of other labels."""
        corpora = np.array([clip.corpus for clip in self.acted])
        parts = {}
        for name in np.unique(corpora):
            rows = (corpora == name) & (self.truth >= 0)
            parts[str(name)] = (logits[rows], self.truth[rows])
        return parts


def read_set(
    manifest: Path,
    corpora: set[str],
    calm: set[str],
    labels: Sequence[str],
    counts: dict[str, str],
    sounds: bool,
) -> TrainingSet:
    """Read the clips of a manifest, and of the `labels` those that they have.

    All clips of the corpora `calm` count as neutral; those that are kept for measurement
    (`splits.is_measured`) are omitted.
    """
    chosen = [
        clip
        for clip in read_manifest(manifest, (corpora | calm) or None, counts)
        if not corpora or clip.corpus in corpora | calm
    ]
    acted = [clip for clip in chosen if clip.corpus not in calm and clip.emotion in LABELS]
    names = [x for x in LABELS if x in labels and x in {c.emotion for c in acted} - {"unknown"}]
    if len(names) < 2 or len({clip.speaker for clip in acted}) < 2:
        raise SystemExit(
            f"{manifest}: at least two emotions and two speakers are needed; emotions must be "
            f"among {', '.join(labels)}"
        )
    quiet = [clip for clip in chosen if clip.corpus in calm and not is_measured(clip)]
    return TrainingSet(acted, quiet, names + ["unknown"] * sounds)


@dataclass(frozen=True, eq=False)
class Material:
    """Features of everything that is learnt from or measured on; each is encoded once.

    `acted` and `calm` are degraded windows; `acted_heard` and `calm_heard` are utterances that the
    server finds in degraded clips, `bursts` left out. `sounds` are synthetic, in parts that weigh
    the same. `acted_views` and `calm_views` are whole clips by recording condition.
    """

    acted: list[tuple[list[int], Features]]
    calm: Features
    acted_heard: list[tuple[list[int], Features]]
    calm_heard: Features
    sounds: list[Array]
    acted_views: dict[str, Array]
    calm_views: dict[str, Array]


def encode(
    data: TrainingSet, cache: FeatureCache, recipe: Recipe, bursts: frozenset[str] = frozenset()
) -> Material:
    """Compute the features of a training set, or read them from the cache."""
    acted, acted_heard = [], []
    for corpus in sorted({clip.corpus for clip in data.acted}):
        rows = [i for i, clip in enumerate(data.acted) if clip.corpus == corpus]
        clips = [data.acted[i] for i in rows]
        copies = -(-recipe.windows // len(rows))
        acted.append((rows, cache.degraded(corpus, clips, copies)))
        if recipe.heard and corpus not in bursts:
            copies = -(-recipe.heard // len(rows))
            acted_heard.append((rows, cache.spoken(corpus, clips, copies)))
    empty = acted[0][1].means[:0]
    calm = calm_heard = Features(empty, np.zeros(0, np.int64))
    if data.calm:
        calm = cache.degraded("calm", data.calm, recipe.calm_copies)
        if recipe.heard:
            calm_heard = cache.spoken("calm", data.calm, -(-recipe.heard // len(data.calm)))
    sounds = [cache.sounds(recipe.sounds)] if recipe.sounds else []
    if recipe.sounds and recipe.scenes:
        sounds.append(cache.scenes(recipe.scenes))
    return Material(
        acted,
        calm,
        acted_heard,
        calm_heard,
        sounds,
        {name: cache.view("acted", data.acted, name).means for name in CONDITIONS},
        {
            name: cache.view("calm", data.calm, name).means if data.calm else empty
            for name in CALM_CONDITIONS
        },
    )
