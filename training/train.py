"""Training on labelled clips, with measurement and calibration on held-out speakers."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from stream.labels import LABELS
from training.augment import change_voice, degrade
from training.bank import fill_bank
from training.data import Array, Clip, read_manifest
from training.fit import Ints, Task, Trainer, fit
from training.measure import Floats, fit_temperature, measure
from training.model import Emotion, load_model, save_model, with_new_head
from training.recipe import Recipe
from training.settle import EncodedBank, encode_bank, settle
from training.views import CONDITIONS, score
from training.whisper import load_encoder

DISGUISED = "disguised"
"""Condition: held-out speakers in another voice, degraded; the closest to an unseen corpus."""

UNKNOWN_SHARE = 0.02
"""Share of 1 s views of held-out speakers that may be labelled `unknown`."""

console = Console(stderr=True)


@dataclass(frozen=True)
class TrainingSet:
    """Clips, and their labels as indices into `labels`, where `unknown` is last if present."""

    clips: list[Clip]
    labels: list[str]
    truth: Ints


def read_set(
    manifest: Path, corpora: set[str], sounds: bool, counts: dict[str, str]
) -> TrainingSet:
    """Read the clips of a manifest whose emotion is, or counts as, one of Emotide's labels."""
    all_clips = read_manifest(manifest, corpora, counts)
    clips = [clip for clip in all_clips if clip.emotion in LABELS]
    if len({clip.emotion for clip in clips}) < 2 or len({clip.speaker for clip in clips}) < 2:
        raise SystemExit(
            f"{manifest}: at least two emotions and two speakers are needed; emotions must be "
            f"among {', '.join(LABELS)}"
        )
    labels = [x for x in LABELS if any(clip.emotion == x for clip in clips)]
    if sounds and "unknown" not in labels:
        labels.append("unknown")
    return TrainingSet(clips, labels, np.array([labels.index(clip.emotion) for clip in clips]))


def disguise(clip: Clip, number: int) -> Array:
    """Return the clip in another voice, degraded, as an unseen corpus may sound; deterministic."""
    rng = np.random.default_rng([number, 7])
    return degrade(rng, change_voice(rng, clip.audio))


def view_logits(model: Emotion, clips: list[Clip], name: str) -> dict[str, Floats]:
    """Return logits float[clips, labels] by condition: 1 s and 3 s views of each, and disguised."""

    def infer(audio: Array) -> Array:
        with torch.no_grad():
            logits: Array = model(torch.from_numpy(audio)).numpy()
        return logits

    rows: dict[str, list[Array]] = {}
    for number, clip in enumerate(track(clips, description=name)):
        audio = {condition: apply(clip.audio) for condition, apply in CONDITIONS.items()}
        for condition, sound in audio.items():
            for view in ("1 s", "3 s"):
                rows.setdefault(f"{condition}, {view}", []).append(score(infer, sound, view))
        rows.setdefault(DISGUISED, []).append(score(infer, disguise(clip, number), "3 s"))
    return {key: np.stack(value).astype(np.float64) for key, value in rows.items()}


def prepare_folder(folder: Path, *inputs: object) -> Path:
    """Create the folder, or keep it from an earlier run; empty it if the inputs differ."""
    digest = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
    mark = folder / "inputs.sha256"
    if folder.exists() and (not mark.exists() or mark.read_text() != digest):
        console.print(f"{folder} was made from other inputs: deleted and started again")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(digest)
    return folder


