"""Choice of models without a GPU: by speed for live streams, by size for recordings."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from stream.backends import emotion2vec
from stream.backends.base import Backend
from stream.backends.emotion2vec.locate import Files
from stream.config import ModelConfig
from stream.errors import ModelRefused
from stream.types import ModelInfo

BASE = "emotion2vec_plus_base"
"""As good as the large model on public corpora, at little over half the cost (docs/engine.md)."""

SPEECH_SHARE, LOAD = 0.6, 0.7
"""Share of a call in which its customer speaks; load of the model's thread that leaves room for
bursts. With a window per second of speech they give the streams that a model carries."""

MEASURED_WINDOWS = 5


@dataclass(frozen=True, slots=True)
class Speed:
    """Milliseconds that a model needs for a window, and the live streams that it carries so."""

    window_ms: float
    streams: int

    def __str__(self) -> str:
        return f"{self.window_ms:.0f} ms per window here, so it carries {self.streams} live streams"


def measure(backend: Backend) -> Speed:
    """Measure the speed of a model on noise, in windows of the length that it prefers."""
    samples = backend.info.preferred_lengths[-1]
    noise = np.random.default_rng(0).normal(0, 0.1, (1, samples)).astype(np.float32)
    backend.infer(noise)
    times = []
    for _ in range(MEASURED_WINDOWS):
        began = time.perf_counter()
        backend.infer(noise)
        times.append(time.perf_counter() - began)
    # Other work on the machine only makes a window slower, so the fastest is the model's own.
    seconds = min(times)
    return Speed(1000 * seconds, int(LOAD / (SPEECH_SHARE * seconds)))


def int8_base() -> bool:
    """Return whether the int8 export of `BASE` lies on this machine."""
    directory = emotion2vec.find_checkpoint(BASE)
    if directory is None:
        return False
    try:
        return Files.of(directory).int8.is_file()
    except ModelRefused:
        return False


def for_recordings(model: ModelConfig, live: ModelInfo) -> tuple[str, str] | None:
    """Return the name of the model of recordings and the reason; None: that of live streams.

    A recording waits for its result, so it may use a model that is too slow for live streams.
    """
    if model.recordings == "live":
        return None
    if model.recordings != "auto":
        return model.recordings, ""
    embedded = live.id.startswith("emotide-embedded")
    if not embedded or emotion2vec.missing_packages() or not emotion2vec.find_checkpoint(BASE):
        return None
    return BASE, (
        f"Recordings can wait, so {BASE} analyses them, although it is too slow here for live "
        'streams; set model.recordings = "live" to use one model for both.'
    )
