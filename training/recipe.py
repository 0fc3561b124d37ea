"""How a model is trained. The defaults made the model that is shipped."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Written into model.json, so that a model says how it came about."""

    copies: int = 8
    """Degraded windows of every clip in the bank; fine-tuning wants half as many again."""
    sounds: int = 225
    """Windows of synthetic sounds per copy, the examples of `unknown`; 0 trains no `unknown`."""
    components: int = 256
    dropout: float = 0.4
    steps: int = 0
    """Steps of fine-tuning; 0 leaves the encoder as it came, and then `dropout`, `warmup`, `batch`,
    the rates and decays, `unknown`, `average` and `masks` are not used."""
    warmup: int = 60
    """Steps in which only the head learns: a random head would spoil the encoder."""
    batch: int = 16
    head_rate: float = 2e-3
    encoder_rate: float = 1e-4
    """Of the last layer; earlier ones learn more slowly (`layer_decay`), the stem slowest."""
    layer_decay: float = 0.6
    decay: float = 1e-2
    smoothing: float = 0.1
    activation: float = 0.3
    """Weight of the loss that asks only whether the voice is aroused or calm."""
    unknown: float = 0.12
    """Share of synthetic sounds in a batch."""
    average: float = 0.98
    """Decay of the exponential moving average of the weights, which is what is kept."""
    masks: int = 2
    """SpecAugment: bands and spans of time hidden per window."""
    settle_steps: int = 150
    """Iterations of L-BFGS at most."""
    ridge: float = 0.1
    """Weight of the squared weights of the head, on standardised frames."""
    mild: float = 0.4
    """How strong the milder half of the emotional windows is: 1 as acted, 0 neutral."""
