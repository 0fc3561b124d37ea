"""Fine-tuning of one model on a bank, with checkpoints so that an interrupted run resumes."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional

from training.bank import Bank
from training.measure import AROUSED, CALM
from training.model import Emotion, save_model, with_new_head
from training.recipe import Recipe
from training.whisper import LogMel, load_encoder

Ints = NDArray[np.int64]

CHECKPOINT_STEPS = 50
"""Steps between checkpoints."""

FRAMES = (50, 100, 150)
"""Window lengths in frames, drawn with the probabilities SHARES."""
SHARES = (0.3, 0.4, 0.3)


def loss_of(
    logits: Tensor,
    truth: Tensor,
    labels: Sequence[str],
    recipe: Recipe,
    weight: Tensor | None = None,
) -> Tensor:
    """Return the cross-entropy of the labels plus that of aroused against calm.

    `weight` float32[labels] weighs the labels in the first term.
    """
    loss = functional.cross_entropy(logits, truth, weight, label_smoothing=recipe.smoothing)
    sides = [[i for i, name in enumerate(labels) if name in side] for side in (AROUSED, CALM)]
    up, down = (torch.isin(truth, torch.tensor(side)) for side in sides)
    rated = up | down
    if all(sides) and rated.any():
        aroused, calm = (logits[rated][:, side].logsumexp(dim=1) for side in sides)
        target = up[rated].float() * 0.9 + 0.05
        extra = functional.binary_cross_entropy_with_logits(aroused - calm, target)
        loss = loss + recipe.activation * extra
    return loss


@dataclass(frozen=True, eq=False)
class Task:
    """The training set of one model: the clips `selected` int[n] of the bank.

    `truth` int[clips] are indices into `labels`, `speakers` are names[clips].
    """

    bank: Bank
    truth: Ints
    selected: Ints
    labels: Sequence[str]
    speakers: Sequence[str]


class Trainer:
    """A model, its moving average and its optimiser at `step`.

    Every step has its own random generator, so a resumed run equals an uninterrupted one.
    """

    def __init__(self, task: Task, encoder: Path, recipe: Recipe, seed: int) -> None:
        self.task, self.recipe, self.seed = task, recipe, seed
        labels = task.labels
        self.step = 0
        truth = task.truth[task.selected]
        probability = 1.0 / np.bincount(truth)[truth]
        self.probability = probability / probability.sum()
        torch.manual_seed(seed)
        pretrained = load_encoder(encoder)
        self.model = with_new_head(pretrained, len(labels), recipe.components, recipe.dropout)
        self._whiten()
        self.model.requires_grad_(True)
        self.model.encoder.positions.requires_grad_(False)
        self.average = copy.deepcopy(self.model)
        groups = self._groups()
        self.rates = [float(group["lr"]) for group in groups]
        self.optimiser = torch.optim.AdamW(groups, weight_decay=recipe.decay)

    def _whiten(self) -> None:
        rng = np.random.default_rng(self.seed)
        frames = []
        with torch.no_grad():
            for _ in range(12):
                mels, counted, _ = self._draw(rng, 16, FRAMES[1], sounds=0)
                frames.append(self.model.encoder.encode(mels)[counted.bool()])
        self.model.head.whiten(torch.cat(frames))

    def _groups(self) -> list[dict[str, Any]]:
        """Return the parameter groups: head, projection, then encoder layers from last to stem."""
        recipe, head, encoder = self.recipe, self.model.head, self.model.encoder
        groups: list[dict[str, Any]] = [
            {"params": head.out.parameters(), "lr": recipe.head_rate},
            {"params": head.project.parameters(), "lr": 0.02 * recipe.head_rate},
        ]
        stem = [*encoder.conv1.parameters(), *encoder.conv2.parameters()]
        rate = recipe.encoder_rate
        for part in (*(list(layer.parameters()) for layer in reversed(encoder.layers)), stem):
            groups.append({"params": part, "lr": rate})
            rate *= recipe.layer_decay
        return groups

    def _draw(
        self, rng: Generator, rows: int, frames: int, sounds: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw windows; return their log-mels, which frames count, and labels (equally likely)."""
        bank, count = self.task.bank, rows - sounds
        clips = rng.choice(self.task.selected, count, p=self.probability)
        copies = rng.integers(len(bank.speech), size=count)
        levels = bank.speech[copies, clips][..., -2 * frames :]
        counted = bank.counted[copies, clips][:, -frames:]
        truth = self.task.truth[clips]
        if sounds:
            which = rng.integers(len(bank.sounds), size=sounds)
            levels = np.concatenate([levels, bank.sounds[which][..., -2 * frames :]])
            counted = np.concatenate([counted, np.ones((sounds, frames), np.bool_)])
            truth = np.append(truth, [self.task.labels.index("unknown")] * sounds)
        mels = LogMel.normalised(torch.from_numpy(levels.astype(np.float32)))
        return mels, torch.from_numpy(counted).float(), torch.from_numpy(truth)

    def _mask(self, rng: Generator, mels: Tensor) -> None:
        """Apply SpecAugment (Park et al., 2019): set bands and spans of time to the mean."""
        rows, bands, times = mels.shape
        for row in range(rows):
            mean = mels[row].mean()
            for _ in range(self.recipe.masks):
                wide, long = rng.integers(bands // 7 + 1), rng.integers(times // 8 + 1)
                low, begin = rng.integers(bands - wide + 1), rng.integers(times - long + 1)
                mels[row, low : low + wide] = mean
                mels[row, :, begin : begin + long] = mean

    def _schedule(self) -> bool:
        """Set the learning rates of this step; return whether the encoder is trained in it."""
        recipe, step = self.recipe, self.step
        warm = min(recipe.warmup, recipe.steps // 2)
        done = max(0.0, (step - warm) / max(1, recipe.steps - warm))
        cosine = 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * done))
        trains_encoder = step >= warm and recipe.encoder_rate > 0
        for number, (group, rate) in enumerate(
            zip(self.optimiser.param_groups, self.rates, strict=True)
        ):
            ramp = min(1.0, (step + 1) / 20) if number == 0 else min(1.0, (step - warm + 1) / 30)
            group["lr"] = rate * cosine * (ramp if number == 0 or trains_encoder else 0.0)
        return trains_encoder

    def advance(self) -> None:
        """Run one step."""
        recipe = self.recipe
        rng = np.random.default_rng([self.seed, self.step, 1])
        torch.manual_seed(int(rng.integers(2**31)))
        trains_encoder = self._schedule()
        frames = int(rng.choice(FRAMES, p=SHARES))
        sounds = rng.binomial(recipe.batch, recipe.unknown) if len(self.task.bank.sounds) else 0
        mels, counted, truth = self._draw(rng, recipe.batch, frames, min(sounds, recipe.batch - 1))
        self._mask(rng, mels)
        self.model.train()
        with torch.set_grad_enabled(trains_encoder):
            encoded = self.model.encoder.encode(mels)
        logits = torch.einsum("btl,bt->bl", self.model.head(encoded), counted)
        mean = logits / counted.sum(dim=1, keepdim=True).clamp(min=1)
        loss = loss_of(mean, truth, self.task.labels, recipe)
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        decay = min(recipe.average, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
            for average, current in pairs:
                average.lerp_(current, 1 - decay)
        self.step += 1

    def save(self, path: Path) -> None:
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        unfinished = path.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.replace(path)

    def resume(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])

    def finished(self) -> Emotion:
        """Return the averaged model, ready for inference."""
        model: Emotion = self.average.requires_grad_(False).eval()
        return model


def fit(trainer: Trainer, path: Path, name: str) -> Emotion:
    """Train to the end and write the model to `path`; checkpoints are written beside it."""
    checkpoint = path.with_suffix(".pt")
    if checkpoint.exists():
        trainer.resume(checkpoint)
    with Progress() as progress:
        bar = progress.add_task(name, total=trainer.recipe.steps, completed=trainer.step)
        while trainer.step < trainer.recipe.steps:
            trainer.advance()
            progress.update(bar, completed=trainer.step)
            if trainer.step % CHECKPOINT_STEPS == 0:
                trainer.save(checkpoint)
    model = trainer.finished()
    save_model(path, model)
    checkpoint.unlink(missing_ok=True)
    return model
