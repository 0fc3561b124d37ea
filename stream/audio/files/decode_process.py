"""Parent side of the decoder process: start, messages and termination."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from stream.audio.confinement.report import command, environment
from stream.audio.files.decode import AudioInfo
from stream.audio.files.decode_worker import (
    AUDIO,
    DONE,
    FAILED,
    HEADER,
    INFO,
    MAX_PAYLOAD,
    PROGRESS,
    Job,
)
from stream.audio.files.findings import Findings
from stream.audio.files.undecodable import Undecodable
from stream.types import Samples


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Format and measured length of a recording, and the number of channels to analyse.

    `identical_channels` is set if two channels carry the same voice and are analysed as one.
    """

    info: AudioInfo
    channels: int
    identical_channels: bool
    findings: Findings = field(default_factory=Findings)


@dataclass(frozen=True, slots=True)
class ProbeProgress:
    """Progress of the survey before the analysis, 0 to 1."""

    share: float


@dataclass(frozen=True, slots=True)
class Finished:
    """End of the decoded audio; `damaged` if a part of the file was missing or undecodable."""

    damaged: bool


DecoderMessage = ProbeResult | ProbeProgress | Samples | Finished


class Decoder:
    """Decoder process of one recording. Call `stop` in any case.

    Raises `Undecodable`, with code `decode_timeout` if the caller has waited `timeout_s` seconds
    for a message.
    """

    def __init__(self, path: Path, job: Job, timeout_s: float) -> None:
        self._path = path
        self._job = job
        self._timeout_s = timeout_s
        self._process: asyncio.subprocess.Process | None = None
        self._probed: ProbeResult | None = None

    async def start(self) -> None:
        with self._path.open("rb") as file:
            self._process = await asyncio.create_subprocess_exec(
                *command("stream.audio.files.decode_main", json.dumps(asdict(self._job))),
                stdin=file,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=environment(),
                # A group of its own: the process and its confined child end together.
                start_new_session=True,
            )

    async def messages(self) -> AsyncIterator[DecoderMessage]:
        """Yield the messages of the process: `ProbeResult` before any audio, `Finished` last."""
        while True:
            kind, payload = await self._read_message()
            if kind == AUDIO and self._probed is not None:
                yield np.frombuffer(payload, "<i2").reshape(-1, self._probed.channels)
                continue
            body = json.loads(payload)
            if kind == INFO:
                self._probed = ProbeResult(
                    AudioInfo(**body["info"]),
                    body["channels"],
                    body["identical_channels"],
                    Findings.from_json(body["findings"]),
                )
                yield self._probed
            elif kind == PROGRESS:
                yield ProbeProgress(body["share"])
            elif kind == FAILED:
                raise Undecodable(body["code"], body["message"], **body["values"])
            elif kind == DONE:
                yield Finished(body["damaged"])
                return

    async def stop(self) -> None:
        """Kill the process with its children, and wait for its exit."""
        if self._process is None:
            return
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                if sys.platform == "win32":
                    self._process.kill()
                else:
                    os.killpg(self._process.pid, signal.SIGKILL)
        # asyncio reports the exit of a process only after its pipe was read to the end.
        stdout = self._process.stdout
        while stdout is not None and await stdout.read(MAX_PAYLOAD):
            pass
        await self._process.wait()

    async def _read_message(self) -> tuple[bytes, bytes]:
        assert self._process is not None
        assert self._process.stdout is not None
        stdout = self._process.stdout
        try:
            async with asyncio.timeout(self._timeout_s):
                kind, size = HEADER.unpack(await stdout.readexactly(HEADER.size))
                if size > MAX_PAYLOAD:
                    raise _crashed()
                return kind, await stdout.readexactly(size)
        except TimeoutError:
            raise _timeout() from None
        except asyncio.IncompleteReadError:
            status = await self._process.wait()
            if abs(status) == getattr(signal, "SIGXCPU", None):
                raise _timeout() from None
            raise _crashed() from None


def _timeout() -> Undecodable:
    return Undecodable(
        "decode_timeout", "decoding took too long: save the file as WAV and try again"
    )


def _crashed() -> Undecodable:
    return Undecodable(
        "broken_file",
        "the decoder crashed: the file is damaged or malicious; save it as WAV",
        reason="broke_off",
    )
