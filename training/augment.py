"""Degradation of clean recordings: voices, rooms, microphones, noises, codecs, telephone lines.

Functions take and return float32[samples] at 16 kHz and keep the length, unless stated otherwise.
"""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import soxr
from numpy.random import Generator

from training.sounds import Array, filtered, music, noise, not_speech, unit_power

RATE = 16_000


def tempo(audio: Array, factor: float) -> Array:
    """Speed audio up (factor above 1) or slow it down at the same pitch, with FFmpeg's atempo."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(
        sample_rate=RATE, format="flt", layout="mono", time_base=Fraction(1, RATE)
    )
    stretch = graph.add("atempo", f"{factor:.4f}")
    sink = graph.add("abuffersink")
    source.link_to(stretch)
    stretch.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(audio[None], format="flt", layout="mono")
    frame.sample_rate = RATE
    source.push(frame)
    source.push(None)
    parts = []
    while True:
        try:
            parts.append(sink.pull().to_ndarray().ravel())
        except (av.error.BlockingIOError, av.error.EOFError):
            break
    return np.concatenate(parts).astype(np.float32)


def change_voice(rng: Generator, audio: Array) -> Array:
    """Change the voice: pitch and formants together, tempo separately; the length changes too."""
    if rng.random() < 0.7:
        audio = soxr.resample(audio, RATE, RATE * 2 ** rng.uniform(-0.3, 0.3))
    if rng.random() < 0.5:
        audio = tempo(audio, 2 ** rng.uniform(-0.35, 0.35))
    return audio.astype(np.float32)


def narrowband(audio: Array) -> Array:
    """Convert 16 kHz audio to float32[samples at 8 kHz], limited to 300-3400 Hz."""
    narrow = soxr.resample(audio, RATE, RATE // 2)
    hz = np.fft.rfftfreq(len(narrow), 2 / RATE)
    return filtered(narrow, np.interp(hz, [200, 300, 3400, 3600], [0, 1, 1, 0]))


def to_16_khz(narrow: Array, length: int) -> Array:
    """Resample 8 kHz audio to 16 kHz and fit it to `length` samples."""
    wide = soxr.resample(narrow, RATE // 2, RATE).astype(np.float32)
    return np.pad(wide, (0, max(0, length - len(wide))))[:length]


def telephone(audio: Array) -> Array:
    """Pass audio through a telephone call: 300-3400 Hz, 8 kHz, mu-law; return it at 16 kHz."""
    narrow = narrowband(audio)
    scale = max(1.0, float(np.abs(narrow).max()))
    coded = np.round(127 * np.log1p(255 * np.abs(narrow) / scale) / np.log(256)) / 127
    narrow = np.sign(narrow) * np.expm1(coded * np.log(256)) / 255 * scale
    return to_16_khz(narrow.astype(np.float32), len(audio))


def coded(audio: Array, rate: int, codec: str, bit_rate: int) -> Array:
    """Encode and decode with an FFmpeg codec at `rate`; keep the length and the codec's delay."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.sample_rate, encoder.layout, encoder.bit_rate = rate, "mono", bit_rate
    encoder.format = encoder.codec.audio_formats[0]
    encoder.time_base = Fraction(1, rate)
    decoder = av.CodecContext.create({"libopus": "opus"}.get(codec, codec), "r")
    decoder.sample_rate, decoder.layout = rate, "mono"
    frame = av.AudioFrame.from_ndarray(
        (np.clip(audio, -1, 1)[None] * 32767).astype(np.int16), format="s16", layout="mono"
    )
    frame.sample_rate, frame.pts = rate, 0
    to_encoder = av.AudioResampler(
        encoder.format, "mono", rate, frame_size=encoder.frame_size or None
    )
    to_float = av.AudioResampler("flt", "mono", rate)
    frames = [f for f in [*to_encoder.resample(frame), *to_encoder.resample(None)] if f.samples]
    packets = [p for f in [*frames, None] for p in encoder.encode(f)]
    parts = [
        piece.to_ndarray().ravel()
        for packet in [*packets, None]
        for f in decoder.decode(packet)
        for piece in to_float.resample(f)
    ]
    sound = np.concatenate(parts).astype(np.float32)
    return np.pad(sound, (0, max(0, len(audio) - len(sound))))[: len(audio)]


def line(rng: Generator, audio: Array) -> Array:
    """Pass audio through a telephone line (mu-law, AMR) or a wide-band call (low-rate Opus)."""
    kind = rng.random()
    if kind < 0.6:
        return telephone(audio)
    if kind < 0.8:
        rate = int(rng.choice([4750, 5900, 7400, 12200]))
        return to_16_khz(coded(narrowband(audio), RATE // 2, "libopencore_amrnb", rate), len(audio))
    return coded(audio, RATE, "libopus", int(rng.uniform(8_000, 24_000)))


def equalised(rng: Generator, audio: Array, deviation_db: float = 5.0) -> Array:
    """Apply a random gain per octave, as a microphone's frequency response does."""
    hz = np.fft.rfftfreq(len(audio), 1 / RATE)
    octaves = np.log2(np.maximum(hz, 62.5) / 62.5)
    gain = np.interp(octaves, range(8), rng.normal(0, deviation_db, 8))
    return filtered(audio, 10 ** (gain / 20))


def room(rng: Generator, audio: Array) -> Array:
    """Add reverberation: noise after the direct sound that decays by 60 dB in 0.15 to 0.7 s."""
    decay = np.arange(RATE // 2) / RATE
    echo = rng.normal(size=RATE // 2) * np.exp(-decay * 6.9 / rng.uniform(0.15, 0.7))
    echo *= rng.uniform(0.1, 1.0) / np.sqrt((echo**2).sum())
    echo[0] = 1.0
    size = len(audio) + len(echo)
    spectrum = np.fft.rfft(audio, size) * np.fft.rfft(echo, size)
    return np.fft.irfft(spectrum, size)[: len(audio)].astype(np.float32)


def noisy(rng: Generator, audio: Array, snr_db: float) -> Array:
    """Add noise, music or another sound at `snr_db`, the power ratio over the whole window."""
    make = (noise, music, not_speech)[rng.choice(3, p=[0.6, 0.2, 0.2])]
    under = unit_power(make(rng, len(audio))) * audio.std() * 10 ** (-snr_db / 20)
    mixed: Array = audio + under.astype(np.float32)
    return mixed


def degrade(rng: Generator, audio: Array) -> Array:
    """Apply a random microphone, room, noise, gain and line; one window in eight stays clean."""
    if rng.random() < 0.125:
        return audio
    if rng.random() < 0.6:
        audio = equalised(rng, audio)
    if rng.random() < 0.3:
        audio = room(rng, audio)
    if rng.random() < 0.75:
        audio = noisy(rng, audio, rng.uniform(3, 25))
    audio = audio / (np.abs(audio).max() + 1e-9) * 10 ** (-rng.uniform(0, 30) / 20)
    if rng.random() < 0.1:
        audio = np.clip(audio * 8, -1, 1)
    if rng.random() < 0.5:
        audio = line(rng, audio)
    return audio.astype(np.float32)
