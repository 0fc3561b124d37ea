"""Utterance that can be marked, and the stream or recording that it is from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stream.types import Features, Segment

OVERHEAD = 512
"""Bytes of the objects around the arrays of an utterance."""


@dataclass(frozen=True, slots=True)
class Source:
    """A live stream or a recording: its id, and the session if a stream id may be used again."""

    kind: Literal["stream", "recording"]
    id: str
    session: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class MarkableUtterance:
    """An utterance `[start, end)` in samples with its mean features float32[dim].

    `model` are the id and revision of the model whose features these are. `audio` is int16[n] at
    16 kHz, None unless it may be stored.
    """

    channel: int
    utterance: int
    start: int
    end: int
    model: tuple[str, str]
    features: Features
    audio: NDArray[np.int16] | None = None

    @property
    def bytes(self) -> int:
        """Bytes in memory."""
        return OVERHEAD + self.features.nbytes + (0 if self.audio is None else self.audio.nbytes)

    @classmethod
    def of(cls, segment: Segment, model: tuple[str, str]) -> MarkableUtterance | None:
        """Return the utterance of a segment; None if it has no features."""
        if segment.embedding is None:
            return None
        place = (segment.channel, segment.utterance, segment.start, segment.end)
        return cls(*place, model, segment.embedding, segment.audio)
