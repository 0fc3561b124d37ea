"""Fine-tuning one model on a bank; killed at any moment, it goes on where it was."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional

from training.bank import Bank
from training.encoder import LogMel, load_encoder
from training.measure import AROUSED, CALM
from training.model import Emotion, headed, save_model
from training.recipe import Recipe

Ints = NDArray[np.int64]

SAVED_EVERY = 50
"""Steps between checkpoints."""

FRAMES = (50, 100, 150)
"""Window lengths in frames, as likely as SHARES."""
SHARES = (0.3, 0.4, 0.3)


def loss_of(
    logits: Tensor,
    truth: Tensor,
    labels: Sequence[str],
    recipe: Recipe,
    weight: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of the labels, `weight` float32[labels] each, and of aroused against calm."""
    loss = functional.cross_entropy(logits, truth, weight, label_smoothing=recipe.smoothing)
    sides = [[i for i, name in enumerate(labels) if name in side] for side in (AROUSED, CALM)]
    up, down = (torch.isin(truth, torch.tensor(side)) for side in sides)
    told = up | down
    if all(sides) and told.any():
        aroused, calm = (logits[told][:, side].logsumexp(dim=1) for side in sides)
        aim = up[told].float() * 0.9 + 0.05
        extra = functional.binary_cross_entropy_with_logits(aroused - calm, aim)
        loss = loss + recipe.activation * extra
    return loss


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be learnt: of the bank's clips those in `chosen` int[n]; `truth` int[clips] are
    indices into `labels`, `speakers` names[clips]."""

    bank: Bank
    truth: Ints
    chosen: Ints
    labels: Sequence[str]
    speakers: Sequence[str]


class Trainer:
    """A model, its moving average and its optimiser, all as of `step`.

    Every step draws from a generator of its own, so a resumed run equals one that was never
    interrupted.
    """

    def __init__(self, task: Task, encoder: Path, recipe: Recipe, seed: int) -> None:
        self.task, self.recipe, self.seed = task, recipe, seed
        labels = task.labels
        self.step = 0
        truth = task.truth[task.chosen]
        chance = 1.0 / np.bincount(truth)[truth]
        self.chance = chance / chance.sum()
        torch.manual_seed(seed)
        frozen = load_encoder(encoder)
        self.model = headed(frozen, len(labels), recipe.components, recipe.dropout)
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

    def _groups(self) -> list[dict[str, object]]:
        """The head, the projection, then the encoder from its last layer to its stem."""
        recipe, head, encoder = self.recipe, self.model.head, self.model.encoder
        groups: list[dict[str, object]] = [
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
        """Log-mels of windows, which frames count, and their labels; labels are drawn evenly."""
        bank, count = self.task.bank, rows - sounds
        clips = rng.choice(self.task.chosen, count, p=self.chance)
        copies = rng.integers(len(bank.speech), size=count)
        levels = bank.speech[copies, clips][..., -2 * frames :]
        counted = bank.counted[copies, clips][:, -frames:]
        truth = self.task.truth[clips]
        if sounds:
            which = rng.integers(len(bank.sounds), size=sounds)
            levels = np.concatenate([levels, bank.sounds[which][..., -2 * frames :]])
            counted = np.concatenate([counted, np.ones((sounds, frames), np.bool_)])
            truth = np.append(truth, [self.task.labels.index("unknown")] * sounds)
        mels = LogMel.levelled(torch.from_numpy(levels.astype(np.float32)))
        return mels, torch.from_numpy(counted).float(), torch.from_numpy(truth)

    def _hide(self, rng: Generator, mels: Tensor) -> None:
        """SpecAugment (Park et al., 2019): bands and spans of time become their mean."""
        rows, bands, times = mels.shape
        for row in range(rows):
            mean = mels[row].mean()
            for _ in range(self.recipe.masks):
                wide, long = rng.integers(bands // 7 + 1), rng.integers(times // 8 + 1)
                low, begin = rng.integers(bands - wide + 1), rng.integers(times - long + 1)
                mels[row, low : low + wide] = mean
                mels[row, :, begin : begin + long] = mean

    def _schedule(self) -> bool:
        """Set the rates for this step; whether the encoder learns in it."""
        recipe, step = self.recipe, self.step
        warm = min(recipe.warmup, recipe.steps // 2)
        done = max(0.0, (step - warm) / max(1, recipe.steps - warm))
        cosine = 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * done))
        learns = step >= warm and recipe.encoder_rate > 0
        for number, (group, rate) in enumerate(
            zip(self.optimiser.param_groups, self.rates, strict=True)
        ):
            ramp = min(1.0, (step + 1) / 20) if number == 0 else min(1.0, (step - warm + 1) / 30)
            group["lr"] = rate * cosine * (ramp if number == 0 or learns else 0.0)
        return learns

    def advance(self) -> None:
        """One step."""
        recipe = self.recipe
        rng = np.random.default_rng([self.seed, self.step, 1])
        torch.manual_seed(int(rng.integers(2**31)))
        learns = self._schedule()
        frames = int(rng.choice(FRAMES, p=SHARES))
        sounds = rng.binomial(recipe.batch, recipe.unknown) if len(self.task.bank.sounds) else 0
        mels, counted, truth = self._draw(rng, recipe.batch, frames, min(sounds, recipe.batch - 1))
        self._hide(rng, mels)
        self.model.train()
        with torch.set_grad_enabled(learns):
            encoded = self.model.encoder.encode(mels)
        logits = torch.einsum("btl,bt->bl", self.model.head(encoded), counted)
        mean = logits / counted.sum(dim=1, keepdim=True).clamp(min=1)
        loss = loss_of(mean, truth, self.task.labels, recipe)
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        keep = min(recipe.average, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
            for mean, now in pairs:
                mean.lerp_(now, 1 - keep)
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
        """The averaged model, ready for inference."""
        return self.average.requires_grad_(False).eval()


def fit(trainer: Trainer, path: Path, name: str) -> Emotion:
    """Train to the end and write the model to `path`, with checkpoints beside it on the way."""
    checkpoint = path.with_suffix(".pt")
    if checkpoint.exists():
        trainer.resume(checkpoint)
    with Progress() as progress:
        bar = progress.add_task(name, total=trainer.recipe.steps, completed=trainer.step)
        while trainer.step < trainer.recipe.steps:
            trainer.advance()
            progress.update(bar, completed=trainer.step)
            if trainer.step % SAVED_EVERY == 0:
                trainer.save(checkpoint)
    model = trainer.finished()
    save_model(path, model)
    checkpoint.unlink(missing_ok=True)
    return model
