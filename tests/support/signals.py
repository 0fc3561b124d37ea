"""Test signals and a test model: real speech, tones, G.711 encoders, `ToneBackend`."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from stream.analysis.highpass import HighPass
from stream.labels import LABELS
from stream.types import FRAME, SAMPLE_RATE, FrameScores, ModelInfo, Samples, Span, Window

FIXTURES = Path(__file__).parents[1] / "fixtures"
FIELD = 400
"""Receptive field of one frame of the test model in samples, as in emotion2vec."""


# -- sounds ------------------------------------------------------------------------------------


@functools.cache
def clips() -> tuple[Path, ...]:
    """Return the paths of all recordings of speech in the repository's fixtures."""
    paths = [p for p in FIXTURES.rglob("*") if p.suffix in (".flac", ".wav")]
    assert paths, f"no recordings under {FIXTURES}"
    return tuple(sorted(paths))


@functools.cache
def clip_audio(path: Path) -> Samples:
    """Return a recording as float32 mono at 16 kHz."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    with av.open(str(path)) as container:
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
    frames += resampler.resample(None)
    pcm: NDArray[np.int16] = np.concatenate([frame.to_ndarray().ravel() for frame in frames])
    return (pcm / 32768).astype(np.float32)


@functools.cache
def conversation(count: int = 2, pause_s: float = 1.0) -> Samples:
    """Return `count` recordings of speech with faint noise before, between and after them."""
    pieces = [noise(pause_s, -70, seed=0)]
    for n, path in enumerate(clips()[:count]):
        pieces += [clip_audio(path), noise(pause_s, -70, seed=n + 1)]
    return np.concatenate(pieces)


def amplitude(dbfs: float) -> float:
    """Return the RMS of a sound of `dbfs`, relative to full scale."""
    return math.pow(10, dbfs / 20)


def sine(seconds: float, hz: float, dbfs: float = -20.0, rate: int = SAMPLE_RATE) -> Samples:
    """Return a sine whose RMS is `dbfs` (0 dBFS: a square wave at full scale)."""
    t = np.arange(round(seconds * rate)) / rate
    return (amplitude(dbfs) * math.sqrt(2) * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def noise(seconds: float, dbfs: float = -20.0, seed: int = 0) -> Samples:
    """Return white noise whose RMS is `dbfs`, the same for the same seed."""
    raw = np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))
    return (raw * amplitude(dbfs)).astype(np.float32)


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def loudness(voiced: Iterable[bool]) -> Samples:
    """Return one 20 ms frame of audio per decision, such that `LoudDetector` decides the same.

    Every sample differs from its neighbours and from those a second away, so that a test detects a
    window with the wrong audio.
    """
    decisions = np.fromiter(voiced, bool)
    # Its mean is 0: a step of the mean at the end of a loud frame would make the next one loud.
    ramp = (np.arange(len(decisions) * FRAME) * 7919 % 10_007 - 5_003) / 32_768
    levels: NDArray[np.float64] = np.where(decisions, 1.0, 0.01)
    return (ramp * np.repeat(levels, FRAME)).astype(np.float32)


def filtered(audio: Samples) -> NDArray[np.int16]:
    """Return the whole frames of `audio` as a channel analyses them: without offset and hum."""
    steps = int16(audio)[: len(audio) // FRAME * FRAME].astype(np.float32)
    return int16(HighPass().push(steps) / np.float32(32_768))


class LoudDetector:
    """Voice detector that a test can control: loud frames are voiced."""

    frame = FRAME

    def __init__(self, mode: int = 0) -> None:
        self.frames = 0

    def probability(self, samples: NDArray[np.int16]) -> float:
        self.frames += 1
        return float(np.abs(samples).max() > 1_000)


# -- encodings ---------------------------------------------------------------------------------


def int16(audio: Samples) -> NDArray[np.int16]:
    return np.rint(np.clip(audio, -1, 32767 / 32768) * 32768).astype(np.int16)


def linear16(audio: Samples) -> bytes:
    return int16(audio).astype("<i2").tobytes()


def encode_mulaw(pcm: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Encode as ITU-T G.711 mu-law: 8 segments that double, above a bias of 33 (of 14 bits)."""
    value = pcm.astype(np.int64)
    magnitude = np.minimum(np.abs(value), 32_635) + 132
    segment = np.floor(np.log2(magnitude)).astype(np.int64) - 7
    step = (magnitude >> (segment + 3)) & 0x0F
    code: NDArray[np.int64] = ~(np.where(value < 0, 0x80, 0) | segment << 4 | step) & 0xFF
    return code.astype(np.uint8)


