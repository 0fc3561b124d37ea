"""Recordings → blocks of PCM → the wire's encodings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stream.audio.decode import Pcm, Source, Undecodable


class NotAudio(Exception):
    """A file that cannot be played; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A file with sound. `duration_s` is None where the file does not say."""

    path: Path
    sample_rate: int
    channels: int
    duration_s: float | None


def probe(path: Path) -> Recording:
    """Look at a file's first audio stream. Raises `NotAudio`."""
    if not path.is_file():
        raise NotAudio(f"{path}: no such file")
    try:
        with path.open("rb") as file, Source(file) as source:
            about = source.about
    except (Undecodable, OSError) as error:
        raise NotAudio(f"{path}: {error}") from None
    return Recording(path, about.sample_rate, about.channels, about.duration_s)


def blocks(recording: Recording, sample_rate: int, channels: int) -> Iterator[Pcm]:
    """The recording at `sample_rate` in Hz with 1 or 2 channels, piece by piece.

    Raises `NotAudio` where it turns out to be broken.
    """
    try:
        with recording.path.open("rb") as file, Source(file) as source:
            yield from source.blocks(sample_rate, channels)
    except (Undecodable, OSError) as error:
        raise NotAudio(f"{recording.path}: broken recording ({error})") from None


def chunks(pieces: Iterator[Pcm], size: int) -> Iterator[Pcm]:
    """The same audio in chunks of `size` samples; the last one may be shorter."""
    held: list[Pcm] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        if count >= size:
            whole = np.concatenate(held)
            for start in range(0, count - size + 1, size):
                yield whole[start : start + size]
            held = [whole[count - count % size :]]
            count %= size
    if count:
        yield np.concatenate(held)


def joined(left: Iterator[Pcm], right: Iterator[Pcm], size: int) -> Iterator[Pcm]:
    """Two mono recordings as the two channels of one, `size` samples at a time.

    Where one is shorter it is silent.
    """
    sides = chunks(left, size), chunks(right, size)
    nothing = np.zeros((0, 1), np.int16)
    while True:
        pair = [next(side, nothing) for side in sides]
        longest = max(len(part) for part in pair)
        if not longest:
            return
        yield np.hstack([np.pad(part, ((0, longest - len(part)), (0, 0))) for part in pair])


def level_dbfs(pcm: Pcm) -> float:
    """RMS level of a block in dB below full scale; -96 for silence."""
    if not pcm.size:
        return -96.0
    power = float(np.mean(np.square(pcm / np.float32(32768), dtype=np.float64)))
    return max(-96.0, 10 * float(np.log10(power))) if power > 0 else -96.0


def pair_up(recordings: Sequence[Recording]) -> tuple[Recording, Recording]:
    """The two sides of one call. Raises `NotAudio` unless there are two mono recordings."""
    if len(recordings) != 2 or any(recording.channels != 1 for recording in recordings):
        raise NotAudio("--join needs exactly two mono files, one for each side of the call")
    return recordings[0], recordings[1]
