"""Decoder process: uploads are untrusted, so they are decoded with bounded memory and CPU time.

The file is standard input. Standard output carries messages, each a kind (one byte), a length
(uint32, little-endian) and a payload of that length in bytes: JSON, or for `AUDIO` linear16 at
16 kHz. The process blocks while the pipe is full, so its memory is bounded for files of any length.
The parent's side is `decode_process`, and `decode_main` starts this one.
"""

from __future__ import annotations

import json
import math
import os
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from typing import Any, BinaryIO

import av
import numpy as np

from stream.audio.confinement import confine
from stream.audio.denoise import Denoiser
from stream.audio.files.decode import Source, analysed_channels
from stream.audio.files.findings import Findings
from stream.audio.files.survey import Levels, Survey
from stream.audio.files.undecodable import Undecodable, reason_of
from stream.audio.resample import Resampler
from stream.audio.samples import Block, Pcm, mixed, to_pcm
from stream.types import SAMPLE_RATE

HEADER = struct.Struct("<cI")
INFO, PROGRESS, AUDIO, FAILED, DONE = b"I", b"R", b"P", b"E", b"D"
"""Kinds of messages."""

MAX_PAYLOAD = 16 * 1024 * 1024
"""Bytes of the longest payload that the parent accepts."""

MAX_MEMORY = 2 * 1024**3
"""Bytes of address space of the process; FFmpeg, numpy and their libraries use a quarter of it."""

PROGRESS_EVERY_S = 0.2
"""Seconds between two progress messages during the survey."""


@dataclass(frozen=True, slots=True)
class Job:
    """Settings and limits of one decoding, in seconds.

    Audio longer than `max_s` is refused; `cpu_s` bounds the CPU time. `track` counts the audio
    tracks from 1; 0 is the default one.
    """

    max_s: float
    denoise: bool = False
    cpu_s: int = 600
    track: int = 0


def process(pieces: Iterator[Block], rate: int, channels: int, denoise: bool) -> Iterator[Pcm]:
    """Yield int16[samples, channels] at 16 kHz, bit for bit as a live stream would be analysed."""
    resamplers = [Resampler(rate) for _ in range(channels)]
    denoisers = [Denoiser() for _ in range(channels)] if denoise else None
    for block in pieces:
        columns = [r.push(np.ascontiguousarray(block[:, c])) for c, r in enumerate(resamplers)]
        if denoisers is not None:
            columns = [d.push(x) for d, x in zip(denoisers, columns, strict=True)]
        yield to_pcm(np.stack(columns, axis=1))
    columns = [r.drain() for r in resamplers]
    if denoisers is not None:
        columns = [
            np.concatenate([d.push(x), d.drain()]) for d, x in zip(denoisers, columns, strict=True)
        ]
    yield to_pcm(np.stack(columns, axis=1))


def survey(source: Source, max_s: float, report: Callable[[float], None]) -> Levels:
    """Measure the whole recording; `report` gets the share that is done.

    Raises `Undecodable` for a recording longer than `max_s`.
    """
    sure = source.exact_duration_s
    if sure is not None and sure > max_s * 1.01 + 1:
        raise too_long(max_s)
    meter = Survey(source.info.sample_rate, source.info.channels)
    reported = time.monotonic()
    for block in source.blocks():
        meter.add(block)
        if meter.seconds > max_s:
            raise too_long(max_s)
        now = time.monotonic()
        if now - reported >= PROGRESS_EVERY_S:
            reported = now
            report(source.share_read)
    return meter.levels()


def levelled(blocks: Iterator[Block], levels: Levels, channels: int) -> Iterator[Block]:
    """Yield the audio that is analysed: mixed or chosen if there are more channels, and levelled.

    It is rounded to 16 bits, as a producer of a live stream sends it, so that both are equal.
    """
    gain = np.float32(levels.gain)
    for block in blocks:
        if levels.alike:
            used = block[:, levels.best : levels.best + 1]
        elif block.shape[1] > channels == 1:
            used = mixed(block) * np.float32(levels.mix_gain)
        else:
            used = block[:, :channels]
        rounded = to_pcm(used * gain if levels.gain != 1 else used)
        yield rounded.astype(np.float32) * np.float32(1 / 32_768)


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
        with Source(file, job.track, job.max_s) as source:
            levels = survey(source, job.max_s, lambda share: send_json(PROGRESS, share=share))
            channels = 1 if levels.alike else analysed_channels(source.info)
            info = replace(source.info, duration_s=round(levels.seconds, 3))
            findings = Findings(
                levels_dbfs=levels.levels_dbfs,
                gain_db=round(20 * math.log10(levels.gain), 1),
                timing=source.timing,
                left_out=source.left_out,
            )
            send_json(
                INFO,
                info=asdict(info),
                channels=channels,
                identical_channels=levels.alike,
                findings=asdict(findings),
            )
            rows = 0
            pieces = levelled(source.blocks(), levels, channels)
            for block in one_second_blocks(
                process(pieces, info.sample_rate, channels, job.denoise)
            ):
                rows += len(block)
                if rows > job.max_s * SAMPLE_RATE:
                    raise too_long(job.max_s)
                send(AUDIO, block.astype("<i2", copy=False).tobytes())
            send_json(DONE, damaged=source.damaged)
    except Undecodable as error:
        send_json(FAILED, code=error.code, message=str(error), values=error.values)
    except MemoryError:
        text = "decoding exceeded the memory limit: save the file as WAV"
        send_json(FAILED, code="broken_file", message=text, values={"reason": "memory"})
    except (av.FFmpegError, ValueError, RuntimeError) as error:
        text = f"the file cannot be decoded ({reason_of(error)}): save it as WAV"
        send_json(FAILED, code="broken_file", message=text, values={"reason": "undecodable"})


def too_long(max_s: float) -> Undecodable:
    return Undecodable(
        "audio_too_long",
        f"the recording is longer than {length(max_s)} (files.max_minutes): split it into "
        "shorter ones",
        minutes=round(max_s / 60, 2),
    )


def length(seconds: float) -> str:
    """Return a limit for people: minutes from two minutes on, else seconds."""
    if seconds < 120:
        return f"{seconds:g} seconds"
    return f"{seconds / 60:g} minutes"


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
