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

PART = 32
"""Samples that are filtered by one matrix product; a frame has ten parts."""

PARTS = FRAME // PART

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]


class _Filter(NamedTuple):
    """Filter in parallel form, H(z) = direct + 2 Re(r / (1 - p / z)), with the complex pole p.

    Its state is w[n] = x[n] + p w[n - 1], and p^k w is what a state adds k samples later.
    """

    settled: complex
    """State after a constant of 1."""
    ends: Floats
    """[PART, 2]: the state at the end of a part after silence (re, im)."""
    states: Complexes
    """[PARTS, PARTS + 1]: the states before each part and after the last, from those ends."""
    tails: Complexes
    """[PARTS]: what the state before a frame is before each of its parts."""
    decay: complex
    """Factor of the state before a frame in the state after it."""
    output: Floats
    """[PART + 2, PART]: the output of a part, from its samples and the state before it (re, im)."""


@cache
def _butterworth() -> _Filter:
    """Return the bilinear transform of a Butterworth high-pass filter of second order."""
    k = math.tan(math.pi * CUTOFF_HZ / SAMPLE_RATE)
    gain = 1 / (1 + math.sqrt(2) * k + k * k)
    middle, product = (1 - k * k) * gain, (1 - math.sqrt(2) * k + k * k) * gain
    pole = complex(middle, math.sqrt(product - middle * middle))
    residue = 2 * gain * (1 - 1 / pole) ** 2 / (1 - pole.conjugate() / pole)

    n = np.arange(PART)
    later = n[None, :] - n[:, None]
    response = np.where(later >= 0, (residue * pole ** np.maximum(later, 0)).real, 0.0)
    response += np.eye(PART) * (gain / product)
    ends = pole ** (PART - 1 - n)
    tail = residue * pole ** (n + 1)

    step, m = pole**PART, np.arange(PARTS + 1)
    between = m[None, :] - 1 - m[:PARTS, None]
    return _Filter(
        settled=1 / (1 - pole),
        ends=np.column_stack((ends.real, ends.imag)),
        states=np.where(between >= 0, step ** np.maximum(between, 0), 0),
        tails=np.asarray(step ** m[:PARTS], np.complex128),
        decay=step**PARTS,
        output=np.vstack((response, tail.real, -tail.imag)),
    )


class HighPass:
    """Butterworth high-pass filter of second order over whole frames of 20 ms, with its state.

    It is causal and has no delay. A loop over samples is too slow in Python, so the recursion is
    solved by matrix products: within a part, then over the parts of a frame; only the state before
    each frame is found one after the other. float64 makes any grouping of the same frames give the
    same steps of int16.
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
        filter_ = self._filter
        state = self._state
        if state is None:
            state = samples.item(0) * filter_.settled
        parts = len(samples) // PART
        # Samples and the state before them side by side: one product gives the output of a part.
        known = np.empty((parts, PART + 2))
        known[:, :PART] = samples.reshape(-1, PART)
        ends = (known[:, :PART] @ filter_.ends).view(np.complex128)
        states = ends.reshape(-1, PARTS) @ filter_.states
        before = []
        for end in states[:, PARTS].tolist():
            before.append(state)
            state = end + state * filter_.decay
            if abs(state) < INAUDIBLE:
                state = 0j
        self._state = state
        within = states[:, :PARTS] + np.multiply.outer(before, filter_.tails)
        known[:, PART:] = within.view(np.float64).reshape(-1, 2)
        return (known @ filter_.output).astype(np.float32).reshape(-1)
