"""The last stage: the fine-tuned encoder stands still, and the head learns on from its frames.

Frames are computed once, so many more windows fit into the time than fine-tuning allows.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from training.bank import Half
from training.encoder import LogMel
from training.fit import FRAMES, SHARES, Task, loss_of
from training.model import Emotion
from training.recipe import Recipe


def projected(model: Emotion, levels: Half, name: str) -> Tensor:
    """The head's projection of windows, float16[rows, frames, components]."""
    rows = []
    with torch.no_grad():
        for begin in track(range(0, len(levels), 16), description=name):
            mels = torch.from_numpy(levels[begin : begin + 16].astype(np.float32))
            frames = model.encoder.encode(LogMel.levelled(mels))
            rows.append(model.head.project(frames).half())
    return torch.cat(rows)


def settle(model: Emotion, task: Task, recipe: Recipe, seed: int, name: str) -> None:
    """Train the convolution and the last layer of the model's head in place."""
    bank, chosen, labels = task.bank, task.chosen, task.labels
    copies = min(recipe.settle_copies, len(bank.speech))
    if not (copies and recipe.settle_steps):
        return
    speech = bank.speech[:copies, chosen].reshape(-1, *bank.speech.shape[2:])
    counted: NDArray[np.bool_] = bank.counted[:copies, chosen].reshape(len(speech), -1)
    answers = np.tile(task.truth[chosen], copies)
    if len(bank.sounds):
        sounds = bank.sounds[: len(bank.sounds) * copies // len(bank.speech)]
        speech = np.concatenate([speech, sounds])
        counted = np.concatenate([counted, np.ones((len(sounds), counted.shape[1]), np.bool_)])
        answers = np.append(answers, [labels.index("unknown")] * len(sounds))
    frames = projected(model, speech, f"{name}, encoding")

    head = model.head.requires_grad_(True).train()
    trained = [*head.conv.parameters(), *head.out.parameters()]
    optimiser = torch.optim.AdamW(trained, lr=recipe.settle_rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.settle_rate, recipe.settle_steps
    )
    chance = 1.0 / np.bincount(answers)[answers]
    rng = np.random.default_rng([seed, 2])
    torch.manual_seed(seed)
    for _ in track(range(recipe.settle_steps), description=f"{name}, head"):
        rows = rng.choice(len(frames), recipe.settle_batch, p=chance / chance.sum())
        length = int(rng.choice(FRAMES, p=SHARES))
        mask = torch.from_numpy(counted[rows][:, -length:]).float()
        logits = torch.einsum("btl,bt->bl", head.score(frames[rows, -length:].float()), mask)
        mean = logits / mask.sum(dim=1, keepdim=True)
        loss = loss_of(mean, torch.from_numpy(answers[rows]), labels, recipe)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    model.requires_grad_(False).eval()
