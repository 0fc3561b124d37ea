"""Decoder process: uploads are untrusted, so they are decoded with bounded memory and CPU time.

The file is standard input. Standard output carries messages, each a kind (one byte), a length
(uint32, little-endian) and a payload of that length in bytes: JSON, or for `AUDIO` linear16 at
16 kHz. The process blocks while the pipe is full, so its memory is bounded for files of any length.
The parent's side is `decode_process`, and `decode_main` starts this one.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np

from stream.audio.confinement import confine
from stream.audio.decode import (
    AudioInfo,
    Pcm,
    Source,
    Undecodable,
    analysed_channels,
    identical_channels,
)
from stream.audio.denoise import Denoiser
from stream.audio.resample import Resampler
from stream.types import SAMPLE_RATE, Samples

HEADER = struct.Struct("<cI")
INFO, PROGRESS, AUDIO, FAILED, DONE = b"I", b"R", b"P", b"E", b"D"
"""Kinds of messages."""

MAX_PAYLOAD = 16 * 1024 * 1024
"""Bytes of the longest payload that the parent accepts."""

MAX_MEMORY = 2 * 1024**3
"""Bytes of address space of the process; FFmpeg, numpy and their libraries use a quarter of it."""

PROGRESS_EVERY_S = 5.0
"""Seconds of audio between two progress messages while the channels are compared."""


@dataclass(frozen=True, slots=True)
class Job:
    """Settings and limits of one decoding, in seconds.

    Audio longer than `max_s` is refused; `cpu_s` bounds the CPU time.
    """

    max_s: float
    denoise: bool = False
    cpu_s: int = 600


def process(pieces: Iterator[Pcm], info: AudioInfo, channels: int, denoise: bool) -> Iterator[Pcm]:
    """Yield int16[samples, channels] at 16 kHz, bit for bit as a live stream would be analysed."""
    resamplers = [Resampler(info.rate) for _ in range(channels)]
    denoisers = [Denoiser() for _ in range(channels)] if denoise else None

    def to_pcm(columns: list[Samples]) -> Pcm:
        clipped = np.clip(np.stack(columns, axis=1), -1, 32767 / 32768)
        return np.rint(clipped * 32768).astype("<i2")

    for pcm in pieces:
        samples = pcm[:, :channels].astype(np.float32) * np.float32(1 / 32768)
        columns = [r.push(samples[:, c]) for c, r in enumerate(resamplers)]
        if denoisers is not None:
            columns = [d.push(x) for d, x in zip(denoisers, columns, strict=True)]
        yield to_pcm(columns)
    columns = [r.drain() for r in resamplers]
    if denoisers is not None:
        columns = [
            np.concatenate([d.push(x), d.drain()]) for d, x in zip(denoisers, columns, strict=True)
        ]
    yield to_pcm(columns)


def one_second_blocks(pieces: Iterator[Pcm]) -> Iterator[Pcm]:
    """Yield the same audio in blocks of one second; the last may be shorter."""
    pending: list[Pcm] = []
    count = 0
    for piece in pieces:
        pending.append(piece)
        count += len(piece)
        if count >= SAMPLE_RATE:
            joined = np.concatenate(pending)
            for start in range(0, count - SAMPLE_RATE + 1, SAMPLE_RATE):
                yield joined[start : start + SAMPLE_RATE]
            pending, count = [joined[count - count % SAMPLE_RATE :]], count % SAMPLE_RATE
    if count:
        yield np.concatenate(pending)


def work(job: Job, file: BinaryIO, out: BinaryIO) -> None:
    """Decode `file` into messages on `out`."""

    def send(kind: bytes, payload: bytes) -> None:
        out.write(HEADER.pack(kind, len(payload)) + payload)
        out.flush()

    def send_json(kind: bytes, **fields: Any) -> None:
        send(kind, json.dumps(fields).encode())

    try:
        with Source(file) as source:
            info = source.info
            if info.duration_s is not None and info.duration_s > job.max_s * 1.01 + 1:
                raise too_long(job.max_s)
            channels = analysed_channels(info)

            def with_progress() -> Iterator[Pcm]:
                seconds, reported = 0.0, 0.0
                for piece in source.blocks(info.rate, 2):
                    yield piece
                    seconds += len(piece) / info.rate
                    if seconds > job.max_s:
                        raise too_long(job.max_s)
                    if seconds - reported >= PROGRESS_EVERY_S:
                        reported = seconds
                        share = min(1.0, seconds / (info.duration_s or job.max_s))
                        send_json(PROGRESS, share=share)

            identical = channels == 2 and identical_channels(with_progress())
            used = 1 if identical else channels
            send_json(INFO, info=asdict(info), channels=used, identical_channels=identical)
            rows = 0
            pieces = source.blocks(info.rate, channels)
            for block in one_second_blocks(process(pieces, info, used, job.denoise)):
                rows += len(block)
                if rows > job.max_s * SAMPLE_RATE:
                    raise too_long(job.max_s)
                send(AUDIO, block.tobytes())
            send_json(DONE, damaged=source.damaged)
    except Undecodable as error:
        send_json(FAILED, code=error.code, message=str(error), values=error.values)
    except MemoryError:
        text = "decoding exceeded the memory limit: save the file as WAV"
        send_json(FAILED, code="broken_file", message=text, values={"reason": "memory"})


def too_long(max_s: float) -> Undecodable:
    return Undecodable(
        "audio_too_long",
        f"the recording is longer than {max_s / 60:g} minutes (files.max_minutes): split it into "
        "shorter ones",
        minutes=max_s / 60,
    )


LAZY = ("av.subtitles.codeccontext", "av.subtitles.stream", "av.subtitles.subtitle")
"""Modules that PyAV imports only when it opens a file."""


def load_libraries(job: Job) -> None:
    """Import what libraries import when they need it: later no file can be opened."""
    for name in LAZY:
        import_module(name)
    if job.denoise:
        Denoiser()


def main(separated: int = 0) -> int:
    """Decode standard input; `separated` is the value of `confinement.separate`."""
    job = Job(**json.loads(sys.argv[1]))
    load_libraries(job)
    confine(MAX_MEMORY, job.cpu_s, separated)
    try:
        work(job, sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:
        os._exit(1)  # the parent has closed the pipe
    return 0
