"""Fitting of `unknown`: speech against sounds, once the emotions are fitted.

The emotions stay as they are, so whatever is learnt as a sound changes no emotion. Speech and
sounds are given in parts, such as windows and utterances, that weigh the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from training.data import Array

SMOOTHING = 0.02
"""Share of speech taken for sounds and the other way round: some utterances are noise."""


def fit_unknown(
    project: Callable[[Array], Tensor],
    emotions: tuple[Tensor, Tensor],
    speech: Sequence[Array],
    sounds: Sequence[Array],
    ridge: float,
    iterations: int,
) -> tuple[Tensor, Tensor]:
    """Return the weights [components, 1] and the bias [1] of `unknown`.

    `project` maps features to components; `emotions` are the weights and the bias of the other
    labels. Empty parts are left out; `ridge` is the weight of the squared weights.
    """
    parts = [
        (project(features), float(is_sound))
        for group, is_sound in ((speech, False), (sounds, True))
        for features in group
        if len(features)
    ]
    counts = [sum(target == kind for _, target in parts) for kind in (0.0, 1.0)]
    x = torch.cat([part for part, _ in parts])
    target = torch.cat([torch.full((len(part),), kind) for part, kind in parts])
    share = [1 / (counts[int(kind)] * len(part)) for part, kind in parts]
    weights = torch.cat(
        [torch.full((len(part),), one) for (part, _), one in zip(parts, share, strict=True)]
    )
    spoken = (x @ emotions[0] + emotions[1]).logsumexp(dim=1)
    target = target * (1 - 2 * SMOOTHING) + SMOOTHING
    weight = torch.zeros(x.shape[1], requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)

    def loss() -> Tensor:
        above = x @ weight + bias - spoken
        wrong = functional.binary_cross_entropy_with_logits(above, target, reduction="none")
        return weights @ wrong + ridge * weight.square().sum()

    minimise([weight, bias], loss, iterations)
    return weight.detach()[:, None], bias.detach()


def minimise(parameters: list[Tensor], loss: Callable[[], Tensor], iterations: int) -> None:
    """Minimise a convex loss by L-BFGS."""
    solver = torch.optim.LBFGS(parameters, max_iter=iterations, line_search_fn="strong_wolfe")

    def closure() -> float:
        solver.zero_grad()
        value = loss()
        torch.autograd.backward(value)
        return float(value.detach())

    solver.step(closure)
