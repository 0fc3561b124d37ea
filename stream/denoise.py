"""Noise suppression of one channel at 16 kHz, piece by piece."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

from stream.types import SAMPLE_RATE, Samples

FILTER, SETTINGS = "afftdn", "nr=12:nf=-40:tr=1"
"""FFmpeg's spectral subtraction, with a noise floor that it follows by itself."""

DELAY = 400
"""Samples by which the filter's output lags its input."""


class Denoiser:
    """Float32 in, as much of it out as is ready; times stay true, whatever the chunking."""

    def __init__(self) -> None:
        graph = av.filter.Graph()
        source = graph.add_abuffer(
            sample_rate=SAMPLE_RATE,
            format="flt",
            layout="mono",
            time_base=Fraction(1, SAMPLE_RATE),
        )
        noise, sink = graph.add(FILTER, SETTINGS), graph.add("abuffersink")
        source.link_to(noise)
        noise.link_to(sink)
        graph.configure()
        self._graph = graph
        self._taken = self._given = 0
        self._skip = DELAY

    def push(self, samples: Samples) -> Samples:
        """What is ready after `samples`, shape [n]; may be empty."""
        if not len(samples):
            return np.zeros(0, np.float32)
        row = np.ascontiguousarray(samples, np.float32)[None]
        frame = av.AudioFrame.from_ndarray(row, format="flt", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, self._taken
        self._taken += len(samples)
        self._graph.push(frame)
        return self._ready()

    def drain(self) -> Samples:
        """The rest, so that as many samples came out as went in."""
        if not self._taken:
            return np.zeros(0, np.float32)
        due = self._taken - self._given
        tail = self.push(np.zeros(DELAY, np.float32))
        self._graph.push(None)
        tail = np.concatenate([tail, self._ready()])[:due]
        return np.pad(tail, (0, due - len(tail)))

    def _ready(self) -> Samples:
        found = []
        while True:
            try:
                found.append(self._graph.pull().to_ndarray().reshape(-1))
            except (av.error.BlockingIOError, av.error.EOFError):
                break
        out = np.concatenate(found).astype(np.float32) if found else np.zeros(0, np.float32)
        skipped = min(self._skip, len(out))
        self._skip -= skipped
        out = out[skipped:]
        self._given += len(out)
        return out
