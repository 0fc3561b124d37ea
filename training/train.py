"""Training on labelled clips, with measurement and calibration on clips left out."""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from stream.labels import LABELS
from training.calibrate import (
    LeftOut,
    balanced_means,
    joint_temperature,
    neutral_shift,
    reference,
)
from training.export import build_encoder
from training.features import FeatureCache, FrameEncoder
from training.measure import Floats, Ints, measure
from training.model import Emotion, save_model
from training.recipe import Recipe
from training.trainer import Trainer
from training.training_set import TrainingSet, encode, read_set
from training.whisper import load_encoder

console = Console(stderr=True)


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
    bursts = frozenset(options.bursts)
    trainer = Trainer(data, encode(data, cache, recipe, bursts), recipe, bursts)
    none_out = (np.zeros(len(clips), np.bool_) for clips in (data.acted, data.calm))
    head = trainer.fit(*none_out)
    acted, calm = trainer.cross_validate(options.folds)
    sources = trainer.leave_source_out()
    shifts = shift(data, recipe, acted, calm)
    offsets = np.array([shifts[label] for label in data.labels])
    with torch.no_grad():
        head.out.bias += torch.from_numpy(offsets).float()
    sources = {name: (logits + offsets, truth) for name, (logits, truth) in sources.items()}
    temperature = max(options.cautious, fitted_temperature(data, acted, calm))
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
        for corpus, part in data.by_corpus(rows / temperature).items()
    }
    figures |= {
        f"{name}, all of it left out": report(f"{name}, source left out", z / temperature, truth)
        for name, (z, truth) in sources.items()
    }
    facts = {
        "id": options.id,
        "labels": data.labels,
        "missing_labels": [label for label in LABELS if label not in data.labels],
        "counts": counts,
        "temperature": round(temperature, 3),
        "shifts": {label: round(shift, 3) for label, shift in shifts.items() if shift},
        **averages(data, acted, calm),
        "licence": options.licence,
        "training_data": options.data,
        "clips": {name: sum(c.corpus == name for c in clips) for name in {c.corpus for c in clips}},
        "recipe": asdict(recipe) | {"seed": options.seed},
        "figures": figures,
    }
    (options.out / "training.json").write_text(json.dumps(facts, indent=2) + "\n")


def shift(data: TrainingSet, recipe: Recipe, acted: LeftOut, calm: LeftOut) -> dict[str, float]:
    """Shift the logits of `acted` and `calm`; return the shift of each label."""
    shifts = dict.fromkeys(data.labels, 0.0)
    if data.calm and "neutral" in shifts:
        corpora = np.array([clip.corpus for clip in data.calm])
        label = data.labels.index("neutral")
        shifts["neutral"] = neutral_shift(calm, corpora, label, recipe.neutral_share)
    if "unknown" in shifts:
        shifts["unknown"] = recipe.unknown_bias
    for left_out in (acted, calm):
        for label, by in enumerate(shifts.values()):
            left_out.shift(label, by)
    return shifts


def fitted_temperature(data: TrainingSet, acted: LeftOut, calm: LeftOut) -> float:
    """Return the temperature that fits acted and calm clips in all conditions."""
    parts = [part for rows in acted.logits.values() for part in data.by_corpus(rows).values()]
    if data.calm:
        neutral = np.full(len(data.calm), data.labels.index("neutral"))
        parts += [(rows, neutral) for rows in calm.logits.values()]
    # Whether a clip is speech is another question: `unknown` has no part in the temperature.
    emotions = [i for i, label in enumerate(data.labels) if label != "unknown"]
    return joint_temperature([(rows[:, emotions], truth) for rows, truth in parts])


def averages(data: TrainingSet, acted: LeftOut, calm: LeftOut) -> dict[str, object]:
    """Return mean logits and, with calm speech, the average voice, for model.json."""
    rows = {"acted": balanced_means(data.by_corpus(acted.logits["clean"]).values())}
    if data.calm:
        rows["calm"] = np.concatenate(list(calm.logits.values()))
    means = {
        name: [round(float(x), 3) for x in np.nanmean(logits, axis=0)]
        for name, logits in rows.items()
    }
    if not data.calm:
        return {"mean_logits": means}
    return {
        "mean_logits": means,
        "reference": reference(data.labels, means["acted"], means["calm"]),
    }


def report(title: str, logits: Floats, truth: Ints) -> dict[str, object]:
    """Print figures of calibrated logits; return them for model.json."""
    figures = measure(logits, truth)
    console.print(f"{title:40} {figures}", highlight=False)
    return {k: v if k == "clips" else round(v, 3) for k, v in asdict(figures).items()}


if __name__ == "__main__":
    main()
