"""Floating-point operations of one window."""

from __future__ import annotations

from stream.backends.emotion2vec.config import Shape


def flops(shape: Shape, samples: int, labels: int = 9) -> int:
    """Return the operations of all products of one window, two per multiplication.

    Norms, activations and softmax are excluded, as is usual for a share of the matrix peak.
    """
    total, inputs = 0, 1
    for channels, width, stride in shape.convs:
        samples = (samples - width) // stride + 1
        total += 2 * samples * channels * width * inputs
        inputs = channels
    frames, dim = samples, shape.dim
    total += 2 * frames * inputs * dim
    group = dim // shape.position_groups
    total += shape.position_layers * 2 * frames * dim * shape.position_width * group
    tokens = frames + shape.extra_tokens
    block = 2 * tokens * dim * (4 * dim + 2 * shape.mlp) + 4 * tokens * tokens * dim
    total += (shape.prenet + shape.depth) * block
    return total + 2 * frames * dim * labels
