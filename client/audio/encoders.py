"""Encoders from PCM to the wire encodings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stream.audio.codecs import CODECS
from stream.audio.samples import Pcm
from stream.types import Encoding


def _table(encoding: Encoding) -> NDArray[np.uint8]:
    """Return uint8[65536]: for each int16, indexed as uint16, the code nearest in value."""
    values = CODECS[encoding](bytes(range(256)))
    # Mu-law has two codes for zero. Of equal values take the last code: silence is sent with it.
    levels, last = np.unique(values[::-1], return_index=True)
    codes = (255 - last).astype(np.uint8)
    pcm = np.arange(65536, dtype=np.uint16).view(np.int16) / np.float32(32768)
    return codes[np.searchsorted((levels[1:] + levels[:-1]) / 2, pcm)]


_MULAW, _ALAW = _table("mulaw"), _table("alaw")


def _linear16(pcm: Pcm) -> bytes:
    return pcm.astype("<i2", copy=False).tobytes()


def _f32le(pcm: Pcm) -> bytes:
    return (pcm / np.float32(32768)).astype("<f4", copy=False).tobytes()


def _mulaw(pcm: Pcm) -> bytes:
    return _MULAW[pcm.astype(np.int16, copy=False).view(np.uint16)].tobytes()


def _alaw(pcm: Pcm) -> bytes:
    return _ALAW[pcm.astype(np.int16, copy=False).view(np.uint16)].tobytes()


ENCODERS: dict[Encoding, Callable[[Pcm], bytes]] = {
    "linear16": _linear16,
    "f32le": _f32le,
    "mulaw": _mulaw,
    "alaw": _alaw,
}
"""Encoding name → encoder of interleaved PCM."""
