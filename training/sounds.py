"""Synthetic sounds that are not speech: examples of `unknown`, and noise to mix with speech.

They are generated, not recorded, so they need no licence. All are float32[samples] at 16 kHz.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float32]

RATE = 16_000

DTMF = ((697, 770, 852, 941), (1209, 1336, 1477, 1633))
"""Rows and columns of a telephone's keys in Hz (ITU-T Q.23)."""


def unit_power(audio: NDArray[np.floating]) -> Array:
    """Scale the sound to unit power; silence stays silent."""
    return np.asarray(audio / (audio.std() + 1e-9), np.float32)


def filtered(audio: NDArray[np.floating], gain: NDArray[np.floating]) -> Array:
    """Apply a gain to each rfft bin of the audio."""
    return np.fft.irfft(np.fft.rfft(audio) * gain, len(audio)).astype(np.float32)


def noise(rng: Generator, length: int) -> Array:
    """Make steady noise with a spectrum that falls by 0 (white) to 6 dB per octave (brown)."""
    hz = np.fft.rfftfreq(length, 1 / RATE)
    return unit_power(filtered(rng.normal(size=length), np.maximum(hz, 50.0) ** -rng.uniform(0, 1)))


def partials(rng: Generator, pitch: NDArray[np.floating], max_count: int = 24) -> Array:
    """Make a harmonic sound with the given pitch in Hz per sample and a random timbre."""
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    count = int(min(rng.integers(1, max_count + 1), max(1, 7600 // pitch.max())))
    loud = rng.normal(0, 0.5, count) - rng.uniform(0.3, 2.0) * np.log(np.arange(1, count + 1))
    starts = rng.uniform(0, 2 * np.pi, count)
    sound = np.zeros(len(pitch))
    for number in range(count):
        sound += np.exp(loud[number]) * np.sin((number + 1) * phase + starts[number])
    return unit_power(sound)


def note(rng: Generator, pitch: float, length: int, decay_s: float, vibrato: float) -> Array:
    """Make one note: quick attack, exponential decay, optional vibrato."""
    time = np.arange(length) / RATE
    wave = 1 + vibrato * np.sin(2 * np.pi * rng.uniform(4, 7) * time)
    shape = np.minimum(1, time / rng.uniform(0.003, 0.06)) * np.exp(-time / decay_s)
    return np.asarray(partials(rng, pitch * wave, 10) * shape, np.float32)


def drum(rng: Generator, length: int) -> Array:
    time = np.arange(length) / RATE
    skin = np.sin(2 * np.pi * rng.uniform(50, 200) * time) * np.exp(-time / 0.08)
    wires = rng.normal(size=length) * np.exp(-time / rng.uniform(0.02, 0.15))
    return (rng.uniform(0, 1) * skin + rng.uniform(0, 1) * wires).astype(np.float32)


def music(rng: Generator, length: int) -> Array:
    """Make a melody over chords, sometimes with drums, in one key at one tempo."""
    beat = int(RATE * 60 / rng.uniform(60, 180))
    scale = np.array([0, 2, 4, 5, 7, 9, 11] if rng.random() < 0.6 else [0, 2, 3, 5, 7, 8, 10])
    tonic = 55 * 2 ** rng.uniform(0, 1.5)
    decay, vibrato = rng.uniform(0.1, 2.0), rng.choice([0, 0.005, 0.02])
    parts = rng.random(3) < (0.8, 0.7, 0.5)
    if not parts.any():
        parts[0] = True
    sound = np.zeros(length + 4 * beat, np.float32)

    def play(at: int, tone: Array, gain: float) -> None:
        sound[at : at + len(tone)] += gain * tone[: len(sound) - at]

    for at in range(0, length, beat):
        if parts[0]:
            steps = int(rng.integers(1, 3))
            for step in range(steps):
                pitch = tonic * 4 * 2 ** ((scale[rng.integers(7)] + 12 * rng.integers(2)) / 12)
                tone = note(rng, pitch, 2 * beat // steps, decay, vibrato)
                play(at + step * beat // steps, tone, 1.0)
        if parts[1] and (at // beat) % 2 == 0:
            root = rng.integers(7)
            for third in (0, 2, 4):
                degree = root + third
                pitch = tonic * 2 ** (1 + (scale[degree % 7] + 12 * (degree // 7)) / 12)
                play(at, note(rng, pitch, 3 * beat, 2 * decay, 0.0), 0.5)
        if parts[2]:
            play(at, drum(rng, beat), 2.0)
    return unit_power(sound[:length])


def tones(rng: Generator, length: int) -> Array:
    """Make line tones (ringing, busy, beeps, alarms): one to three sines, on and off."""
    time = np.arange(length) / RATE
    pitches = rng.uniform(200, 3000, rng.integers(1, 4))
    sound = np.sum([np.sin(2 * np.pi * hz * time) for hz in pitches], axis=0)
    period, share = rng.uniform(0.1, 3.0), rng.uniform(0.2, 1.3)
    return unit_power(sound * ((time + rng.uniform(0, period)) % period < share * period))


def keys(rng: Generator, length: int) -> Array:
    """Make a sequence of telephone keys (DTMF)."""
    sound = np.zeros(length)
    at = 0
    while at < length:
        press, pause = (int(rng.uniform(0.05, 0.4) * RATE) for _ in range(2))
        time = np.arange(min(press, length - at)) / RATE
        for row in DTMF:
            sound[at : at + press] += np.sin(2 * np.pi * row[rng.integers(4)] * time)
        at += press + pause
    return unit_power(sound)


def glides(rng: Generator, length: int) -> Array:
    """Make sounds of wandering pitch: sirens, howls, bird song, cries without words."""
    count = rng.integers(2, 12)
    base = np.log(rng.choice([rng.uniform(250, 700), rng.uniform(700, 4000)]))
    knots = rng.normal(base, rng.uniform(0.05, 0.4), count)
    pitch = np.exp(np.interp(np.linspace(0, count - 1, length), range(count), knots))
    time = np.arange(length) / RATE
    period = rng.uniform(0.15, 2.0)
    breath = np.clip(3 * np.sin(np.pi * ((time / period) % 1)), 0, 1)
    hz = np.fft.rfftfreq(length, 1 / RATE)
    formants = [np.exp(-(((hz - rng.uniform(500, 4000)) / 400) ** 2)) for _ in range(3)]
    throat = np.sum(formants, axis=0)
    sound = partials(rng, np.clip(pitch, 80, 7000)) * breath + 0.02 * rng.normal(size=length)
    return unit_power(filtered(sound, throat + rng.uniform(0.02, 0.5)))


def knocks(rng: Generator, length: int) -> Array:
    """Make short resonating bursts: clicks, keystrokes, clatter, steps."""
    sound = np.zeros(length + RATE)
    for at in rng.integers(0, length, rng.integers(2, 40)):
        time = np.arange(int(rng.uniform(0.02, 0.4) * RATE)) / RATE
        ring = np.sin(2 * np.pi * rng.uniform(100, 5000) * time) + rng.normal(size=len(time))
        burst = ring * np.exp(-time / rng.uniform(0.003, 0.06))
        sound[at : at + len(time)] += rng.uniform(0.1, 1.0) * burst
    return unit_power(sound[:length])


def gusts(rng: Generator, length: int) -> Array:
    """Make noise that swells and fades: wind, sea, traffic, breath into a microphone."""
    count = rng.integers(2, 30)
    level = np.interp(np.linspace(0, count - 1, length), range(count), rng.uniform(-40, 0, count))
    return unit_power(noise(rng, length) * 10 ** (level / 20))


def hum(rng: Generator, length: int) -> Array:
    """Make a steady low harmonic sound in noise: mains, motors, fans."""
    pitch = np.full(length, rng.choice([50.0, 60.0, rng.uniform(40, 400)]))
    return unit_power(partials(rng, pitch) + rng.uniform(0, 1) * noise(rng, length))


def chimes(rng: Generator, length: int) -> Array:
    """Make struck tones that ring: bells, glasses, notifications."""
    sound = np.zeros(length)
    steps = 2 ** (np.array([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
    tonic, decay = rng.uniform(200, 1600), rng.uniform(0.03, 0.8)
    ratios = 1 + np.cumsum(rng.uniform(0.4, 1.6, rng.integers(1, 6)))
    at = 0
    for _ in range(rng.integers(1, 6)):
        time = np.arange(length - at) / RATE
        pitch = tonic * rng.choice(steps)
        ring = np.sin(2 * np.pi * pitch * time)
        for ratio in ratios[pitch * ratios < RATE / 2]:
            ring += rng.uniform(0.1, 0.8) * np.sin(2 * np.pi * pitch * ratio * time)
        sound[at:] += ring * np.exp(-time / decay) * np.minimum(1, time / 0.002)
        at += int(rng.uniform(0.05, 0.5) * RATE)
        if at >= length:
            break
    return unit_power(sound)


def blips(rng: Generator, length: int) -> Array:
    """Make sweeps of a wave: signals of devices and games, lasers, slides."""
    time = np.arange(length) / RATE
    duration = rng.uniform(0.05, 0.6)
    position = np.minimum(1, (time % (duration * rng.uniform(1, 2))) / duration)
    ends = np.log(rng.uniform(100, 3000, 2))
    pitch = np.exp(ends[0] + (ends[1] - ends[0]) * position ** rng.uniform(0.3, 3))
    phase = np.cumsum(pitch) / RATE
    shapes = (np.sin(2 * np.pi * phase), np.sign(np.sin(2 * np.pi * phase)), 2 * (phase % 1) - 1)
    wave = shapes[rng.integers(3)] + rng.choice([0, 0.5]) * rng.normal(size=length)
    hz = np.fft.rfftfreq(length, 1 / RATE)
    shape = np.where(position < 1, (1 - position) ** rng.uniform(0, 2), 0)
    return unit_power(filtered(wave * shape, 1 / (1 + (hz / rng.uniform(1000, 8000)) ** 2)))


def hits(rng: Generator, length: int) -> Array:
    """Make a sequence of one drum or blow, its strokes alike and mostly regular."""
    stroke = drum(rng, int(rng.uniform(0.1, 0.6) * RATE))
    stroke = resonant(rng, stroke)
    gap, jitter = rng.uniform(0.05, 1.5) * RATE, rng.choice([0, 0.02, 0.3])
    change = rng.uniform(0.9, 1.1)
    sound, at = np.zeros(length + len(stroke), np.float32), 0.0
    while at < length:
        sound[int(at) : int(at) + len(stroke)] += rng.uniform(0.6, 1.0) * stroke
        at += max(0.03 * RATE, gap * (1 + rng.normal(0, jitter)))
        gap *= change
    return unit_power(sound[:length])


def calls(rng: Generator, length: int) -> Array:
    """Make short cries of animals: rough tones that rise and fall, again and again."""
    time = np.arange(length) / RATE
    duration, pause = rng.uniform(0.06, 0.9), rng.uniform(0.05, 0.8)
    position = np.minimum(1, (time % (duration + pause)) / duration)
    base, rise = rng.uniform(120, 2500), rng.uniform(-0.7, 1.2)
    pitch = base * 2 ** (rise * np.sin(np.pi * position ** rng.uniform(0.4, 2)))
    rough = 1 + rng.choice([0, 0.03, 0.1]) * np.sin(2 * np.pi * rng.uniform(20, 90) * time)
    voice = partials(rng, np.clip(pitch * rough, 60, 6000))
    voice += rng.choice([0, 0.1, 0.6]) * rng.normal(size=length)
    return unit_power(resonant(rng, voice * np.sin(np.pi * position) ** rng.uniform(0.3, 2)))


def resonant(rng: Generator, audio: NDArray[np.floating]) -> Array:
    """Apply one to three random resonances, as a body or a throat does."""
    hz = np.fft.rfftfreq(len(audio), 1 / RATE)
    peaks = [
        np.exp(-(((hz - rng.uniform(200, 5000)) / rng.uniform(100, 1500)) ** 2))
        for _ in range(rng.integers(1, 4))
    ]
    return filtered(audio, np.sum(peaks, axis=0) + rng.uniform(0.01, 0.5))


KINDS: tuple[tuple[Callable[[Generator, int], Array], float], ...] = (
    (noise, 0.12), (music, 0.30), (tones, 0.08), (keys, 0.08), (glides, 0.20), (knocks, 0.10),
    (gusts, 0.07), (hum, 0.05),
)  # fmt: skip
"""The generators of `not_speech`, and the share of each."""


EVENTS: tuple[tuple[Callable[[Generator, int], Array], float], ...] = (
    *((kind, share / 2) for kind, share in KINDS),
    (chimes, 0.12), (blips, 0.10), (hits, 0.16), (calls, 0.12),
)  # fmt: skip


def scene(rng: Generator, length: int) -> Array:
    """Make sounds that come and go, as a voice detector meets them: short ones, and pauses."""
    kinds, shares = [kind for kind, _ in EVENTS], [share for _, share in EVENTS]
    make = kinds[rng.choice(len(kinds), p=shares)]
    typical = 10 ** rng.uniform(-0.9, 0.7)
    sound, at = np.zeros(length, np.float32), int(rng.uniform(0.1, 1.0) * RATE)
    while at < length:
        size = min(length - at, int(np.clip(typical * rng.uniform(0.5, 2), 0.08, 6) * RATE))
        if size < 0.08 * RATE:
            break
        event = make(rng, size) * np.float32(rng.uniform(0.3, 1.0))
        fade = min(size // 4, int(rng.uniform(0.001, 0.03) * RATE))
        event[len(event) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
        sound[at : at + size] += event
        at += size + int(rng.uniform(0.1, 2.0) * RATE)
    return unit_power(sound)


def not_speech(rng: Generator, length: int) -> Array:
    """Make one sound that is not speech, of unit power; sometimes a mix of two."""
    kinds, shares = [kind for kind, _ in KINDS], [share for _, share in KINDS]
    sound = kinds[rng.choice(len(kinds), p=shares)](rng, length)
    if rng.random() < 0.25:
        other = kinds[rng.choice(len(kinds), p=shares)](rng, length)
        sound = unit_power(sound + rng.uniform(0.1, 0.7) * other)
    return sound
