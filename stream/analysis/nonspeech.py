"""Classifier of tones, music, noise and cries against speech by pitch movement. Pure, no weights.

Adult speech has a pitch about half of the time, between 80 and 350 Hz, and the pitch glides: it
moves by a third of a semitone or more within 32 ms. The pitch of a note is constant, noise has no
pitch, and an infant's cry holds a high one; `tones` finds tones. The limits below are measured in
docs/performance.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from stream.analysis.tones import LENGTH, RATE, line_energy, spectra, tonal_share
from stream.types import Samples, Sound

Floats = NDArray[np.float32]

HOP = 384
"""Samples between the beginnings of two frames (48 ms) of `LENGTH` samples (64 ms)."""
MIN_PERIOD, MAX_PERIOD = RATE // 800, RATE // 80
"""Shortest and longest period of a pitch in samples: 800 Hz and 80 Hz."""

LOUD = 1e-4
"""Energy relative to the loudest frame of a piece from which a frame counts: -40 dB."""
VOICED = 0.7
"""Autocorrelation from which a frame has a pitch."""
STEADY_SEMITONES = 0.05
"""Movement of the pitch in semitones between neighbouring frames, below which it is steady."""
HIGH_HZ = 360
HELD_FRAMES = 8
"""A cry holds a pitch above `HIGH_HZ` for this number of consecutive frames (0.4 s)."""

TONE_FRAMES = 6
"""Frames (0.3 s, which a pre-roll is) without which a tone is not told from a held vowel."""
TONE_SHARE = 0.8
"""A sound is a tone from this share of its energy in tonal frames on."""
FEW_PAIRS, MAY_BE_STEADY = 3, 0.25
"""Share of more than three pairs with a steady pitch, below which no tonal frames are searched."""
MAY_BE_TONE = 0.88
"""Share of the energy in two lines per frame, below which no tonal frames are searched."""
VOICE_SHARE = 0.5
"""A piece of a tone is none itself if a smaller share of its energy than this is tonal."""
MIN_FRAMES = 17
"""Frames (0.8 s) needed to classify anything but a tone."""
MUSIC_PAIRS = 8
MUSIC_SHARE = 0.45
"""In music the pitch is steady in this share of at least `MUSIC_PAIRS` pairs of neighbouring
frames; in speech it is in a tenth."""
NOISE_VOICED_SHARE = 0.08
"""Noise has a pitch in a smaller share of frames than this."""
SPEECH_VOICED_SHARE = 0.3
"""Clear speech has a pitch in a larger share of frames than this; on average it is half of them."""
STEADY_DB = 1.5
"""Noise is steady (a line, a fan) if the standard deviation of its level in dB is below this."""

NOT_SCORED: frozenset[Sound] = frozenset({"tone", "hiss"})
"""Sounds that are so clearly not speech that no emotion is computed."""


@dataclass(frozen=True, slots=True)
class SoundStats:
    """Statistics of a sound, which add up.

    `heard` counts all frames, `frames` the loud ones, `voiced` those of them with a pitch. `held`
    counts runs of `HELD_FRAMES` frames with a high pitch, `pairs` neighbours that both have a
    pitch, `steady` the pairs between which it is steady. `level` and `level_square` are the sums of
    the loud frames' levels in dB and of their squares. `energy` is the sum over all frames, of
    which `tonal` lies in tones.
    """

    heard: int = 0
    frames: int = 0
    voiced: int = 0
    held: int = 0
    pairs: int = 0
    steady: int = 0
    level: float = 0.0
    level_square: float = 0.0
    energy: float = 0.0
    tonal: float = 0.0

    def __add__(self, other: SoundStats) -> SoundStats:
        return SoundStats(
            self.heard + other.heard,
            self.frames + other.frames,
            self.voiced + other.voiced,
            self.held + other.held,
            self.pairs + other.pairs,
            self.steady + other.steady,
            self.level + other.level,
            self.level_square + other.level_square,
            self.energy + other.energy,
            self.tonal + other.tonal,
        )

    @property
    def is_clear_speech(self) -> bool:
        """True if the piece is long enough to be classified and its pitch moves as in speech."""
        return (
            self.frames >= MIN_FRAMES
            and self.voiced >= SPEECH_VOICED_SHARE * self.frames
            and self.pairs > FEW_PAIRS
            and self.steady <= MAY_BE_STEADY * self.pairs
            and not self.held
            and not self.tonal
        )

    @property
    def is_tone(self) -> bool:
        return self.heard >= TONE_FRAMES and self.tonal > TONE_SHARE * self.energy

    @property
    def sound(self) -> Sound | None:
        """Class of the sound, or None if it is ordinary speech or cannot be classified."""
        if self.is_tone:
            return "tone"
        if self.frames < MIN_FRAMES:
            return None
        if self.voiced < NOISE_VOICED_SHARE * self.frames:
            mean = self.level / self.frames
            variance = self.level_square / self.frames - mean**2
            return "hiss" if variance < STEADY_DB**2 else "noise"
        if self.pairs >= MUSIC_PAIRS and self.steady >= MUSIC_SHARE * self.pairs:
            return "music"
        return "high_pitch" if self.held else None

    def within(self, whole: SoundStats) -> Sound | None:
        """Return the class of this piece of the sound `whole`.

        A piece too short to classify by itself has the class of `whole`, unless that is a tone and
        the piece is none: then it may be the beginning of speech.
        """
        if self.frames >= MIN_FRAMES or self.is_tone:
            return self.sound
        spoken = self.heard >= TONE_FRAMES and self.tonal < VOICE_SHARE * self.energy
        return None if spoken and whole.is_tone else whole.sound


NO_SOUND = SoundStats()


def measure(audio: Samples) -> SoundStats:
    """Return the statistics of float32[n] at 16 kHz; `NO_SOUND` for less than 64 ms.

    The pitch is the strongest peak of the autocorrelation, divided by that of the taper. Source:
    P. Boersma, "Accurate short-term analysis of the fundamental frequency and the
    harmonics-to-noise ratio of a sampled sound", 1993.
    """
    even = len(audio) // 2 * 2
    sums = audio[:even:2] + audio[1:even:2]
    if len(sums) < LENGTH:
        return NO_SOUND
    power = spectra(sums, HOP)
    energy = power.sum(axis=1)
    loud = energy > LOUD * energy.max()
    loud_frames = int(np.count_nonzero(loud))
    if not loud_frames:
        return NO_SOUND
    strength, period = _pitch(power, energy)
    voiced = loud & (strength > VOICED)
    both = voiced[1:] & voiced[:-1]
    moved = np.abs(np.log2(period[1:] / period[:-1])) * 12
    steady = int(np.count_nonzero(both & (moved < STEADY_SEMITONES)))
    total = float(energy.sum())
    pairs = int(np.count_nonzero(both))
    # The search costs more than all else; these conditions spare it most pieces of speech.
    may_be_steady = pairs <= FEW_PAIRS or steady >= MAY_BE_STEADY * pairs
    may_be_tone = may_be_steady and float(line_energy(power).sum()) > MAY_BE_TONE * total
    level = 10 * np.log10(energy[loud])
    return SoundStats(
        len(power),
        loud_frames,
        int(np.count_nonzero(voiced)),
        _held_runs(voiced & (period < RATE / HIGH_HZ)),
        pairs,
        steady,
        float(level.sum()),
        float(level @ level),
        total,
        total * tonal_share(sums) if may_be_tone else 0.0,
    )


def _pitch(power: Floats, energy: Floats) -> tuple[Floats, Floats]:
    """Return each frame's best autocorrelation and its period in (fractional) samples.

    Of several peaks of about the same height the first is used: the others are its multiples.
    """
    # A fifth of the lags is wanted: the product takes half of the time of a Fourier transform.
    scaled = power @ _correlation()
    scaled /= np.maximum(energy, np.float32(1e-20))[:, None]
    # All frames are compared in one row: 4 us instead of 8 in two dimensions. Across two frames it
    # finds false peaks at their first and last lags, which `inner` leaves out.
    row = scaled.reshape(-1)
    rises = row[1:] >= row[:-1]
    heights = np.zeros(scaled.shape, np.float32)
    np.multiply(row[1:-1], rises[:-1] > rises[1:], out=heights.reshape(-1)[1:-1])
    inner = heights[:, 1:-1]
    strength = inner.max(axis=1)
    at = (inner >= 0.9 * strength[:, None]).argmax(axis=1)
    first = np.arange(0, row.size, scaled.shape[1]) + at
    before, peak, after = row.take(first), row.take(first + 1), row.take(first + 2)
    # A parabola through three points. Without a peak its vertex may lie anywhere, hence the clip.
    curve = np.minimum(before - 2 * peak + after, -1e-6)
    vertex = (before - after) / (2 * curve)
    # ndarray.clip takes three times as long for so few numbers.
    period = MIN_PERIOD + at + np.minimum(np.maximum(vertex, -0.5), 0.5)
    return strength, period


def _held_runs(high: NDArray[np.bool_]) -> int:
    """Return the number of positions at which `HELD_FRAMES` consecutive frames are high."""
    if np.count_nonzero(high) < HELD_FRAMES:
        return 0
    run = np.convolve(high, np.ones(HELD_FRAMES, np.intp), "valid")
    return int(np.count_nonzero(run == HELD_FRAMES))


@cache
def _correlation() -> Floats:
    """Return float32[bins, periods]: power spectrum → autocorrelation at the periods in question.

    It is 1 at lag 0 for a spectrum with the sum 1, and divided by that of the taper.
    """
    lags = np.arange(MIN_PERIOD - 1, MAX_PERIOD + 2)
    bins = np.arange(LENGTH // 2 + 1)
    cosines = np.cos(2 * np.pi / LENGTH * np.outer(bins, lags))
    cosines[[0, -1]] /= 2  # the other bins stand for two each
    taper = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(LENGTH))) ** 2)
    return np.asarray(cosines * taper[0] / taper[lags], np.float32)
