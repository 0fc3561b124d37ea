"""Settings of a training. The defaults are those of the shipped model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Settings of a training, recorded in model.json."""

    copies: int = 8
    """Degraded windows of every clip in the bank; fine-tuning needs half as many again."""
    sounds: int = 225
    """Windows of synthetic sounds per copy, the examples of `unknown`; 0 omits `unknown`."""
    components: int = 256
    dropout: float = 0.4
    steps: int = 0
    """Steps of fine-tuning; 0 leaves the encoder unchanged, and `dropout`, `warmup`, `batch`, the
    rates and decays, `unknown`, `average` and `masks` are not used."""
    warmup: int = 60
    """Steps in which only the head is trained: a random head would damage the encoder."""
    batch: int = 16
    head_rate: float = 2e-3
    encoder_rate: float = 1e-4
    """Learning rate of the last layer; `layer_decay` lowers it layer by layer down to the stem."""
    layer_decay: float = 0.6
    decay: float = 1e-2
    smoothing: float = 0.1
    activation: float = 0.3
    """Weight of the loss that separates only aroused from calm labels."""
    unknown: float = 0.12
    """Share of synthetic sounds in a batch."""
    average: float = 0.98
    """Decay of the exponential moving average of the weights; the average is the result."""
    masks: int = 2
    """SpecAugment: bands, and spans of time, masked per window."""
    settle_steps: int = 150
    """Maximum iterations of L-BFGS."""
    ridge: float = 0.1
    """Weight of the squared weights of the head, on standardised frames."""
    mild: float = 0.4
    """Strength of the milder copies of emotional windows: 1 as acted, 0 neutral."""
