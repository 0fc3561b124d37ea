"""Noise suppression of one channel at 16 kHz, piece by piece."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np

from stream.types import SAMPLE_RATE, Samples

PIECE = SAMPLE_RATE // 100
"""WebRTC's suppressor takes 10 ms at a time."""

LEVEL = 2
"""Of 0 to 4; pauses become 12 dB fainter."""

DELAY = 96
"""Samples by which its output lags its input."""


def available() -> bool:
    """Whether the library is there: it has wheels for Linux alone."""
    return find_spec("webrtc_noise_gain") is not None


class Denoiser:
    """Float32 in, as much of it out as is ready; times stay true, whatever the chunking."""

    def __init__(self) -> None:
        from webrtc_noise_gain import AudioProcessor

        self._suppress = AudioProcessor(0, LEVEL).Process10ms
        self._partial = np.zeros(0, np.int16)
        self._taken = self._given = 0
        self._skip = DELAY

    def push(self, samples: Samples) -> Samples:
        """What is ready after `samples`, shape [n]; may be empty."""
        self._taken += len(samples)
        return self._through(samples)

    def drain(self) -> Samples:
        """The rest, so that as many samples came out as went in; then no more may come."""
        due = self._taken - self._given
        return self._through(np.zeros(DELAY + PIECE, np.float32))[:due]

    def _through(self, samples: Samples) -> Samples:
        fresh = np.rint(np.clip(samples, -1, 32767 / 32768) * 32768).astype("<i2")
        pcm = np.concatenate([self._partial, fresh])
        whole = len(pcm) // PIECE * PIECE
        self._partial = pcm[whole:]
        pieces = (pcm[at : at + PIECE].tobytes() for at in range(0, whole, PIECE))
        clean = np.frombuffer(b"".join(self._suppress(p).audio for p in pieces), "<i2")
        skipped = min(self._skip, len(clean))
        self._skip -= skipped
        out = clean[skipped:].astype(np.float32) * np.float32(1 / 32768)
        self._given += len(out)
        return out
