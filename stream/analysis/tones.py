"""Recognition of tones: keyed digits, signal tones of telephone networks, beeps. Pure.

A tone is one or two lines in the spectrum. So is many a vowel, but its lines move with the pitch:
those of a tone keep their frequencies to less than a hertz from one frame to the next. Keyed
digits may be too short for that, and are known by their eight frequencies. The limits are measured
in docs/performance.md.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from stream.types import SAMPLE_RATE

Floats = NDArray[np.float32]

RATE = SAMPLE_RATE // 2
"""Sample rate of the analysis in Hz; telephone rate is sufficient."""
LENGTH, HOP = 512, 192
"""Samples of one frame (64 ms), and between the beginnings of two frames (24 ms)."""
LOWEST_BIN = 4
"""First bin of the spectrum that counts; hum and rumble below 60 Hz are not informative."""
LOBE = 2
"""Bins of a line on each side of its peak: half the main lobe of the taper."""

PURE_SHARE = 0.85
"""Share of a frame's energy that its two strongest lines must hold."""
STEADY_HZ, STEADY_SHARE = 0.8, 0.002
"""Movement of a line from one frame to the next, below which its frequency is constant: in Hz, and
as a share of it. Signal tones lie above 350 Hz, and the strongest lines of a held vowel below."""

ROWS_HZ = (697, 770, 852, 941)
COLUMNS_HZ = (1209, 1336, 1477, 1633)
"""Frequencies of keyed digits (DTMF). Source: ITU-T Q.23."""
DIGIT_TOLERANCE = 0.018
"""Largest relative deviation of a digit's frequencies. Source: ITU-T Q.24, table A.1 (1.8 %)."""
SIGNALS_HZ = (700, 900, 1100, 1300, 1500, 1700)
SIGNAL_TOLERANCE = 0.015
"""Frequencies of the digits between exchanges (MF), any two at a time, for 68 ms each, and their
largest relative deviation. Source: ITU-T Q.320 to Q.323 (signalling system R1)."""
DIGIT_TWIST = 10.0
"""Largest ratio of the energies of a digit's two lines: 10 dB."""
DIGIT_SHARE = 0.75
"""Share of a frame's energy that the two lines of a digit must hold."""


def spectra(samples: Floats, hop: int = HOP) -> Floats:
    """Return the power spectra float32[frames, LENGTH / 2 + 1] of float32[n] at 8 kHz.

    Bins below `LOWEST_BIN` are 0. `samples` must hold at least one frame.
    """
    count = (len(samples) - LENGTH) // hop + 1
    # Views of overlapping frames, as by sliding_window_view, which takes 10 us of 140 longer.
    frames = np.ndarray((count, LENGTH), np.float32, samples, strides=(4 * hop, 4))
    spectrum = np.fft.rfft(frames * _half_taper(), axis=1)
    power = np.asarray(spectrum.real**2 + spectrum.imag**2, np.float32)
    power[:, :LOWEST_BIN] = 0
    return power


def line_energy(power: Floats) -> Floats:
    """Return the energy float32[frames] that each frame's two strongest lines hold."""
    first, second = _peaks(power)
    return np.asarray(first[1] + second[1], np.float32)


def tonal_share(samples: Floats) -> float:
    """Return the share (0 to 1) of the energy of float32[n] at 8 kHz that lies in tonal frames."""
    power = spectra(samples)
    energy = np.maximum(power.sum(axis=1), 1e-20)
    (bins, held), (second_bins, second_held) = _peaks(power)
    hz, second_hz = _frequency(power, bins), _frequency(power, second_bins)
    pure = (held + second_held) / energy
    steady = _steady(hz, second_hz) & (pure > PURE_SHARE)
    keyed = _digits(hz, second_hz) | _signals(hz, second_hz)
    digits = keyed & (held < DIGIT_TWIST * second_held) & (pure > DIGIT_SHARE)
    return float(energy[steady | digits].sum() / energy.sum())


Line = tuple[NDArray[np.intp], Floats]
"""Peak bin and energy of one line in each frame."""


def _peaks(power: Floats) -> tuple[Line, Line]:
    """Return the strongest line of each frame, and the strongest besides it."""
    left = power.copy()
    at = np.arange(len(left))[:, None]
    lines = []
    for _ in range(2):
        bins = left.argmax(axis=1)
        lobe = bins[:, None] + np.arange(-LOBE, LOBE + 1)
        np.clip(lobe, 0, left.shape[1] - 1, out=lobe)
        lines.append((bins, left[at, lobe].sum(axis=1)))
        left[at, lobe] = 0
    return lines[0], lines[1]


def _frequency(power: Floats, bins: NDArray[np.intp]) -> Floats:
    """Return the frequency in Hz of the peak at each frame's bin: a parabola through the log."""
    at, middle = np.arange(len(power)), np.clip(bins, 1, power.shape[1] - 2)
    before, peak, after = (np.log(power[at, middle + n] + 1e-20) for n in (-1, 0, 1))
    curve = np.minimum(before - 2 * peak + after, -1e-6)
    shift = ((before - after) / (2 * curve)).clip(-0.5, 0.5)
    return np.asarray((middle + shift) * (RATE / LENGTH), np.float32)


def _steady(hz: Floats, second_hz: Floats) -> NDArray[np.bool_]:
    """Return which frames share a line with a neighbour, the strongest one of each.

    Of two equally strong lines either may be the strongest, so it is compared with both.
    """
    both = np.stack([hz, second_hz])
    least = np.minimum(STEADY_HZ, STEADY_SHARE * hz)
    forward = np.abs(both[:, 1:] - hz[:-1]).min(axis=0) < least[:-1]
    backward = np.abs(both[:, :-1] - hz[1:]).min(axis=0) < least[1:]
    pairs = forward & backward
    steady = np.zeros(len(hz), np.bool_)
    steady[1:] |= pairs
    steady[:-1] |= pairs
    return steady


def _digits(hz: Floats, second_hz: Floats) -> NDArray[np.bool_]:
    """Return which frames have the two frequencies of a keyed digit."""
    row, column = np.minimum(hz, second_hz), np.maximum(hz, second_hz)
    near_row, near_column = (
        (np.abs(found[:, None] / np.array(nominal) - 1) < DIGIT_TOLERANCE).any(axis=1)
        for found, nominal in ((row, ROWS_HZ), (column, COLUMNS_HZ))
    )
    return np.asarray(near_row & near_column, np.bool_)


def _signals(hz: Floats, second_hz: Floats) -> NDArray[np.bool_]:
    """Return which frames have two different frequencies of a digit between exchanges."""
    low, high = (
        np.abs(found[:, None] / np.array(SIGNALS_HZ) - 1) < SIGNAL_TOLERANCE
        for found in (np.minimum(hz, second_hz), np.maximum(hz, second_hz))
    )
    return np.asarray(low.any(axis=1) & high.any(axis=1) & ~(low & high).any(axis=1), np.bool_)


@cache
def _half_taper() -> Floats:
    """Return the taper of a frame, halved because a sample is the sum of two."""
    return np.hanning(LENGTH).astype(np.float32) * np.float32(0.5)
