"""Recorded speech in chunks as a producer sends them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from websockets.frames import Frame, Opcode

from client.audio.encoders import ENCODERS
from client.audio.files import blocks, probe
from stream.audio.samples import Pcm
from stream.types import BYTES_PER_SAMPLE, Encoding

ROOT = Path(__file__).resolve().parent.parent
CALL = ROOT / "client" / "samples" / "call.flac"
CLIPS = ROOT / "tests" / "fixtures" / "emodb"


@dataclass(frozen=True, slots=True)
class Wire:
    """Encoding, rate and chunk length of the audio that is sent: telephony by default."""

    encoding: Encoding = "mulaw"
    sample_rate: int = 8_000
    chunk_ms: int = 20

    @property
    def chunk_s(self) -> float:
        return self.chunk_ms / 1000

    def chunks(self, pcm: Pcm) -> list[bytes]:
        """Return the whole chunks of a recording at this rate."""
        data = ENCODERS[self.encoding](pcm)
        size = self.sample_rate * self.chunk_ms // 1000 * BYTES_PER_SAMPLE[self.encoding]
        return [data[i : i + size] for i in range(0, len(data) - size + 1, size)]

    def __str__(self) -> str:
        return f"{self.sample_rate // 1000} kHz {self.encoding}, {self.chunk_ms} ms"


def recordings(sample_rate: int) -> list[Pcm]:
    """Return three mono recordings: both sides of a telephone call, and acted sentences.

    The call has long pauses; the sentences have 0.4 s between them.
    """
    sides = np.concatenate([*blocks(probe(CALL), sample_rate, 2)])
    pause = np.zeros((sample_rate * 2 // 5, 1), np.int16)
    clips = [
        piece
        for path in sorted(CLIPS.glob("*.flac"))
        for piece in (*blocks(probe(path), sample_rate, 1), pause)
    ]
    return [sides[:, :1], sides[:, 1:], np.concatenate(clips)]


def frames(chunks: Iterable[bytes]) -> list[bytes]:
    """Return the chunks as masked WebSocket frames, made once to keep the load generator cheap."""
    return [Frame(Opcode.BINARY, chunk).serialize(mask=True) for chunk in chunks]
