"""A recording's worker process, seen from the server: what it tells, and its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from stream.audio.decode import About, Undecodable
from stream.audio.decode_worker import ABOUT, AUDIO, DONE, FAILED, HEADER, MOST, PROGRESS, Job
from stream.types import Samples

ROOT = Path(__file__).resolve().parents[2]


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


class Decoder:
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
                "stream.audio.decode_worker",
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
                raise Undecodable(said["code"], said["message"], **said["values"])
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
                    raise _broke_off()
                return kind, await stdout.readexactly(size)
        except TimeoutError:
            raise _timeout() from None
        except asyncio.IncompleteReadError:
            status = await self._process.wait()
            if status == -getattr(signal, "SIGXCPU", 0):
                raise _timeout() from None
            raise _broke_off() from None


def _timeout() -> Undecodable:
    return Undecodable(
        "decode_timeout", "decoding took too long and was given up: save it as WAV and try again"
    )


def _broke_off() -> Undecodable:
    return Undecodable(
        "broken_file",
        "decoding it broke off: the file is damaged, or made to do harm",
        reason="broke_off",
    )
