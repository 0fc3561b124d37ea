"""Recordings as recorders, telephones and tools really write them: odd, and mostly whole."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from tests.support.utterances import RATE, speech

Pcm = NDArray[np.int16]

PIECE = 320
"""Samples of a frame that is written with a time stamp of its own."""


def wav(
    samples: NDArray[np.generic],
    rate: int = RATE,
    *,
    data_size: int | None = None,
    riff_size: int | None = None,
    behind: bytes = b"",
    before: bytes = b"",
) -> bytes:
    """Return a WAV of [samples] or [samples, channels]; integers are PCM, floats are IEEE float.

    `data_size` and `riff_size` are what the header states, by default the truth. `before` and
    `behind` are chunks around the sound.
    """
    columns = samples[:, None] if samples.ndim == 1 else samples
    channels, width = columns.shape[1], samples.dtype.itemsize
    tag = 3 if samples.dtype.kind == "f" else 1
    body = np.ascontiguousarray(columns).tobytes()
    size = len(body) if data_size is None else data_size
    form = struct.pack(
        "<HHIIHH", tag, channels, rate, rate * channels * width, channels * width, 8 * width
    )
    head = b"WAVEfmt " + struct.pack("<I", len(form)) + form + before
    contents = head + b"data" + struct.pack("<I", size) + body + behind
    whole = len(contents) if riff_size is None else riff_size
    return b"RIFF" + struct.pack("<I", whole) + contents


def id3(size: int = 1_000) -> bytes:
    """Return an ID3v2 tag with a picture of `size` bytes."""
    frame = (
        b"APIC"
        + struct.pack(">I", size + 14)
        + b"\0\0"
        + b"\0image/png\0\3\0"
        + b"\0"
        + bytes(size)
    )
    total = len(frame)
    digits = bytes(total >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + digits + frame


def timed(
    path: Path,
    parts: Sequence[tuple[float, Pcm]],
    codec: str,
    *,
    picture_s: float = 0.0,
    options: dict[str, str] | None = None,
) -> Path:
    """Write mono pieces at 16 kHz, each at its time in seconds, and a picture of `picture_s`."""
    with av.open(str(path), "w", options=options or {}) as file:
        video = None
        if picture_s:
            video = file.add_stream(
                "mpeg2video" if path.suffix in (".ts", ".mpg") else "mpeg4", rate=25
            )
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        audio = file.add_stream(codec, rate=RATE if codec != "libopus" else 48_000)
        audio.layout = "mono"
        packets = []
        for start_s, pcm in parts:
            for at in range(0, len(pcm), PIECE):
                frame = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(pcm[at : at + PIECE]).reshape(1, -1), "s16", "mono"
                )
                frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
                frame.pts = round(start_s * RATE) + at
                packets += audio.encode(frame)
        packets += audio.encode(None)
        if video is not None:
            for number in range(int(picture_s * 25)):
                picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
                picture.pts = number
                packets += video.encode(picture)
            packets += video.encode(None)
        file.mux(sorted(packets, key=lambda packet: packet.dts * packet.time_base))
    return path


def tracks(path: Path, sounds: Sequence[Pcm], default: int | None, codec: str = "aac") -> Path:
    """Write several mono tracks at 16 kHz; the one with the index `default` is marked."""
    with av.open(str(path), "w") as file:
        streams = []
        for number in range(len(sounds)):
            stream = file.add_stream(codec, rate=RATE)
            stream.layout = "mono"
            stream.disposition = (
                av.stream.Disposition.default if number == default else av.stream.Disposition(0)
            )
            streams.append(stream)
        for stream, pcm in zip(streams, sounds, strict=True):
            frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), "s16", "mono")
            frame.sample_rate, frame.pts = RATE, 0
            file.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def second(number: int = 0) -> Pcm:
    """Return one second of speech; every number another one."""
    return np.roll(speech(), -(number + 1) * RATE)[:RATE].copy()
