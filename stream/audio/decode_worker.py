"""Decoding in a process of its own, because uploads are hostile: bounded in memory and time.

The file comes as standard input; standard output carries messages, each a kind (one byte), a
length (uint32, little-endian) and that many bytes: JSON, or for `AUDIO` linear16 at 16 kHz. A pipe
that nobody reads stops the worker, so memory stays bounded whatever the length. `decode_process` is
the other end.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import numpy as np

from stream.audio.decode import About, Pcm, Source, Undecodable, alike, taken_channels
from stream.audio.denoise import Denoiser
from stream.audio.resample import Resampler
from stream.types import SAMPLE_RATE, Samples

HEADER = struct.Struct("<cI")
ABOUT, PROGRESS, AUDIO, FAILED, DONE = b"I", b"R", b"P", b"E", b"D"
MOST = 16 * 1024 * 1024

MEMORY = 2 * 1024**3
"""Address space of a worker; FFmpeg, numpy and their libraries take a quarter of it."""

TOLD_EVERY_S = 5.0
"""Progress of looking at the channels is told each so many seconds of audio."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is to do. Longer audio than `max_s` is refused, `cpu_s` bounds its CPU."""

    max_s: float
    denoise: bool = False
    cpu_s: int = 600


def heard(pieces: Iterator[Pcm], about: About, channels: int, denoise: bool) -> Iterator[Pcm]:
    """Int16[samples, channels] at 16 kHz, exactly as a live stream of `pieces` would be heard."""
    resamplers = [Resampler(about.rate) for _ in range(channels)]
    denoisers = [Denoiser() for _ in range(channels)] if denoise else None

    def out(columns: list[Samples]) -> Pcm:
        clipped = np.clip(np.stack(columns, axis=1), -1, 32767 / 32768)
        return np.rint(clipped * 32768).astype("<i2")

    for pcm in pieces:
        samples = pcm[:, :channels].astype(np.float32) * np.float32(1 / 32768)
        columns = [r.push(samples[:, c]) for c, r in enumerate(resamplers)]
        if denoisers is not None:
            columns = [d.push(x) for d, x in zip(denoisers, columns, strict=True)]
        yield out(columns)
    columns = [r.drain() for r in resamplers]
    if denoisers is not None:
        columns = [
            np.concatenate([d.push(x), d.drain()]) for d, x in zip(denoisers, columns, strict=True)
        ]
    yield out(columns)


def seconds_of(pieces: Iterator[Pcm]) -> Iterator[Pcm]:
    """The same audio in pieces of one second; the last may be shorter."""
    held: list[Pcm] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        if count >= SAMPLE_RATE:
            whole = np.concatenate(held)
            for start in range(0, count - SAMPLE_RATE + 1, SAMPLE_RATE):
                yield whole[start : start + SAMPLE_RATE]
            held, count = [whole[count - count % SAMPLE_RATE :]], count % SAMPLE_RATE
    if count:
        yield np.concatenate(held)


def work(job: Job, file: BinaryIO, out: BinaryIO) -> None:
    """Decode `file` into messages on `out`."""

    def tell(kind: bytes, payload: bytes) -> None:
        out.write(HEADER.pack(kind, len(payload)) + payload)
        out.flush()

    def say(kind: bytes, **fields: Any) -> None:
        tell(kind, json.dumps(fields).encode())

    try:
        with Source(file) as source:
            about = source.about
            if about.duration_s is not None and about.duration_s > job.max_s * 1.01 + 1:
                raise too_long(job.max_s)
            channels = taken_channels(about)

            def looked_at() -> Iterator[Pcm]:
                seconds, told = 0.0, 0.0
                for piece in source.blocks(about.rate, 2):
                    yield piece
                    seconds += len(piece) / about.rate
                    if seconds > job.max_s:
                        raise too_long(job.max_s)
                    if seconds - told >= TOLD_EVERY_S:
                        told = seconds
                        say(PROGRESS, share=min(1.0, seconds / (about.duration_s or job.max_s)))

            same = channels == 2 and alike(looked_at())
            say(ABOUT, about=asdict(about), channels=1 if same else channels, alike=same)
            rows = 0
            pieces = source.blocks(about.rate, channels)
            for block in seconds_of(heard(pieces, about, 1 if same else channels, job.denoise)):
                rows += len(block)
                if rows > job.max_s * SAMPLE_RATE:
                    raise too_long(job.max_s)
                tell(AUDIO, block.tobytes())
            say(DONE, damaged=source.damaged)
    except Undecodable as error:
        say(FAILED, code=error.code, message=str(error), values=error.values)
    except MemoryError:
        text = "decoding it takes more memory than is allowed"
        say(FAILED, code="broken_file", message=text, values={"reason": "memory"})


def too_long(max_s: float) -> Undecodable:
    return Undecodable(
        "audio_too_long",
        f"the recording is longer than {max_s / 60:g} minutes: cut it into shorter ones "
        "(files.max_minutes)",
        minutes=max_s / 60,
    )


def confine(job: Job) -> None:
    """Give up what decoding does not need: files, network, memory, time. POSIX only."""
    if sys.platform == "win32":
        return
    import resource

    for what, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, job.cpu_s),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        # The first CPU limit is told by a signal of its own, the second just kills.
        hard = most + 5 if what == resource.RLIMIT_CPU else most
        with suppress(ValueError, OSError):
            resource.setrlimit(what, (most, hard))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        pr_set_pdeathsig, pr_set_no_new_privs = 1, 38
        libc.prctl(pr_set_pdeathsig, signal.SIGKILL)
        libc.prctl(pr_set_no_new_privs, 1, 0, 0, 0)
        clone_newuser, clone_newnet = 0x10000000, 0x40000000
        # An empty network, where the kernel lets us; FFmpeg is told to open nothing anyway.
        if libc.unshare(clone_newnet):
            libc.unshare(clone_newuser | clone_newnet)


def main() -> int:
    job = Job(**json.loads(sys.argv[1]))
    confine(job)
    try:
        work(job, sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:
        os._exit(1)  # nobody listens any more
    return 0


if __name__ == "__main__":
    sys.exit(main())
