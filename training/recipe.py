"""Settings of a training. The defaults are those of the shipped model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Settings of a training, recorded in model.json."""

    windows: int = 4000
    """Minimum number of degraded windows of a corpus of acted emotions; all clips have as many."""
    calm_copies: int = 2
    """Degraded windows of every calm clip."""
    sounds: int = 450
    """Windows of synthetic sounds, examples of `unknown`; 0 omits `unknown`."""
    scenes: int = 300
    """Scenes of synthetic sounds, 10 s each; what the voice detector finds is `unknown` as well."""
    heard: int = 1000
    """Minimum number of degraded clips of a corpus of speech in which utterances are found."""
    layers: int = 1
    """Layers of the encoder that are used."""
    components: int = 256
    """Principal components of the features: what the head is fitted on, and the embedding."""
    smoothing: float = 0.1
    activation: float = 0.3
    """Weight of the loss that separates only aroused from calm labels."""
    calm_weight: float = 0.05
    """Weight of calm speech as neutral, all corpora of it together; acted speech has 1."""
    unknown_ridge: float = 0.002
    """Weight of the squared weights of `unknown`, on the components."""
    mild: float = 0.3
    """Strength of the milder copies of acted sentences: 1 as acted, 0 neutral."""
    ridge: float = 0.02
    """Weight of the squared weights of the head, on the components."""
    iterations: int = 100
    """Maximum iterations of L-BFGS."""
    neutral_share: float = 0.74
    """Share of calm speech, left out of training, that is called neutral: sets its bias."""
    unknown_bias: float = -0.5
    """Bias added to the logit of `unknown`; chosen on the curve of the model card."""
