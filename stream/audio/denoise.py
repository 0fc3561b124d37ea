"""Streaming noise suppression of one channel at 16 kHz."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np

from stream.types import SAMPLE_RATE, Samples

PIECE = SAMPLE_RATE // 100
"""Samples per call of WebRTC's suppressor: 10 ms."""

LEVEL = 2
"""Suppression level, 0 to 4; level 2 lowers pauses by 12 dB."""

DELAY = 96
"""Samples by which the suppressor's output lags its input."""


def available() -> bool:
    """Return whether the library is installed; it has wheels for Linux only."""
    return find_spec("webrtc_noise_gain") is not None


class Denoiser:
    """Noise suppressor from float32 to float32. Positions are kept; any chunking is accepted."""

    def __init__(self) -> None:
        from webrtc_noise_gain import AudioProcessor

        self._suppress = AudioProcessor(0, LEVEL).Process10ms
        self._partial = np.zeros(0, np.int16)
        self._received = self._returned = 0
        self._skip = DELAY

    def push(self, samples: Samples) -> Samples:
        """Return the output that is ready after `samples`, shape [n]; may be empty."""
        self._received += len(samples)
        return self._process(samples)

    def drain(self) -> Samples:
        """Return the rest, so that output and input have equal length. Call nothing after it."""
        due = self._received - self._returned
        return self._process(np.zeros(DELAY + PIECE, np.float32))[:due]

    def _process(self, samples: Samples) -> Samples:
        new = np.rint(np.clip(samples, -1, 32767 / 32768) * 32768).astype("<i2")
        pcm = np.concatenate([self._partial, new])
        end = len(pcm) // PIECE * PIECE
        self._partial = pcm[end:]
        pieces = (pcm[at : at + PIECE].tobytes() for at in range(0, end, PIECE))
        clean = np.frombuffer(b"".join(self._suppress(p).audio for p in pieces), "<i2")
        skipped = min(self._skip, len(clean))
        self._skip -= skipped
        out = clean[skipped:].astype(np.float32) * np.float32(1 / 32768)
        self._returned += len(out)
        return out
