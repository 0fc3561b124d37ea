"""Real speech, its encodings on the wire, and comparison of utterances."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import soxr
from numpy.typing import NDArray

from tests.support.running import Event

CLIPS = Path(__file__).resolve().parents[1] / "fixtures" / "emodb"
RATE = 16_000

Pcm = NDArray[np.int16]


@functools.cache
def clip(name: str) -> Pcm:
    """Return one recording of tests/fixtures/emodb at 16 kHz."""
    with av.open(str(CLIPS / name)) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        frames = [f for x in container.decode(audio=0) for f in resampler.resample(x)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames]).astype(np.int16)


@functools.cache
def speech(*names: str, pause_s: float = 1.0) -> Pcm:
    """Return real speech: a pause before each clip and one at the end; by default two clips.

    Pauses are faint noise, because no microphone delivers digital silence.
    """
    names = names or ("03a01Wa.flac", "08a01Fd.flac")
    rng = np.random.default_rng(3)
    parts: list[Pcm] = []
    for name in names:
        parts += [rng.integers(-8, 9, int(pause_s * RATE)).astype(np.int16), clip(name)]
    parts.append(rng.integers(-8, 9, int(pause_s * RATE)).astype(np.int16))
    return np.concatenate(parts)


@functools.cache
def talk(seconds: float, name: str = "03a01Wa.flac") -> bytes:
    """Return speech almost without pauses, as linear16."""
    pcm = clip(name)
    times = -(-int(seconds * RATE) // len(pcm))
    return np.tile(pcm, times)[: int(seconds * RATE)].tobytes()


def encode(pcm: Pcm, encoding: str = "linear16", rate: int = RATE, channels: int = 1) -> bytes:
    """Encode 16 kHz speech as a producer sends it; a second channel is silent."""
    samples = pcm.astype(np.float32) / 32768
    if rate != RATE:
        samples = soxr.resample(samples, RATE, rate).astype(np.float32)
    if channels == 2:
        samples = np.stack([samples, np.zeros_like(samples)], axis=1).reshape(-1)
    if encoding == "f32le":
        return samples.astype("<f4").tobytes()
    linear = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int32)
    if encoding == "mulaw":
        return _mulaw(linear)
    if encoding == "alaw":
        return _alaw(linear)
    return linear.astype("<i2").tobytes()


def _mulaw(linear: NDArray[np.int32]) -> bytes:
    """Encode as ITU-T G.711 mu-law, as Sun's g711.c: bias 0x84, 8 segments, all bits inverted."""
    magnitude = np.minimum(np.abs(linear), 32635) + 0x84
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    code = (exponent << 4) | mantissa | np.where(linear < 0, 0x80, 0)
    return bytes((~code & 0xFF).astype(np.uint8))


def _alaw(linear: NDArray[np.int32]) -> bytes:
    """Encode as ITU-T G.711 A-law: 8 segments, even bits inverted."""
    magnitude = np.minimum(np.abs(linear), 32767) >> 4
    exponent = np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int32) - 3
    exponent = np.where(magnitude < 16, 0, exponent)
    shift = np.maximum(exponent - 1, 0)
    code = np.where(magnitude < 16, magnitude, (exponent << 4) | ((magnitude >> shift) & 0x0F))
    return bytes(((code | np.where(linear < 0, 0, 0x80)) ^ 0x55).astype(np.uint8))


def utterances(events: Sequence[Event], channel: int = 0) -> list[tuple[int, int]]:
    """Return start and end in ms of each utterance with an `emotion.segment` event."""
    return [
        (event["audio_start_ms"], event["audio_end_ms"])
        for event in events
        if event["type"] == "emotion.segment" and event["channel"] == channel
    ]


def same_utterances(
    one: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]], within_ms: int = 40
) -> bool:
    """Return whether both lists have the same utterances, within `within_ms` at each end."""
    return len(one) == len(other) and all(
        abs(a - b) <= within_ms
        for pair in zip(one, other, strict=True)
        for a, b in zip(*pair, strict=True)
    )
