"""Format of the audio that a call sends."""

from __future__ import annotations

from dataclasses import dataclass

# Not from `stream.types`, which loads numpy.
from stream.terms import BYTES_PER_SAMPLE, Encoding


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
