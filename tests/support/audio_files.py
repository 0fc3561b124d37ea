"""Recordings in common formats, and files that are not recordings."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from tests.support.utterances import RATE, speech

Pcm = NDArray[np.int16]

FORMATS = {
    "a.wav": ("pcm_s16le", RATE),
    "a.mp3": ("libmp3lame", RATE),
    "a.m4a": ("aac", RATE),
    "a.aac": ("aac", RATE),
    "a.flac": ("flac", RATE),
    "vorbis.ogg": ("vorbis", RATE),
    "opus.ogg": ("libopus", 48_000),
    "a.webm": ("libopus", 48_000),
    "a.mka": ("flac", RATE),
    "a.aiff": ("pcm_s16be", RATE),
    "mulaw.wav": ("pcm_mulaw", 8_000),
    "float.wav": ("pcm_f32le", 44_100),
}
"""Name → codec and sample rate."""


def record(
    path: Path,
    pcm: Pcm | None = None,
    codec: str | None = None,
    rate: int | None = None,
    *,
    video: bool = False,
    layout: str = "",
    options: dict[str, str] | None = None,
    container: str | None = None,
) -> Path:
    """Write speech, or int16[samples] or int16[samples, channels] at 16 kHz, to a file.

    Defaults of codec, rate and container follow from the name of `path`. With `codec` "" the file
    has no audio stream.
    """
    default_codec, default_rate = FORMATS.get(
        path.name, FORMATS.get(f"a{path.suffix}", ("aac", RATE))
    )
    codec, rate = (default_codec if codec is None else codec), rate or default_rate
    pcm = speech() if pcm is None else pcm
    columns = pcm[:, None] if pcm.ndim == 1 else pcm
    vorbis = codec == "vorbis"  # FFmpeg's own encoder supports stereo only
    if vorbis:
        columns = np.repeat(columns[:, :1], 2, axis=1)
    layout = layout or ("stereo" if columns.shape[1] == 2 else "mono")
    with av.open(str(path), "w", format=container, options=options or {}) as file:
        video_stream = None
        if video:
            video_stream = file.add_stream("mpeg4", rate=10)
            video_stream.width, video_stream.height, video_stream.pix_fmt = 64, 64, "yuv420p"
        audio_stream = None
        if codec:
            audio_stream = file.add_stream(codec, rate=rate)
            audio_stream.layout = layout
            if vorbis:
                audio_stream.options = {"strict": "-2"}
                audio_stream.codec_context.options = {"strict": "-2"}
        if video_stream is not None:
            for number in range(10):
                black = np.zeros((64, 64, 3), np.uint8)
                picture = av.VideoFrame.from_ndarray(black, format="rgb24")
                picture.pts = number
                file.mux(video_stream.encode(picture))
            file.mux(video_stream.encode(None))
        if audio_stream is not None:
            row = np.ascontiguousarray(columns, np.int16).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(row, format="s16", layout=layout)
            frame.sample_rate, frame.pts = RATE, 0
            if len(columns):
                file.mux(audio_stream.encode(frame))
            else:
                file.start_encoding()
            file.mux(audio_stream.encode(None))
    return path


def cut(path: Path, share: float = 0.6) -> Path:
    """Truncate a file to `share` of its bytes; return its path."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def protected(path: Path) -> Path:
    """Write an MP4 with encrypted audio (CENC), as sold by shops; return its path."""
    keys = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
    }
    return record(path, codec="aac", container="mp4", options=keys)


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Write files that users send by mistake or with bad intent; return name → path, error code."""

    def text(name: str, content: str) -> Path:
        path = folder / name
        path.write_text(content)
        return path

    noise = folder / "noise.mp3"
    noise.write_bytes(os.urandom(40_000))
    secret = record(folder / "secret.wav")
    return {
        "text": (text("text.mp3", "These are words and no music at all.\n" * 300), "not_audio"),
        "page": (text("page.wav", "<!DOCTYPE html><html><body>404</body></html>\n"), "not_audio"),
        "noise": (noise, "not_audio"),
        "playlist": (text("list.mp3", f"#EXTM3U\n#EXTINF:9,\n{secret}\n"), "not_audio"),
        "concat": (text("list.wav", f"ffconcat version 1.0\nfile {secret}\n"), "not_audio"),
        "silent film": (record(folder / "v.mp4", codec="", video=True), "no_audio_stream"),
        "protected": (protected(folder / "shop.m4a"), "protected"),
        "no index": (cut(record(folder / "cut.m4a")), "broken_file"),
        "only a head": (text("head.wav", "RIFF\x10\x00\x00\x00WAVEfmt "), "broken_file"),
    }
