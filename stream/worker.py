"""Decoding in a process of its own, because uploads are hostile: bounded in memory and time.

The file comes as standard input; standard output carries messages, each a kind (one byte), a
length (uint32, little-endian) and that many bytes: JSON, or for `AUDIO` linear16 at 16 kHz. A pipe
that nobody reads stops the worker, so memory stays bounded whatever the length.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import struct
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stream.decode import About, Pcm, Source, Undecodable, alike, taken_channels
from stream.denoise import Denoiser
from stream.resample import Resampler
from stream.types import SAMPLE_RATE, Samples

ROOT = Path(__file__).resolve().parent.parent

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


@dataclass(frozen=True, slots=True)
class Found:
    """What a recording is, `alike` whether its two channels are one."""

    about: About
    channels: int
    alike: bool


@dataclass(frozen=True, slots=True)
class Looking:
    """How far the look at the channels has come."""

    share: float


@dataclass(frozen=True, slots=True)
class Finished:
    """All was decoded; `damaged` if some of it was missing."""

    damaged: bool


Told = Found | Looking | Samples | Finished


# -- inside the worker -------------------------------------------------------------------------


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
        say(FAILED, code=error.code, message=str(error))
    except MemoryError:
        say(FAILED, code="broken_file", message="decoding it takes more memory than is allowed")


def too_long(max_s: float) -> Undecodable:
    return Undecodable(
        "audio_too_long",
        f"the recording is longer than {max_s / 60:g} minutes: cut it into shorter ones "
        "(files.max_minutes)",
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


# -- outside -----------------------------------------------------------------------------------


class Worker:
    """A worker process as an async iterator of what it tells; always `stop` it.

    Raises `Undecodable`; `decode_timeout` when it tells nothing for `patience_s` seconds that
    somebody waited for it.
    """

    def __init__(self, path: Path, job: Job, patience_s: float) -> None:
        self._path = path
        self._job = job
        self._patience_s = patience_s
        self._process: asyncio.subprocess.Process | None = None
        self._about: Found | None = None

    async def start(self) -> None:
        keep = ("PATH", "LANG", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")
        env = {name: os.environ[name] for name in keep if name in os.environ}
        env |= {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        with self._path.open("rb") as file:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "stream.worker",
                json.dumps(asdict(self._job)),
                stdin=file,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=env,
            )

    async def told(self) -> AsyncIterator[Told]:
        """What it tells, `Found` before the first audio, `Finished` last."""
        while True:
            kind, payload = await self._message()
            if kind == AUDIO and self._about is not None:
                yield np.frombuffer(payload, "<i2").reshape(-1, self._about.channels)
                continue
            said = json.loads(payload)
            if kind == ABOUT:
                self._about = Found(About(**said["about"]), said["channels"], said["alike"])
                yield self._about
            elif kind == PROGRESS:
                yield Looking(said["share"])
            elif kind == FAILED:
                raise Undecodable(said["code"], said["message"])
            elif kind == DONE:
                yield Finished(said["damaged"])
                return

    async def stop(self) -> None:
        """End it, whatever it does."""
        if self._process is None:
            return
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        # An end is only noticed once the pipe was read to its own.
        stdout = self._process.stdout
        while stdout is not None and await stdout.read(MOST):
            pass
        await self._process.wait()

    async def _message(self) -> tuple[bytes, bytes]:
        assert self._process is not None
        assert self._process.stdout is not None
        stdout = self._process.stdout
        try:
            async with asyncio.timeout(self._patience_s):
                kind, size = HEADER.unpack(await stdout.readexactly(HEADER.size))
                if size > MOST:
                    raise Undecodable("broken_file", "decoding it went wrong")
                return kind, await stdout.readexactly(size)
        except TimeoutError:
            raise _timeout() from None
        except asyncio.IncompleteReadError:
            status = await self._process.wait()
            if status == -getattr(signal, "SIGXCPU", 0):
                raise _timeout() from None
            raise Undecodable(
                "broken_file", "decoding it broke off: the file is damaged, or made to do harm"
            ) from None


def _timeout() -> Undecodable:
    return Undecodable(
        "decode_timeout", "decoding took too long and was given up: save it as WAV and try again"
    )


if __name__ == "__main__":
    sys.exit(main())
