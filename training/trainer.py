"""Heads fitted to a whole training set, or to all of it but a fold or a corpus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from training.calibrate import LeftOut, logits_of
from training.data import Clip
from training.features import Features
from training.measure import Floats, Ints
from training.model import Head
from training.recipe import Recipe
from training.settle import Examples, joined, milder, settle
from training.splits import folds_of
from training.training_set import Material, TrainingSet


def examples(clips: Sequence[Clip], features: Features, used: NDArray[np.bool_]) -> Examples:
    """Return the windows of the clips that are `used`, bool[clips].

    Windows in which no frame counts, because a pause fills them, are omitted.
    """
    kept = np.isfinite(features.means).all(axis=1) & used[features.clips]
    owners = [clips[i] for i in features.clips[kept]]
    return Examples(
        features.means[kept],
        np.array([clip.emotion for clip in owners], np.str_),
        np.array([clip.corpus for clip in owners], np.str_),
        np.array([clip.speaker for clip in owners], np.str_),
    )


class Trainer:
    """Fits heads to parts of a training set.

    `bursts` are corpora without words: their emotions are learnt as they are, not milder as well.
    """

    def __init__(
        self,
        data: TrainingSet,
        material: Material,
        recipe: Recipe,
        bursts: frozenset[str] = frozenset(),
    ) -> None:
        self.data, self.material, self.recipe, self.bursts = data, material, recipe, bursts

    def fit(self, acted_out: NDArray[np.bool_], calm_out: NDArray[np.bool_]) -> Head:
        """Return a head that learnt from all clips but those that are `out`, bool[clips].

        Of every acted clip it learns the degraded windows and the clean clip as a whole.
        """
        data, material = self.data, self.material
        used = ~acted_out & (data.truth >= 0)
        parts = []
        for rows, features in material.acted:
            owners = Features(features.means, np.asarray(rows)[features.clips])
            parts.append(examples(data.acted, owners, used))
            clean = Features(material.acted_views["clean"][rows], np.asarray(rows))
            parts.append(examples(data.acted, clean, used))
        heard = []
        for rows, features in material.acted_heard:
            owners = Features(features.means, np.asarray(rows)[features.clips])
            heard.append(examples(data.acted, owners, used))
        calm = [
            examples(data.calm, features, ~calm_out)
            for features in (material.calm, material.calm_heard)
        ]
        spoken = [part for part in parts if len(part) and part.corpora[0] not in self.bursts]
        windows = joined(spoken or parts)
        speech = [part.features for part in (windows, *heard, *calm)]
        if self.recipe.mild < 1 and (spoken or heard):
            parts.append(milder(joined([*spoken, *heard]), self.recipe.mild))
        torch.manual_seed(0)
        acted = joined([*parts, *heard])
        return settle(acted, joined(calm), speech, material.sounds, data.labels, self.recipe)

    def cross_validate(self, folds: int) -> tuple[LeftOut, LeftOut]:
        """Score whole acted clips and calm ones, each left out of what its head learnt from."""
        data, material = self.data, self.material
        acted_fold, calm_fold = (folds_of(clips, folds) for clips in (data.acted, data.calm))
        acted, calm = LeftOut(len(data.labels)), LeftOut(len(data.labels))
        for fold in range(folds):
            out, calm_out = acted_fold == fold, calm_fold == fold
            head = self.fit(out, calm_out)
            acted.score(head, material.acted_views, out)
            calm.score(head, material.calm_views, calm_out)
        return acted, calm

    def leave_source_out(self) -> dict[str, tuple[Floats, Ints]]:
        """Return logits and truth of each acted corpus, by a head that learnt from the others."""
        corpora = np.array([clip.corpus for clip in self.data.acted])
        scored = {}
        for corpus in np.unique(corpora):
            out = corpora == corpus
            if out.all():
                continue
            measured = out & (self.data.truth >= 0)
            head = self.fit(out, np.zeros(len(self.data.calm), np.bool_))
            logits = logits_of(head, self.material.acted_views["clean"][measured])
            scored[str(corpus)] = (logits, self.data.truth[measured])
        return scored