def encode_alaw(pcm: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Encode as ITU-T G.711 A-law: two linear segments, six that double; even bits inverted."""
    value = pcm.astype(np.int64)
    magnitude = np.where(value < 0, -value - 1, value)
    segment = np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int64) - 7, 0)
    step = (magnitude >> np.maximum(segment + 3, 4)) & 0x0F
    code: NDArray[np.int64] = (np.where(value < 0, 0, 0x80) | segment << 4 | step) ^ 0x55
    return code.astype(np.uint8)


def at_rate(audio: Samples, rate: int, source: int = SAMPLE_RATE) -> Samples:
    """Resample audio from `source` to `rate` Hz by band-limited interpolation in one piece."""
    spectrum = np.fft.rfft(audio)
    count = len(audio) * rate // source
    resized = np.zeros(count // 2 + 1, complex)
    bins = min(len(spectrum), len(resized))
    resized[:bins] = spectrum[:bins]
    return (np.fft.irfft(resized, count) * (count / len(audio))).astype(np.float32)


def chunks(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """Split `data` into chunks of `sizes`, which repeat until all data is used."""
    at, index = 0, 0
    while at < len(data):
        size = sizes[index % len(sizes)]
        yield data[at : at + size]
        at, index = at + size, index + 1


# -- test model --------------------------------------------------------------------------------


def frame_count(samples: int) -> int:
    return (samples - FIELD) // FRAME + 1


def model(
    labels: tuple[str, ...] = LABELS,
    lengths: tuple[int, ...] = (16_000, 32_000, 48_000),
    batch_sizes: tuple[int, ...] = (1, 2, 4),
    temperature: float = 1.0,
    dim: int = 3,
    default_lengths: tuple[int, ...] = (),
) -> ModelInfo:
    return ModelInfo(
        id="tone",
        revision="1",
        labels=labels,
        frame_hop=FRAME,
        lengths=lengths,
        batch_sizes=batch_sizes,
        temperature=temperature,
        licence="Apache-2.0",
        device="cpu",
        why="it is deterministic",
        dim=dim,
        default_lengths=default_lengths,
    )


class ToneBackend:
    """Backend with frame logits from energy and zero crossings: fast, deterministic, row by row."""

    def __init__(self, info: ModelInfo | None = None) -> None:
        self.info = info or model()
        self.closed = False
        mixer = np.random.default_rng(3).standard_normal((3, len(self.info.labels)))
        self._mixer = mixer.astype(np.float32)

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits float32[batch, frames, labels] of float32[batch, samples]."""
        return self.embed(batch)[0]

    def embed(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits, and the features float32[batch, frames, 3] from which they are mixed."""
        views = np.lib.stride_tricks.sliding_window_view(batch, FIELD, axis=1)[:, ::FRAME]
        energy = np.log10(np.square(views).mean(axis=2) + 1e-9) / 4
        crossings = (np.diff(np.signbit(views), axis=2)).mean(axis=2) * 4
        features = np.stack([energy, crossings, np.ones_like(energy)], axis=2)
        logits = np.einsum("bfi,il->bfl", features, self._mixer)
        return logits.astype(np.float32), features.astype(np.float32)

    def close(self) -> None:
        self.closed = True

    def score(self, window: Window) -> FrameScores:
        """Score one window, as `pipeline.analyse` requires."""
        logits, features = self.embed(window.audio[None])
        return FrameScores(window, logits[0], features[0])


# -- comparison of results ---------------------------------------------------------------------


def as_tuples(value: Any) -> Any:
    """Convert a window or event to nested tuples that compare by value, arrays by their bytes."""
    if isinstance(value, np.ndarray):
        return (value.shape, str(value.dtype), value.tobytes())
    if is_dataclass(value):
        named = ((f.name, as_tuples(getattr(value, f.name))) for f in fields(value))
        return (type(value).__name__, *named)
    if isinstance(value, dict):
        return tuple((key, as_tuples(item)) for key, item in value.items())
    return tuple(as_tuples(item) for item in value) if isinstance(value, tuple | list) else value


def frames_of(spans: Iterable[Span], count: int) -> NDArray[np.bool_]:
    """Return which of `count` frames of 20 ms lie in `spans`, all of which are on that grid."""
    mask = np.zeros(count, bool)
    for start, end in spans:
        mask[max(0, start) // FRAME : max(0, end) // FRAME] = True
    return mask
