"""Decoders from raw PCM bytes to float32 per channel. Pure; incomplete samples are carried over."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stream.types import AudioFormat, Samples


def _mulaw_table() -> Samples:
    """Return float32[256], the value of each G.711 mu-law code (ITU-T G.711, table 2a).

    value = sign · ((2m + 33)·2^e − 33) · 4
    """
    code = ~np.arange(256, dtype=np.uint8)
    exponent = (code >> 4) & 0x07
    magnitude = (((code & 0x0F).astype(np.int32) << 3) + 0x84 << exponent) - 0x84
    signed = np.where(code & 0x80, -magnitude, magnitude)
    return (signed / 32768).astype(np.float32)


def _alaw_table() -> Samples:
    """Return float32[256], the value of each G.711 A-law code (ITU-T G.711, table 1a).

    Even bits are inverted on the wire.
    """
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
    return samples


# A byte is always within the table; `mode` only spares the check, half of the time.
def _mulaw(data: bytes) -> Samples:
    return _MULAW.take(np.frombuffer(data, np.uint8), mode="clip")


def _alaw(data: bytes) -> Samples:
    return _ALAW.take(np.frombuffer(data, np.uint8), mode="clip")


CODECS: dict[str, Callable[[bytes], Samples]] = {
    "linear16": _linear16,
    "f32le": _f32le,
    "mulaw": _mulaw,
    "alaw": _alaw,
}
"""Encoding name → decoder of whole samples. To add a codec, also add its width in `types`.

`PcmDecoder` replaces samples that are not finite, and clips those beyond full scale.
"""


_ZERO = {"mulaw": b"\xff", "alaw": b"\xd5"}
"""Byte of digital silence; zero in the other encodings (ITU-T G.711)."""


def encoded_silence(audio: AudioFormat, samples: int) -> bytes:
    """Return `samples` per channel of digital silence in a format."""
    return _ZERO.get(audio.encoding, b"\0") * (samples * audio.bytes_per_frame)


class PcmDecoder:
    """Decoder of chunks that may end in the middle of a sample or between two channels."""

    def __init__(self, audio: AudioFormat) -> None:
        self._decode = CODECS[audio.encoding]
        self._is_float = audio.encoding == "f32le"
        self.invalid = 0
        """Samples so far that were NaN or infinite; each was replaced by zero."""
        self.peak = 0.0
        """Largest magnitude so far, before it was clipped; kept for f32le only."""
        self._channels = audio.channels
        self._frame_bytes = audio.bytes_per_frame
        self._carry = b""

    def decode(self, data: bytes) -> NDArray[np.float32]:
        """Return the whole samples in the carry plus `data` as float32[channels, n] in [-1, 1].

        NaN and infinite samples become zero: one of them would spoil the memory of a resampler.
        """
        if self._carry:
            data = self._carry + data
        excess = len(data) % self._frame_bytes
        self._carry = data[len(data) - excess :] if excess else b""
        samples = self._decode(data[: len(data) - excess] if excess else data)
        if self._is_float:
            samples = self._checked(samples)
        return samples.reshape(-1, self._channels).T

    def _checked(self, samples: Samples) -> Samples:
        """Return float samples without those that are not finite, clipped to [-1, 1]."""
        finite = np.isfinite(samples)
        if not finite.all():
            self.invalid += len(samples) - int(finite.sum())
            samples = np.where(finite, samples, np.float32(0))
        if len(samples):
            self.peak = max(self.peak, float(np.abs(samples).max()))
        return np.clip(samples, np.float32(-1), np.float32(1))

    def discard(self, data: bytes) -> int:
        """Consume a chunk without decoding it; return its number of whole samples per channel."""
        count = self.count(data)
        excess = (len(self._carry) + len(data)) % self._frame_bytes
        self._carry = (self._carry + data[-self._frame_bytes :])[-excess:] if excess else b""
        return count

    def count(self, data: bytes) -> int:
        """Return the number of samples per channel that `decode(data)` would return now."""
        return (len(self._carry) + len(data)) // self._frame_bytes

    def drop_carry(self) -> None:
        """Drop an incomplete sample, because the producer restarts at a sample boundary."""
        self._carry = b""
