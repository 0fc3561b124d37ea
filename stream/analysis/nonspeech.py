"""What tells tones, music, noise and cries from speech: how the pitch moves. Pure, no weights.

Grown-up speech is voiced about half of the time, its pitch lies between 80 and 350 Hz, and it
glides: within 32 ms it moves by a third of a semitone or more. A note or a dialling tone stands
still, noise has no pitch, and an infant's cry holds a high one. The limits below are measured in
docs/performance.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from stream.types import SAMPLE_RATE, Samples, Sound

Floats = NDArray[np.float32]

RATE = SAMPLE_RATE // 2
"""A telephone's rate is enough for pitch."""
LENGTH = 512
HOP = 384
"""The pitch is looked for in 64 ms, every 48 ms."""
SHORTEST, LONGEST = RATE // 800, RATE // 80
"""Periods that are looked for, in samples: those of 800 Hz and of 80 Hz."""
LOWEST_BIN = 4
"""Hum and rumble below 60 Hz say nothing."""

LOUD = 1e-4
"""Frames more than 40 dB below the loudest of their piece are left out."""
VOICED = 0.7
"""Autocorrelation from which a frame has a pitch."""
STILL = 0.05
"""A pitch that moves by less than this, in semitones from frame to frame, stands still."""
PURE = 0.95
PURE_BINS = 8
"""A frame is one or two pure tones when this share of its energy lies in so few bins."""
HIGH_HZ = 360
HELD = 8
"""A cry holds a pitch above this for so many frames on end (0.4 s)."""

TONE_FRAMES = 5
TONE = 0.7
"""A tone is at least so long, pure and still in this share of it."""
ENOUGH = 17
"""Frames (0.8 s) without which nothing but a tone is told apart."""
MUSIC_PAIRS = 8
MUSIC = 0.45
"""In music this share of at least so many neighbours stands still; in speech a tenth does."""
UNVOICED = 0.08
"""Noise has a pitch in fewer frames than this."""
CONSTANT_DB = 1.5
"""Noise whose level spreads by less (standard deviation) stays as it is: a line, a fan."""

NOT_SCORED: frozenset[Sound] = frozenset({"tone", "hiss"})
"""So clearly no speech that it is not asked for an emotion."""


@dataclass(frozen=True, slots=True)
class SoundStats:
    """Counts of frames: loud ones, with a pitch, purely tonal ones, and in held high pitches; of
    neighbours that both have a pitch, and of those between which it stands still; sums of the
    level in dB and of its square."""

    frames: int = 0
    voiced: int = 0
    pure: int = 0
    held: int = 0
    pairs: int = 0
    still: int = 0
    level: float = 0.0
    square: float = 0.0

    def __add__(self, other: SoundStats) -> SoundStats:
        return SoundStats(
            self.frames + other.frames,
            self.voiced + other.voiced,
            self.pure + other.pure,
            self.held + other.held,
            self.pairs + other.pairs,
            self.still + other.still,
            self.level + other.level,
            self.square + other.square,
        )

    @property
    def sound(self) -> Sound | None:
        """What it is if it is no ordinary speech; None too where that cannot be told."""
        still = self.still >= TONE * (self.frames - 1)
        if self.frames >= TONE_FRAMES and still and self.pure >= TONE * self.frames:
            return "tone"
        if self.frames < ENOUGH:
            return None
        if self.voiced < UNVOICED * self.frames:
            mean = self.level / self.frames
            spread = self.square / self.frames - mean**2
            return "hiss" if spread < CONSTANT_DB**2 else "noise"
        if self.pairs >= MUSIC_PAIRS and self.still >= MUSIC * self.pairs:
            return "music"
        return "high_pitch" if self.held else None


NOTHING = SoundStats()


def measure(audio: Samples) -> SoundStats:
    """Evidence in float32[n] at 16 kHz; none in less than 64 ms.

    The pitch is the strongest peak of the autocorrelation, freed of the taper's own. Source:
    P. Boersma, "Accurate short-term analysis of the fundamental frequency and the
    harmonics-to-noise ratio of a sampled sound", 1993.
    """
    whole = len(audio) // 2 * 2
    half = (audio[:whole:2] + audio[1:whole:2]) * np.float32(0.5)
    if len(half) < LENGTH:
        return NOTHING
    spectrum = np.fft.rfft(sliding_window_view(half, LENGTH)[::HOP] * _taper(), axis=1)
    power = np.asarray(spectrum.real**2 + spectrum.imag**2, np.float32)
    power[:, :LOWEST_BIN] = 0
    energy = power.sum(axis=1)
    loud = energy > LOUD * energy.max()
    frames = int(np.count_nonzero(loud))
    if not frames:
        return NOTHING
    strength, period = _pitch(power, energy)
    voiced = loud & (strength > VOICED)
    both = voiced[1:] & voiced[:-1]
    moved = np.abs(np.log2(period[1:][both] / period[:-1][both])) * 12
    still = int(np.count_nonzero(moved < STILL))
    pure = 0
    if still >= TONE * (frames - 1):
        lines = np.partition(power, -PURE_BINS, axis=1)[:, -PURE_BINS:].sum(axis=1)
        pure = int(np.count_nonzero(loud & (lines > PURE * energy)))
    level = 10 * np.log10(energy[loud])
    return SoundStats(
        frames,
        int(np.count_nonzero(voiced)),
        pure,
        _held(voiced & (period < RATE / HIGH_HZ)),
        int(np.count_nonzero(both)),
        still,
        float(level.sum()),
        float(level @ level),
    )


def _pitch(power: Floats, energy: Floats) -> tuple[Floats, Floats]:
    """Of every frame the best autocorrelation and its period in samples, between samples.

    Of several peaks of nearly one height the first is taken: the others are its multiples.
    """
    correlation = np.fft.irfft(power, axis=1)[:, SHORTEST - 1 : LONGEST + 2]
    # The mean of the spectrum, both halves, is what the autocorrelation starts at.
    correlation *= (LENGTH / 2) / (np.maximum(energy, 1e-20)[:, None] * _bias())
    inner = correlation[:, 1:-1]
    peaks = (inner >= correlation[:, :-2]) & (inner > correlation[:, 2:])
    heights = np.where(peaks, inner, 0)
    strength = heights.max(axis=1)
    at = (heights >= 0.9 * strength[:, None]).argmax(axis=1)
    rows = np.arange(len(power))
    before, peak, after = (correlation[rows, at + i] for i in range(3))
    # A parabola through three points; where there is no peak, its top may lie anywhere.
    curve = np.minimum(before - 2 * peak + after, -1e-6)
    period = SHORTEST + at + np.clip((before - after) / (2 * curve), -0.5, 0.5)
    return strength, period


def _held(high: NDArray[np.bool_]) -> int:
    """Places at which `HELD` frames on end are high."""
    if len(high) < HELD:
        return 0
    run = np.convolve(high, np.ones(HELD, np.intp), "valid")
    return int(np.count_nonzero(run == HELD))


@cache
def _taper() -> Floats:
    return np.hanning(LENGTH).astype(np.float32)


@cache
def _bias() -> Floats:
    """The taper's own autocorrelation at the periods that are looked for."""
    power = np.abs(np.fft.rfft(_taper())) ** 2
    own = np.fft.irfft(power)[SHORTEST - 1 : LONGEST + 2]
    return np.asarray(own / np.fft.irfft(power)[0], np.float32)
