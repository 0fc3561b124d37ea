"""Recordings → PCM: any container and codec that FFmpeg knows, piece by piece.

Files are hostile until decoded, so a server runs this in a process of its own: `stream.worker`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import av
import numpy as np
from numpy.typing import NDArray

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

HEAD = 65_536
MOOV_MOST = 16 * 1024 * 1024
"""An index of an MP4 beyond this is not searched for signs of protection."""

MAGIC = {
    b"RIFF": "WAV",
    b"OggS": "Ogg",
    b"fLaC": "FLAC",
    b"ID3": "MP3",
    b"\x1aE\xdf\xa3": "WebM or Matroska",
    b"FORM": "AIFF",
    b"caff": "CAF",
    b"\x30\x26\xb2\x75": "WMA",
}
"""How files of known kinds begin; MP4 says `ftyp` four bytes later."""

ASF_ENCRYPTED = (
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),
)
"""GUIDs of the Content Encryption objects (ASF specification, section 3.14 and 3.15)."""

STILLS = ("tty", "gif", "apng", "ico", "image2", "svg")
"""What FFmpeg takes for video, but nobody else does."""

TELLING = ("flac", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "aiff", "caf", "w64")
"""Containers whose headers know the length; others are guessed from the bit rate."""

SLACK_S, SLACK = 0.5, 0.02
"""A recording is truncated when it is shorter than its header says by more than this."""

NAMES = {"mov,mp4,m4a,3gp,3g2,mj2": "mp4", "matroska,webm": "webm", "asf": "wma"}


class Undecodable(Exception):
    """A file without audio that can be had; `code` is the error's, the message says why."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


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
        if _protected(file, self._head):
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
            raise Undecodable("broken_file", "nothing in the file could be decoded: it is damaged")
        self.damaged |= self._ends_early(heard)

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
        raise Undecodable("not_audio", "this is not a recording: choose a file with sound")

    def _about(self) -> About:
        stream, name = self._audio, self._container.format.name
        context = stream.codec_context
        if context is None:
            raise Undecodable(
                "broken_file", "its sound is in a format that cannot be decoded: save it as WAV"
            )
        duration = None
        if stream.duration is not None and stream.time_base is not None:
            duration = float(stream.duration * stream.time_base)
        elif self._container.duration is not None:
            duration = self._container.duration / av.time_base
        if not context.sample_rate or not context.channels:
            raise Undecodable("broken_file", "its header names no sample rate: save it as WAV")
        return About(
            container=NAMES.get(name, name),
            codec=context.name.removesuffix("float"),
            sample_rate=context.sample_rate,
            channels=context.channels,
            duration_s=duration if duration is not None and duration > 0 else None,
            audio_streams=len(self._container.streams.audio),
        )

    def _ends_early(self, heard_s: float) -> bool:
        name = self._container.format.name
        if name == "wav":
            return _wav_lacks(self._file)
        if name == "ogg":
            return _ogg_lacks(self._file)
        told = name in TELLING or (
            name == "mp3" and (b"Xing" in self._head or b"Info" in self._head)
        )
        length = self.about.duration_s
        return told and length is not None and heard_s < length * (1 - SLACK) - SLACK_S


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
        kind = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), None)
        if head[4:8] == b"ftyp":
            kind = "MP4"
        if kind is not None:
            raise Undecodable(
                "broken_file", f"the file begins as {kind} does, but is damaged or cut off"
            ) from None
        raise Undecodable(
            "not_audio",
            f"this is not a recording, whatever its name says ({why(error)}): choose a file with "
            "sound",
        ) from None


class _Nameless:
    """A file whose name FFmpeg does not get to see."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _pieces(resampler: Any, frame: Any, channels: int) -> Iterator[Pcm]:
    if resampler is not None:
        for piece in resampler.resample(frame):
            yield np.asarray(piece.to_ndarray(), np.int16).reshape(-1, channels)


def _protected(file: BinaryIO, head: bytes) -> bool:
    if head.startswith(b"\x30\x26\xb2\x75"):
        return any(mark in head for mark in ASF_ENCRYPTED)
    return head[4:8] == b"ftyp" and any(mark in _moov(file) for mark in (b"sinf", b"adrm"))


def _moov(file: BinaryIO) -> bytes:
    """An MP4's index, as far as it is there (ISO 14496-12: boxes of size, name, contents)."""
    at = 0
    for _ in range(1000):
        file.seek(at)
        start = file.read(16)
        if len(start) < 8:
            break
        size, name = struct.unpack(">I4s", start[:8])
        if size == 1 and len(start) == 16:
            size = struct.unpack(">Q", start[8:])[0]
        if name == b"moov":
            file.seek(at)
            return file.read(min(size, MOOV_MOST) if size else MOOV_MOST)
        if size < 8:
            break
        at += size
    return b""


def _wav_lacks(file: BinaryIO) -> bool:
    """Whether a WAV's data chunk promises more than there is (that of a live one may not)."""
    whole = file.seek(0, 2)
    at = 12
    for _ in range(1000):
        file.seek(at)
        start = file.read(8)
        if len(start) < 8:
            return False
        name, size = struct.unpack("<4sI", start)
        at += 8
        if name == b"data":
            return bool(0 < size < 0x7FFFFFFF and at + size > whole)
        at += size + size % 2
    return False


def _ogg_lacks(file: BinaryIO) -> bool:
    """Whether an Ogg's last page is not marked as the last (RFC 3533, section 6)."""
    whole = file.seek(0, 2)
    file.seek(max(0, whole - HEAD))
    tail = file.read(HEAD)
    at = tail.rfind(b"OggS")
    return at < 0 or len(tail) < at + 6 or not tail[at + 5] & 4
