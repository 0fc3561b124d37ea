"""Recordings as people have them, good and bad, made with av on the spot."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from tests.running import RATE, Pcm, speech

FORMATS = {
    "wav": ("wav", "pcm_s16le", 16_000),
    "mp3": ("mp3", "mp3", 44_100),
    "m4a": ("mp4", "aac", 44_100),
    "flac": ("flac", "flac", 16_000),
    "ogg": ("ogg", "libopus", 48_000),
    "webm": ("webm", "libopus", 48_000),
}
"""Ending → container, codec and sample rate."""


def encode(path: Path, pcm: Pcm, ending: str | None = None) -> Path:
    """Write int16[n] or int16[n, 2] at 16 kHz as what the name (or `ending`) says."""
    container, codec, rate = FORMATS[ending or path.suffix[1:]]
    samples = pcm.reshape(len(pcm), -1)
    layout = "stereo" if samples.shape[1] == 2 else "mono"
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout=layout)
        fits = av.AudioResampler(stream.codec_context.format, layout, rate)
        for start in range(0, len(samples), RATE):
            piece = np.ascontiguousarray(samples[start : start + RATE]).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(piece, format="s16", layout=layout)
            frame.sample_rate = RATE
            for ready in fits.resample(frame):
                out.mux(stream.encode(ready))
        for ready in fits.resample(None):
            out.mux(stream.encode(ready))
        out.mux(stream.encode(None))
    return path


def spoken(path: Path, *clips: str) -> Path:
    """Real speech, two clips unless told otherwise."""
    return encode(path, speech(*clips))


def call(path: Path) -> Path:
    """Two speakers, one on each channel."""
    left, right = speech("03a01Wa.flac"), speech("08a01Fd.flac", pause_s=1.2)
    size = max(len(left), len(right))
    both = np.stack([np.pad(side, (0, size - len(side))) for side in (left, right)], axis=1)
    return encode(path, both.astype(np.int16))


def silent(path: Path, seconds: float = 3.0) -> Path:
    noise = np.random.default_rng(1).integers(-8, 9, int(seconds * RATE)).astype(np.int16)
    return encode(path, noise)


def text(path: Path) -> Path:
    path.write_text("Dear diary, this is no recording.\n" * 40, encoding="utf-8")
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def cut(path: Path) -> Path:
    """Half a recording, as of a broken download."""
    spoken(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def mute_video(path: Path) -> Path:
    """Moving pictures without a sound track."""
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for shade in range(10):
            picture = np.full((48, 64, 3), shade * 20, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return path
