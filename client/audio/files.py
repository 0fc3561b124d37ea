"""Reading of recordings: blocks of PCM, chunks, joined mono files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from client.audio.errors import NotAudio
from stream.audio.files.decode import UNREADABLE, Source
from stream.audio.samples import Pcm


@dataclass(frozen=True, slots=True)
class Recording:
    """Audio file. `sample_rate` in Hz; `duration_s` is None if the file does not state it."""

    path: Path
    sample_rate: int
    channels: int
    duration_s: float | None


def probe(path: Path) -> Recording:
    """Return the properties of the file's default audio track. Raises `NotAudio`."""
    if not path.is_file():
        raise NotAudio(f"{path}: no such file")
    try:
        with path.open("rb") as file, Source(file) as source:
            info = source.info
    except UNREADABLE as error:
        raise NotAudio(f"{path}: {error}") from None
    return Recording(path, info.sample_rate, info.channels, info.duration_s)


def blocks(recording: Recording, sample_rate: int, channels: int) -> Iterator[Pcm]:
    """Yield the recording at `sample_rate` in Hz with 1 or 2 channels, block by block.

    Raises `NotAudio` at the position where the file is broken.
    """
    try:
        with recording.path.open("rb") as file, Source(file) as source:
            yield from source.pcm(sample_rate, channels)
    except UNREADABLE as error:
        raise NotAudio(f"{recording.path}: broken recording ({error})") from None


def chunks(pieces: Iterator[Pcm], size: int) -> Iterator[Pcm]:
    """Yield the same audio in chunks of `size` samples; the last one may be shorter."""
    pending: list[Pcm] = []
    count = 0
    for piece in pieces:
        pending.append(piece)
        count += len(piece)
        if count >= size:
            audio = np.concatenate(pending)
            for start in range(0, count - size + 1, size):
                yield audio[start : start + size]
            pending = [audio[count - count % size :]]
            count %= size
    if count:
        yield np.concatenate(pending)


def joined(left: Iterator[Pcm], right: Iterator[Pcm], size: int) -> Iterator[Pcm]:
    """Yield two mono recordings as one with two channels, `size` samples at a time.

    The shorter one is padded with silence.
    """
    sides = chunks(left, size), chunks(right, size)
    empty = np.zeros((0, 1), np.int16)
    while True:
        pair = [next(side, empty) for side in sides]
        longest = max(len(part) for part in pair)
        if not longest:
            return
        yield np.hstack([np.pad(part, ((0, longest - len(part)), (0, 0))) for part in pair])


def level_dbfs(pcm: Pcm) -> float:
    """Return the RMS level of a block in dBFS; -96 for silence."""
    if not pcm.size:
        return -96.0
    power = float(np.mean(np.square(pcm / np.float32(32768), dtype=np.float64)))
    return max(-96.0, 10 * float(np.log10(power))) if power > 0 else -96.0


def pair_up(recordings: Sequence[Recording]) -> tuple[Recording, Recording]:
    """Return the two sides of a call. Raises `NotAudio` unless there are two mono recordings."""
    if len(recordings) != 2 or any(recording.channels != 1 for recording in recordings):
        raise NotAudio("--join requires exactly two mono files, one for each side of the call")
    return recordings[0], recordings[1]
