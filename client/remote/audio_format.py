"""Format of the audio that a call sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

# Not imported from `stream.types`, which loads numpy; a test compares the two.
Encoding = Literal["linear16", "f32le", "mulaw", "alaw"]
BYTES_PER_SAMPLE: Mapping[Encoding, int] = {"linear16": 2, "f32le": 4, "mulaw": 1, "alaw": 1}


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """Encoding, `sample_rate` in Hz, and number of channels, interleaved sample by sample."""

    encoding: Encoding
    sample_rate: int
    channels: int

    @property
    def bytes_per_frame(self) -> int:
        """Bytes of one sample of every channel."""
        return BYTES_PER_SAMPLE[self.encoding] * self.channels

    @property
    def bytes_per_second(self) -> int:
        """Bytes of one second of all channels."""
        return self.bytes_per_frame * self.sample_rate
