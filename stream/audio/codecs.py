"""Bytes of one encoding → float32 per channel. Pure; carries what a chunk splits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stream.types import AudioFormat, Samples


class InvalidAudio(ValueError):
    """Audio that cannot be decoded to finite numbers."""


def _mulaw_table() -> Samples:
    """G.711 mu-law → float32 (ITU-T G.711, table 2a): value = sign · ((2m + 33)·2^e − 33) · 4."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent = (code >> 4) & 0x07
    magnitude = (((code & 0x0F).astype(np.int32) << 3) + 0x84 << exponent) - 0x84
    signed = np.where(code & 0x80, -magnitude, magnitude)
    return (signed / 32768).astype(np.float32)


def _alaw_table() -> Samples:
    """G.711 A-law → float32 (ITU-T G.711, table 1a), even bits inverted on the wire."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent = ((code >> 4) & 0x07).astype(np.int32)
    mantissa = ((code & 0x0F).astype(np.int32) << 4) + 8
    magnitude = np.where(exponent > 0, mantissa + 0x100 << np.maximum(exponent - 1, 0), mantissa)
    signed = np.where(code & 0x80, magnitude, -magnitude)
    return (signed / 32768).astype(np.float32)


_MULAW = _mulaw_table()
_ALAW = _alaw_table()


def _linear16(data: bytes) -> Samples:
    samples: Samples = np.frombuffer(data, "<i2").astype(np.float32) * np.float32(1 / 32768)
    return samples


def _f32le(data: bytes) -> Samples:
    samples: Samples = np.frombuffer(data, "<f4")
    if not np.isfinite(samples).all():
        raise InvalidAudio(
            "f32le audio holds NaN or infinite samples; send finite values in [-1, 1]"
        )
    return np.clip(samples, -1.0, 1.0).astype(np.float32)


def _mulaw(data: bytes) -> Samples:
    return _MULAW.take(np.frombuffer(data, np.uint8))


def _alaw(data: bytes) -> Samples:
    return _ALAW.take(np.frombuffer(data, np.uint8))


CODECS: dict[str, Callable[[bytes], Samples]] = {
    "linear16": _linear16,
    "f32le": _f32le,
    "mulaw": _mulaw,
    "alaw": _alaw,
}
"""Encoding name → decoder of whole samples. Add a codec here and its width in `types`."""


class PcmDecoder:
    """Decodes chunks that may end in the middle of a sample or between two channels."""

    def __init__(self, audio: AudioFormat) -> None:
        self._decode = CODECS[audio.encoding]
        self._channels = audio.channels
        self._frame_bytes = audio.bytes_per_frame
        self._carry = b""

    def decode(self, data: bytes) -> NDArray[np.float32]:
        """Float32[channels, n] of the whole samples in what was carried plus `data`.

        Raises `InvalidAudio` for NaN or infinite samples; those bytes are consumed, so the next
        chunk is aligned, and `whole(data)` tells beforehand how long they were.
        """
        if self._carry:
            data = self._carry + data
        odd = len(data) % self._frame_bytes
        self._carry = data[len(data) - odd :] if odd else b""
        samples = self._decode(data[: len(data) - odd] if odd else data)
        return samples.reshape(-1, self._channels).T

    def discard(self, data: bytes) -> int:
        """Pass over a chunk without decoding it; returns its whole samples per channel."""
        whole = self.whole(data)
        odd = (len(self._carry) + len(data)) % self._frame_bytes
        self._carry = (self._carry + data[-self._frame_bytes :])[-odd:] if odd else b""
        return whole

    def whole(self, data: bytes) -> int:
        """Samples per channel that `decode(data)` would yield now."""
        return (len(self._carry) + len(data)) // self._frame_bytes

    def drop_carry(self) -> None:
        """Forget a partial sample, when the producer starts again at a sample boundary."""
        self._carry = b""
