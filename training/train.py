"""Train the head on labelled clips over the frozen encoder, and measure it on speakers held out."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from stream.backends.base import LABELS
from training.data import LENGTHS, Clip, Mask, cut, degrade, read_manifest
from training.encoder import Encoder, load_encoder
from training.evaluate import LINES, VIEWS, Figures, Ints, fit_temperature, measure, windows
from training.head import Head, save_head

Half = NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class Bank:
    """Encoded windows of one length: frames float16[copies, clips, frames, features], which count.

    The encoder is frozen, so every window is encoded once and the head learns from the bank.
    """

    frames: Half
    mask: Mask


@dataclass(frozen=True)
class Recipe:
    """How a head is trained. The defaults made the model that is shipped."""

    components: int = 256
    width: int = 64
    kernel: int = 3
    dropout: float = 0.4
    steps: int = 400
    batch: int = 48
    rate: float = 3e-3
    decay: float = 1e-2
    smoothing: float = 0.1


def encode(encoder: Encoder, audio: list[NDArray[np.float32]]) -> Half:
    """Frames float16[rows, frames, features] of windows of one length, eight at a time."""
    with torch.no_grad():
        batches = [np.stack(audio[i : i + 8]) for i in range(0, len(audio), 8)]
        frames = [encoder(torch.from_numpy(batch)).half().numpy() for batch in batches]
    return np.concatenate(frames)


def fill_bank(
    rng: Generator, encoder: Encoder, clips: list[Clip], length: int, copies: int
) -> Bank:
    """`copies` degraded windows of every clip, each cut anew, after some other clip."""
    frames, masks = [], []
    for _ in range(copies):
        befores = rng.integers(len(clips), size=len(clips))
        cuts = [cut(rng, clip, clips[b], length) for clip, b in zip(clips, befores, strict=True)]
        frames.append(encode(encoder, [degrade(rng, audio) for audio, _ in cuts]))
        masks.append(np.stack([mask for _, mask in cuts]))
    return Bank(np.stack(frames), np.stack(masks))


def project(head: Head, frames: Half) -> Tensor:
    """Projected frames float32[..., components]; in pieces, for a bank may be large."""
    flat = frames.reshape(-1, frames.shape[-1])
    with torch.no_grad():
        pieces = [
            head.project(torch.from_numpy(flat[i : i + 20_000]).float())
            for i in range(0, len(flat), 20_000)
        ]
    return torch.cat(pieces).reshape(*frames.shape[:-1], -1)


def fit(banks: list[Bank], truth: Ints, labels: int, recipe: Recipe, seed: int) -> Head:
    """A head trained on all clips of the banks; `truth` int[clips]. Labels are drawn evenly."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    features = banks[0].frames.shape[-1]
    # No more components than the encoder has features: a tiny one has few.
    components = min(recipe.components, features)
    head = Head(features, labels, components, recipe.width, recipe.kernel, recipe.dropout)
    sample = np.concatenate([bank.frames[0][bank.mask[0]] for bank in banks])
    with torch.no_grad():
        head.whiten(torch.from_numpy(sample[:: max(1, len(sample) // 20_000)]).float())
    inputs = [project(head, bank.frames) for bank in banks]

    trained = [p for p in head.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, recipe.steps)
    chance = 1.0 / np.bincount(truth, minlength=labels)[truth]
    for _ in range(recipe.steps):
        which = rng.integers(len(banks))
        clip = rng.choice(len(truth), recipe.batch, p=chance / chance.sum())
        copy = rng.integers(len(inputs[which]), size=recipe.batch)
        mask = torch.from_numpy(banks[which].mask[copy, clip]).float()
        frames = head.score(inputs[which][copy, clip])
        logits = torch.einsum("btl,bt->bl", frames, mask) / mask.sum(dim=1, keepdim=True)
        target = torch.from_numpy(truth[clip])
        loss = functional.cross_entropy(logits, target, label_smoothing=recipe.smoothing)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    head.eval()
    return head


def held_out(
    banks: list[Bank], encoder: Encoder, clips: list[Clip], truth: Ints, folds: int, recipe: Recipe
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Logits [clips, labels] per line and view, from heads that never heard the clip's speaker."""
    speakers = sorted({clip.speaker for clip in clips})
    labels = int(truth.max()) + 1
    logits = {(line, view): np.zeros((len(clips), labels)) for line in LINES for view in VIEWS}
    for fold in range(folds):
        tested = np.isin([clip.speaker for clip in clips], speakers[fold::folds])
        kept = [Bank(bank.frames[:, ~tested], bank.mask[:, ~tested]) for bank in banks]
        head = fit(kept, truth[~tested], labels, recipe, seed=fold)
        for index in np.flatnonzero(tested):
            for (line, view), scores in logits.items():
                pieces = windows(LINES[line](clips[index].audio), view)
                with torch.no_grad():
                    rows = head(encoder(torch.from_numpy(np.stack([w for w, _ in pieces]))))
                counted = [row[-n:] for row, (_, n) in zip(rows.numpy(), pieces, strict=True)]
                scores[index] = np.concatenate(counted).mean(axis=0)
        print(f"fold {fold + 1} of {folds} done", flush=True)
    return logits


def figures(
    logits: dict[tuple[str, str], NDArray[np.float64]], truth: Ints, temperature: float
) -> dict[str, Figures]:
    return {
        f"{line}, {view}": measure(scores / temperature, truth)
        for (line, view), scores in logits.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description="Train an emotion head on your labelled clips. Writes head.npz and "
        "training.json (labels, temperature, figures of cross-validation by speaker) for "
        "training.export. Use only recordings whose licence lets you ship what they train.",
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        required=True,
        help="CSV with the columns path (relative to it), corpus, speaker, emotion (one of "
        + ", ".join(LABELS)
        + ")",
    )
    parser.add_argument("--corpora", nargs="+", help="only these corpora of the manifest")
    parser.add_argument("--encoder", type=Path, required=True, help=".npz of training.encoder")
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    parser.add_argument("--id", default="emotide-embedded", help="the model's name")
    parser.add_argument("--licence", default="unknown", help="licence of the weights, as SPDX")
    parser.add_argument("--data", default="", help="the training data in one sentence")
    parser.add_argument("--copies", type=int, default=4, help="degraded copies of every clip")
    parser.add_argument("--folds", type=int, default=5, help="folds of cross-validation")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="steps of training")
    parser.add_argument(
        "--cautious",
        type=float,
        default=1.0,
        metavar="T",
        help="least temperature to ship: what fits held-out speakers of the corpus is far too sure "
        "of other languages and lines (default 1)",
    )
    parser.add_argument("--threads", type=int, default=1, help="cores to use")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    clips = read_manifest(options.manifest, set(options.corpora or ()))
    labels = [label for label in LABELS if any(clip.emotion == label for clip in clips)]
    clips = [clip for clip in clips if clip.emotion in labels]
    truth = np.array([labels.index(clip.emotion) for clip in clips])
    recipe = Recipe(steps=options.steps)
    encoder = load_encoder(options.encoder)
    rng = np.random.default_rng(0)
    banks = [fill_bank(rng, encoder, clips, length, options.copies) for length in LENGTHS]
    print(f"{len(clips)} clips encoded, labels {' '.join(labels)}", flush=True)

    options.out.mkdir(parents=True, exist_ok=True)
    save_head(options.out / "head.npz", fit(banks, truth, len(labels), recipe, seed=0))
    print("head trained; cross-validating it", flush=True)
    logits = held_out(banks, encoder, clips, truth, options.folds, recipe)
    # Calibrated on what is live: windows of 3 s, from both kinds of line.
    views = [scores for (_, view), scores in logits.items() if view == "3 s"]
    temperature = fit_temperature(np.concatenate(views), np.tile(truth, len(views)))
    measured = figures(logits, truth, temperature)
    for name, line in measured.items():
        print(f"{name:18} {line}   (clips, UAR, acc, ECE, conf; percent)")

    facts = {
        "id": options.id,
        "labels": labels,
        "missing_labels": [label for label in LABELS if label not in labels],
        "temperature": max(options.cautious, round(temperature, 3)),
        "fitted_temperature": round(temperature, 3),
        "licence": options.licence,
        "training_data": options.data,
        "recipe": asdict(recipe) | {"copies": options.copies},
        "figures": {
            f"cross-validation by speaker, {name}": {
                key: value if key == "clips" else round(value, 3)
                for key, value in asdict(line).items()
            }
            for name, line in measured.items()
        },
    }
    (options.out / "training.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
