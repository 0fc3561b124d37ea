"""Training on labelled clips, with measurement and calibration on clips left out."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from stream.analysis.baseline import ASIDE
from stream.labels import LABELS
from training.calibrate import (
    LeftOut,
    joint_temperature,
    logits_of,
    neutral_shift,
)
from training.data import Array, Clip, read_manifest
from training.export import build_encoder
from training.features import FeatureCache, Features, FrameEncoder
from training.measure import Floats, Ints, measure
from training.model import Emotion, Head, save_model
from training.recipe import Recipe
from training.settle import Examples, joined, milder, settle
from training.splits import folds_of, is_measured
from training.views import CONDITIONS
from training.whisper import load_encoder

CALM_CONDITIONS = ("clean", "telephone")
"""Conditions in which calm speech sets the bias of neutral."""

console = Console(stderr=True)


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

    `acted` and `calm` are degraded windows, `sounds` are synthetic; `acted_views` and `calm_views`
    are whole clips by recording condition.
    """

    acted: list[tuple[list[int], Features]]
    calm: Features
    sounds: Array
    acted_views: dict[str, Array]
    calm_views: dict[str, Array]


def encode(data: TrainingSet, cache: FeatureCache, recipe: Recipe) -> Material:
    """Compute the features of a training set, or read them from the cache."""
    acted = []
    for corpus in sorted({clip.corpus for clip in data.acted}):
        rows = [i for i, clip in enumerate(data.acted) if clip.corpus == corpus]
        copies = -(-recipe.windows // len(rows))
        clips = [data.acted[i] for i in rows]
        acted.append((rows, cache.degraded(corpus, clips, copies)))
    sounds = cache.sounds(recipe.sounds).means if recipe.sounds else None
    empty = acted[0][1].means[:0]
    calm = cache.degraded("calm", data.calm, recipe.calm_copies) if data.calm else None
    return Material(
        acted,
        calm if calm is not None else Features(empty, np.zeros(0, np.int64)),
        sounds if sounds is not None else empty,
        {name: cache.view("acted", data.acted, name).means for name in CONDITIONS},
        {
            name: cache.view("calm", data.calm, name).means if data.calm else empty
            for name in CALM_CONDITIONS
        },
    )


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
        calm = examples(data.calm, material.calm, ~calm_out)
        spoken = [part for part in parts if len(part) and part.corpora[0] not in self.bursts]
        if self.recipe.mild < 1 and spoken:
            parts.append(milder(joined(spoken), self.recipe.mild))
        torch.manual_seed(0)
        return settle(joined(parts), calm, material.sounds, data.labels, self.recipe, self.bursts)

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


def report(title: str, logits: Floats, truth: Ints) -> dict[str, object]:
    """Print figures of calibrated logits; return them for model.json."""
    figures = measure(logits, truth)
    console.print(f"{title:40} {figures}", highlight=False)
    return {k: v if k == "clips" else round(v, 3) for k, v in asdict(figures).items()}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description="Train an emotion model on your labelled clips. Writes model.npz, held-out.npz "
        "and training.json for training.export. Features are kept in --out, so another recipe on "
        "the same clips takes seconds. Use only recordings whose licence allows you to publish the "
        "trained weights.",
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        required=True,
        help="CSV with the columns path (relative to it), corpus, speaker, emotion (one of "
        + ", ".join(LABELS)
        + ") and, if known, language and gender",
    )
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    parser.add_argument("--corpora", nargs="+", default=[], help="only these acted corpora")
    parser.add_argument(
        "--calm",
        nargs="+",
        default=[],
        help="corpora of calm speech; half of it is not learnt from",
    )
    parser.add_argument(
        "--bursts", nargs="+", default=[], help="acted corpora without words, learnt only as acted"
    )
    parser.add_argument("--labels", nargs="+", default=list(LABELS), help="only these labels")
    parser.add_argument(
        "--encoder", type=Path, default=Path("encoder.npz"), help="from training.encoder"
    )
    parser.add_argument("--id", default="emotide-embedded", help="the model's name")
    parser.add_argument(
        "--count",
        nargs="*",
        default=[],
        metavar="EMOTION=LABEL",
        help="emotions of the manifest to learn as another label, such as bored=neutral",
    )
    parser.add_argument("--licence", default="unknown", help="licence of the weights, as SPDX")
    parser.add_argument("--data", default="", help="the training data in one sentence")
    parser.add_argument(
        "--cautious",
        type=float,
        default=1.0,
        metavar="T",
        help="minimum temperature to ship: speakers left out of a corpus that is learnt from are "
        "easier than other corpora (default 1)",
    )
    parser.add_argument("--folds", type=int, default=5, help="folds of cross-validation")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of all random numbers (default 0)"
    )
    parser.add_argument("--threads", type=int, default=2, help="cores to use (default 2)")
    for field in fields(Recipe):
        name, kind = f"--{field.name.replace('_', '-')}", type(field.default)
        parser.add_argument(name, type=kind, default=field.default, help="recipe (%(default)s)")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    if not options.encoder.exists():
        raise SystemExit(f"{options.encoder} is missing: create it with python -m training.encoder")
    recipe = Recipe(**{field.name: getattr(options, field.name) for field in fields(Recipe)})
    counts = dict(item.split("=", 1) for item in options.count if "=" in item)
    if len(counts) < len(options.count) or not set(counts.values()) <= set(LABELS):
        raise SystemExit(f"--count: expected EMOTION=LABEL, LABEL one of {', '.join(LABELS)}")
    data = read_set(
        options.manifest,
        set(options.corpora),
        set(options.calm),
        options.labels,
        counts,
        recipe.sounds > 0,
    )
    console.print(
        f"{len(data.acted)} acted and {len(data.calm)} calm clips, labels {' '.join(data.labels)}"
    )
    encoder = load_encoder(options.encoder, recipe.layers)
    graph = build_encoder(encoder).SerializeToString()
    digest = hashlib.sha256(graph).hexdigest()
    cache = FeatureCache(options.out / "features", FrameEncoder(graph), digest, options.seed)
    trainer = Trainer(data, encode(data, cache, recipe), recipe, frozenset(options.bursts))
    none_out = (np.zeros(len(clips), np.bool_) for clips in (data.acted, data.calm))
    head = trainer.fit(*none_out)
    acted, calm = trainer.cross_validate(options.folds)
    sources = trainer.leave_source_out()
    shifts = dict.fromkeys(data.labels, 0.0)
    if data.calm and "neutral" in shifts:
        label = data.labels.index("neutral")
        corpora = np.array([clip.corpus for clip in data.calm])
        shifts["neutral"] = neutral_shift(calm, corpora, label, recipe.neutral_share)
        for left_out in (acted, calm):
            left_out.shift(label, shifts["neutral"])
    if "unknown" in shifts:
        shifts["unknown"] = recipe.unknown_bias
        for left_out in (acted, calm):
            left_out.shift(data.labels.index("unknown"), recipe.unknown_bias)
    offsets = np.array([shifts[label] for label in data.labels])
    with torch.no_grad():
        head.out.bias += torch.from_numpy(offsets).float()
    sources = {name: (logits + offsets, truth) for name, (logits, truth) in sources.items()}
    parts = [part for rows in acted.logits.values() for part in by_corpus(data, rows).values()]
    if data.calm:
        neutral = np.full(len(data.calm), data.labels.index("neutral"))
        parts += [(rows, neutral) for rows in calm.logits.values()]
    # Whether a clip is speech is another question: `unknown` has no part in the temperature.
    emotions = [i for i, label in enumerate(data.labels) if label != "unknown"]
    fitted = joint_temperature([(rows[:, emotions], truth) for rows, truth in parts])
    temperature = max(options.cautious, fitted)
    save_model(options.out / "model.npz", Emotion(encoder, head))
    clips = [*data.acted, *data.calm]
    np.savez(
        options.out / "held-out.npz",
        allow_pickle=False,
        paths=[clip.path for clip in data.acted],
        **acted.logits,
    )
    figures = {
        f"{corpus}, speakers left out, {name}": report(f"{corpus}, {name}", *part)
        for name, rows in acted.logits.items()
        for corpus, part in by_corpus(data, rows / temperature).items()
    }
    figures |= {
        f"{name}, all of it left out": report(f"{name}, source left out", z / temperature, truth)
        for name, (z, truth) in sources.items()
    }
    mean_logits = {
        name: [round(float(x), 3) for x in np.nanmean(rows, axis=0)]
        for name, rows in (
            ("acted", balanced_means(data, acted.logits["clean"])),
            *((("calm", np.concatenate(list(calm.logits.values()))),) if data.calm else ()),
        )
    }
    average = (
        {"reference": reference(data.labels, mean_logits["acted"], mean_logits["calm"])}
        if data.calm
        else {}
    )
    facts = {
        "id": options.id,
        "labels": data.labels,
        "missing_labels": [label for label in LABELS if label not in data.labels],
        "counts": counts,
        "temperature": round(temperature, 3),
        "shifts": {label: round(shift, 3) for label, shift in shifts.items() if shift},
        "mean_logits": mean_logits,
        **average,
        "licence": options.licence,
        "training_data": options.data,
        "clips": {name: sum(c.corpus == name for c in clips) for name in {c.corpus for c in clips}},
        "recipe": asdict(recipe) | {"seed": options.seed},
        "figures": figures,
    }
    (options.out / "training.json").write_text(json.dumps(facts, indent=2) + "\n")


