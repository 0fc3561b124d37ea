"""High-pass filter of one channel, against offset, hum and rumble. Pure."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.types import FRAME, SAMPLE_RATE, Samples

CUTOFF_HZ = 90.0
"""Frequency at which the filter attenuates by 3 dB; docs/performance.md compares others."""

INAUDIBLE = 1e-6
"""State below which it counts as 0. In silence it would become denormal, which is slow."""

Complexes = NDArray[np.complex128]


class _Filter(NamedTuple):
    """Filter in parallel form, H(z) = direct + 2 Re(r / (1 - p / z)), with the complex pole p.

    `rising` is p^-n and `falling` 2 r p^n for n = 0..319; `last` is p^319, `decay` p^320.
    `settled` is the state after a constant of 1.
    """

    direct: np.float32
    pole: complex
    settled: complex
    last: complex
    decay: complex
    rising: Complexes
    falling: Complexes


@cache
def _butterworth() -> _Filter:
    """Return the bilinear transform of a Butterworth high-pass filter of second order."""
    k = math.tan(math.pi * CUTOFF_HZ / SAMPLE_RATE)
    gain = 1 / (1 + math.sqrt(2) * k + k * k)
    middle, product = (1 - k * k) * gain, (1 - math.sqrt(2) * k + k * k) * gain
    pole = complex(middle, math.sqrt(product - middle * middle))
    residue = gain * (1 - 1 / pole) ** 2 / (1 - pole.conjugate() / pole)
    n = np.arange(FRAME, dtype=np.float64)
    return _Filter(
        direct=np.float32(gain / product),
        pole=pole,
        settled=1 / (1 - pole),
        last=pole ** (FRAME - 1),
        decay=pole**FRAME,
        rising=np.asarray(pole**-n, np.complex128),
        falling=np.asarray(2 * residue * pole**n, np.complex128),
    )


class HighPass:
    """Butterworth high-pass filter of second order over whole frames of 20 ms, with its state.

    It is causal and has no delay. Any grouping of the same frames gives the same output to the
    bit. A loop over samples is too slow in Python, so the recursion w[n] = x[n] + p w[n - 1] is
    p^n times the running sum of x[n] p^-n, over one frame: p^-320 is 3000, which costs 12 of the
    53 bits of a float64. Only the state at its end goes from one frame to the next.
    """

    def __init__(self) -> None:
        self._filter = _butterworth()
        self._state: complex | None = None

    def reset(self) -> None:
        """Forget the audio before a hole."""
        self._state = None

    def push(self, samples: Samples) -> Samples:
        """Return the filtered samples, float32[n * FRAME], in the unit of the input.

        The first sample counts as the offset of the time before it, so that a constant offset
        yields zeros from the beginning.
        """
        coefficients = self._filter
        frames = samples.reshape(-1, FRAME)
        sums = frames * coefficients.rising
        np.add.accumulate(sums, 1, None, sums)
        state = self._state
        if state is None:
            state = frames.item(0) * coefficients.settled
        before = []
        for end in sums[:, -1].tolist():
            # The state before a frame is in its sums as a sample before the first one.
            before.append([state * coefficients.pole])
            state = end * coefficients.last + state * coefficients.decay
            if abs(state) < INAUDIBLE:
                state = 0j
        self._state = state
        sums += np.array(before)
        sums *= coefficients.falling
        filtered = frames * coefficients.direct
        filtered += sums.real
        return filtered.reshape(-1)
