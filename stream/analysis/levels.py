"""Level and clipping of 20 ms frames."""

from __future__ import annotations

import numpy as np

from stream.types import FRAME, Samples

CLIPPED_LEVEL = 32_700
"""Int16 magnitude from which a sample counts as clipped."""

_FULL_SCALE = np.float32(FRAME * 32_768**2)
_MAY_CLIP = (CLIPPED_LEVEL - 100) ** 2
"""Sum of squares of a block below which it has no clipped sample: a single one exceeds it."""
_MAY_EXCEED = _MAY_CLIP / (FRAME * 32_768**2)
"""The same as the mean square of one frame: -25 dBFS."""


def clipped_samples(steps: Samples) -> list[int]:
    """Return the number of clipped samples of each frame of float32[n * 320].

    `steps` is in steps of int16; samples beyond its range are limited in place.
    """
    if float(np.dot(steps, steps)) < _MAY_CLIP or not _is_high(steps):
        return [0] * (len(steps) // FRAME)
    np.clip(steps, -32_768, 32_767, out=steps)
    clipped: list[int] = (np.abs(steps.reshape(-1, FRAME)) >= CLIPPED_LEVEL).sum(axis=1).tolist()
    return clipped


def frame_power(steps: Samples) -> list[float]:
    """Return the mean square of each frame of float32[n * 320], with full scale = 1.

    `steps` is in steps of int16; samples beyond its range are limited in place.
    """
    frames = steps.reshape(-1, FRAME)
    power = np.einsum("ij,ij->i", frames, frames)
    power /= _FULL_SCALE
    levels: list[float] = power.tolist()
    if max(levels) >= _MAY_EXCEED and _is_high(steps):
        np.clip(steps, -32_768, 32_767, out=steps)
    return levels


def _is_high(steps: Samples) -> bool:
    """Return whether a sample is at `CLIPPED_LEVEL` or beyond.

    Most blocks have none. To limit and count in all of them would cost a seventh of the pipeline
    more. argmax takes a third of the time of max.
    """
    highest, lowest = steps.item(steps.argmax()), steps.item(steps.argmin())
    return bool(highest >= CLIPPED_LEVEL or lowest <= -CLIPPED_LEVEL)
