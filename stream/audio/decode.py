"""Recordings → PCM: any container and codec that FFmpeg knows, piece by piece.

Files are hostile until decoded, so a server runs this in a process of its own: `decode_worker`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import av
import numpy as np
from numpy.typing import NDArray

from stream.audio.containers import HEAD, ends_early, kind_of, protected
from stream.types import MAX_CHANNELS, MAX_RATE, MIN_RATE

Pcm = NDArray[np.int16]
"""Interleaved audio, shape [samples, channels]."""

Code = Literal[
    "empty_file",
    "not_audio",
    "no_audio_stream",
    "protected",
    "broken_file",
    "audio_too_long",
    "decode_timeout",
]

STILLS = ("tty", "gif", "apng", "ico", "image2", "svg")
"""What FFmpeg takes for video, but nobody else does."""

NAMES = {"mov,mp4,m4a,3gp,3g2,mj2": "mp4", "matroska,webm": "webm", "asf": "wma"}


class Undecodable(Exception):
    """A file without audio that can be had; `code` is the error's, the message says why.

    `values` say what the message does beyond the code: a `reason` where there are several, figures.
    """

    def __init__(self, code: Code, message: str, **values: str | float) -> None:
        super().__init__(message)
        self.code = code
        self.values = values


@dataclass(frozen=True, slots=True)
class About:
    """What a file is. Rate in Hz; `duration_s` is None where the header does not know it."""

    container: str
    codec: str
    sample_rate: int
    channels: int
    duration_s: float | None
    audio_streams: int = 1

    @property
    def rate(self) -> int:
        """The rate at which it is taken: its own, inside what a live stream may have."""
        return min(MAX_RATE, max(MIN_RATE, self.sample_rate))


class Source:
    """One open file. Use it as a context manager. Raises `Undecodable` throughout.

    Only `file` is read: no name, so that contents decide, and no protocol, so that a playlist
    reaches neither other files nor the network.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._head = file.read(HEAD)
        if not self._head:
            raise Undecodable("empty_file", "the file is empty: choose the recording again")
        if protected(file, self._head):
            raise Undecodable(
                "protected",
                "the file is protected (DRM): export it without protection, or record it anew",
            )
        self._container = _opened(file, self._head)
        self._audio = self._first()
        self.about = self._about()
        self.damaged = False
        """Set while decoding, once something was missing or could not be decoded."""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def blocks(self, rate: int, channels: int) -> Iterator[Pcm]:
        """PCM at `rate` Hz with 1 or 2 channels, from the beginning; other numbers are mixed.

        What cannot be decoded is passed over and told by `damaged`.
        """
        layout = "stereo" if channels == 2 else "mono"
        self._rewind()
        resampler = None
        heard, shape = 0.0, None
        for frame in self._frames():
            heard += frame.samples / frame.sample_rate
            if (frame.format.name, frame.layout.name, frame.sample_rate) != shape:
                # Chained files change their shape in the middle.
                yield from _pieces(resampler, None, channels)
                resampler = av.AudioResampler(format="s16", layout=layout, rate=rate)
                shape = (frame.format.name, frame.layout.name, frame.sample_rate)
            yield from _pieces(resampler, frame, channels)
        yield from _pieces(resampler, None, channels)
        if not heard:
            raise Undecodable(
                "broken_file",
                "nothing in the file could be decoded: it is damaged",
                reason="undecodable",
            )
        name = self._container.format.name
        self.damaged |= ends_early(self._file, self._head, name, heard, self.about.duration_s)

    def _frames(self) -> Iterator[Any]:
        packets = self._container.demux(self._audio)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.FFmpegError, OSError):
                self.damaged = True
                return
            try:
                yield from packet.decode()
            except av.error.EOFError:
                return
            except (av.FFmpegError, OSError):
                self.damaged = True

    def _rewind(self) -> None:
        self._container.close()
        self._container = _opened(self._file, self._head)
        self._audio = self._first()

    def _first(self) -> Any:
        streams = self._container.streams
        if streams.audio:
            return streams.audio[0]
        name = self._container.format.name
        still = name in STILLS or name.endswith("_pipe")
        if streams.video and not still:
            raise Undecodable(
                "no_audio_stream", "this video has no sound: choose one that has, or a recording"
            )
        raise Undecodable(
            "not_audio", "this is not a recording: choose a file with sound", reason="no_sound"
        )

    def _about(self) -> About:
        stream, name = self._audio, self._container.format.name
        context = stream.codec_context
        if context is None:
            raise Undecodable(
                "broken_file",
                "its sound is in a format that cannot be decoded: save it as WAV",
                reason="no_decoder",
            )
        duration = None
        if stream.duration is not None and stream.time_base is not None:
            duration = float(stream.duration * stream.time_base)
        elif self._container.duration is not None:
            duration = self._container.duration / av.time_base
        if not context.sample_rate or not context.channels:
            raise Undecodable(
                "broken_file", "its header names no sample rate: save it as WAV", reason="no_rate"
            )
        return About(
            container=NAMES.get(name, name),
            codec=context.name.removesuffix("float"),
            sample_rate=context.sample_rate,
            channels=context.channels,
            duration_s=duration if duration is not None and duration > 0 else None,
            audio_streams=len(self._container.streams.audio),
        )


def taken_channels(about: About) -> int:
    """How many channels a recording is analysed with: more than two are mixed into one."""
    return about.channels if about.channels <= MAX_CHANNELS else 1


def alike(blocks: Iterator[Pcm]) -> bool:
    """Whether both channels carry the same sound: they differ by 40 dB less than they have.

    Stops at the first block that says no.
    """
    for block in blocks:
        wide = block.astype(np.int32)
        apart, level = wide[:, 0] - wide[:, 1], np.abs(wide).max(initial=0)
        if np.abs(apart).max(initial=0) > max(2, level // 100):
            return False
    return True


def why(error: Exception) -> str:
    """FFmpeg's own words."""
    return str(getattr(error, "strerror", None) or error)


def _opened(file: BinaryIO, head: bytes) -> Any:
    file.seek(0)
    try:
        return av.open(
            _Nameless(file), options={"protocol_whitelist": "none"}, metadata_errors="ignore"
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        kind = kind_of(head)
        if kind is not None:
            raise Undecodable(
                "broken_file",
                f"the file begins as {kind} does, but is damaged or cut off",
                reason="cut_off",
                kind=kind,
            ) from None
        raise Undecodable(
            "not_audio",
            f"this is not a recording, whatever its name says ({why(error)}): choose a file with "
            "sound",
            reason="unknown",
        ) from None


class _Nameless:
    """A file whose name FFmpeg does not get to see."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _pieces(resampler: Any, frame: Any, channels: int) -> Iterator[Pcm]:
    if resampler is not None:
        for piece in resampler.resample(frame):
            yield np.asarray(piece.to_ndarray(), np.int16).reshape(-1, channels)