CALM_PART = 0.25
"""Share of calm speech in the average voice of `reference`; the rest is acted, all labels alike."""


def reference(labels: Sequence[str], acted: Sequence[float], calm: Sequence[float]) -> list[float]:
    """Return the logits of an average voice, for the baseline: mean 0 over the emotions."""
    emotions = np.array([label not in ASIDE for label in labels])
    mixed = (1 - CALM_PART) * np.asarray(acted) + CALM_PART * np.asarray(calm)
    return [round(float(x), 3) for x in np.where(emotions, mixed - mixed[emotions].mean(), 0.0)]


def balanced_means(data: TrainingSet, logits: Floats) -> Floats:
    """Return the mean logits of every label of every corpus, float[labels of corpora, labels]."""
    parts = by_corpus(data, logits).values()
    return np.stack([z[truth == i].mean(axis=0) for z, truth in parts for i in np.unique(truth)])


def by_corpus(data: TrainingSet, logits: Floats) -> dict[str, tuple[Floats, Ints]]:
    """Return logits and truth of the acted clips by corpus."""
    corpora = np.array([clip.corpus for clip in data.acted])
    parts = {}
    for name in np.unique(corpora):
        rows = (corpora == name) & (data.truth >= 0)
        parts[str(name)] = (logits[rows], data.truth[rows])
    return parts


if __name__ == "__main__":
    main()