@dataclass(frozen=True)
class Run:
    """Settings and folder of a training; all its models use the same bank."""

    work: Path
    encoder: Path
    recipe: Recipe
    seed: int

    def train(self, data: TrainingSet, folds: int) -> tuple[Emotion, dict[str, Floats]]:
        """Return the model of all clips, and logits of each clip by a model without its speaker.

        Results that exist in `work` are not computed again.
        """
        recipe, mels = self.recipe, load_encoder(self.encoder).shape.mels
        clips = [(clip.path, clip.speaker, clip.emotion) for clip in data.clips]
        drawn = (clips, mels, recipe.copies, recipe.sounds, self.seed)
        bank = fill_bank(
            prepare_folder(self.work / "bank", drawn), data.clips, mels, recipe, self.seed
        )
        weights = hashlib.sha256(self.encoder.read_bytes()).hexdigest()
        models = prepare_folder(self.work / "models", drawn, asdict(recipe), folds, weights)
        speakers = [clip.speaker for clip in data.clips]

        def model(name: str, selected: Ints, seed: int) -> Emotion:
            path = models / f"{name}.npz"
            if path.exists():
                return load_model(path)
            task = Task(bank, data.truth, selected, data.labels, speakers)
            if recipe.steps:
                tuned = path.with_suffix(".tuned.npz")
                if not tuned.exists():
                    fit(Trainer(task, self.encoder, recipe, seed), tuned, name)
                made = load_model(tuned)
                encoded = encode_bank(made.encoder, bank, name)
            else:
                made = with_new_head(
                    load_encoder(self.encoder), len(data.labels), recipe.components
                )
                encoded = untuned()
            settle(made, encoded, task, recipe)
            save_model(path, made)
            return made

        @cache
        def untuned() -> EncodedBank:
            """Encode the bank with the untuned encoder, which is the same for every fold."""
            return encode_bank(load_encoder(self.encoder), bank, "encoding")

        final = model("final", np.arange(len(data.clips)), self.seed)
        names = sorted(set(speakers))
        logits: dict[str, Floats] = {}
        for fold in range(min(folds, len(names))):
            out = np.isin(speakers, names[fold::folds])
            learnt, tested = np.flatnonzero(~out), np.flatnonzero(out)
            scores = models / f"fold-{fold}-scores.npz"
            if not scores.exists():
                fold_model = model(f"fold-{fold}", learnt, self.seed + fold + 1)
                test_clips = [data.clips[i] for i in tested]
                rows = view_logits(fold_model, test_clips, f"scoring {fold}")
                unfinished = scores.with_suffix(".part.npz")
                np.savez(unfinished, allow_pickle=False, **rows)
                unfinished.replace(scores)
            with np.load(scores) as stored:
                for name, held in stored.items():
                    empty = np.zeros((len(data.clips), held.shape[1]))
                    logits.setdefault(name, empty)[tested] = held
        return final, logits


def unknown_shift(data: TrainingSet, logits: dict[str, Floats]) -> float:
    """Return what to add to the logit of `unknown` so that it wins `UNKNOWN_SHARE` of 1 s views."""
    last = data.labels.index("unknown")
    short = np.concatenate([rows for name, rows in logits.items() if name.endswith(", 1 s")])
    lead = np.delete(short, last, axis=1).max(axis=1) - short[:, last]
    return float(np.quantile(lead, UNKNOWN_SHARE))


def report(data: TrainingSet, logits: dict[str, Floats], temperature: float) -> dict[str, object]:
    """Print figures of every condition at the temperature; return them for model.json."""
    figures: dict[str, object] = {}
    console.print("held-out speakers; percent     UAR    acc    ECE   conf")
    for name, rows in logits.items():
        condition_figures = measure(rows / temperature, data.truth)
        console.print(f"{name:18} {condition_figures}", highlight=False)
        shares = {
            k: v if k == "clips" else round(v, 3) for k, v in asdict(condition_figures).items()
        }
        figures[f"speakers left out, {name}"] = shares
    return figures


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description="Train an emotion model on your labelled clips. Writes model.npz, held-out.npz "
        "and training.json for training.export. After an interruption, run it again to resume. "
        "Use only recordings whose licence allows you to publish the trained weights.",
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
    parser.add_argument("--corpora", nargs="+", help="only these corpora of the manifest")
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
        help="minimum temperature to ship: the one fitted to held-out speakers, even disguised, is "
        "far too confident on other corpora (default 1)",
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
    data = read_set(options.manifest, set(options.corpora or ()), recipe.sounds > 0, counts)
    console.print(f"{len(data.clips)} clips, labels {' '.join(data.labels)}")
    run = Run(options.out / "work", options.encoder, recipe, options.seed)
    model, logits = run.train(data, options.folds)
    shift = 0.0
    if "unknown" in data.labels:
        shift = unknown_shift(data, logits)
        last = data.labels.index("unknown")
        with torch.no_grad():
            model.head.out.bias[last] += shift
        for rows in logits.values():
            rows[:, last] += shift
    fitted = fit_temperature(logits["clean, 3 s"], data.truth)
    disguised = fit_temperature(logits[DISGUISED], data.truth)
    temperature = max(options.cautious, disguised)
    save_model(options.out / "model.npz", model)
    np.savez(
        options.out / "held-out.npz",
        allow_pickle=False,
        paths=[clip.path for clip in data.clips],
        **logits,
    )
    facts = {
        "id": options.id,
        "labels": data.labels,
        "missing_labels": [label for label in LABELS if label not in data.labels],
        "counts": counts,
        "temperature": round(temperature, 3),
        "fitted_temperature": round(fitted, 3),
        "fitted_temperature_disguised": round(disguised, 3),
        "unknown_shift": round(shift, 3),
        "licence": options.licence,
        "training_data": options.data,
        "recipe": asdict(recipe) | {"seed": options.seed},
        "figures": report(data, logits, temperature),
    }
    (options.out / "training.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
