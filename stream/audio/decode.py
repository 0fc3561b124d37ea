"""Block-wise decoder from recordings to PCM, for any container and codec that FFmpeg supports.

Files from clients are untrusted, so a server runs this in a separate process: `decode_worker`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from stream.audio.containers import HEAD, is_protected, is_truncated, kind_of
from stream.terms import MAX_CHANNELS, MAX_RATE, MIN_RATE, AudioFault, FaultReason

Pcm = NDArray[np.int16]
"""Interleaved audio, shape [samples, channels]."""

IMAGE_FORMATS = ("tty", "gif", "apng", "ico", "image2", "svg")
"""Formats of images and text that FFmpeg reports as video."""

CONTAINER_NAMES = {"mov,mp4,m4a,3gp,3g2,mj2": "mp4", "matroska,webm": "webm", "asf": "wma"}
"""FFmpeg's format name → container name in results; other names are used as they are."""


class Undecodable(Exception):
    """Error for a file that yields no audio.

    `code` is the error code for the client. `values` holds the details of the message: figures, and
    a `reason` for codes with several causes.
    """

    def __init__(
        self,
        code: AudioFault,
        message: str,
        *,
        reason: FaultReason | None = None,
        **values: str | float,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.values = values if reason is None else {"reason": reason, **values}


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """Format of a recording: rate in Hz; `duration_s` is None if the header does not state it."""

    container: str
    codec: str
    sample_rate: int
    channels: int
    duration_s: float | None
    audio_streams: int = 1

    @property
    def rate(self) -> int:
        """Rate in Hz at which it is decoded: its own, clamped to the limits of a live stream."""
        return min(MAX_RATE, max(MIN_RATE, self.sample_rate))


class Source:
    """One open recording, a context manager. All methods raise `Undecodable`.

    FFmpeg gets `file` only: no file name, so that the contents determine the format, and no
    protocols, so that a playlist can open neither other files nor the network.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._head = file.read(HEAD)
        if not self._head:
            raise Undecodable("empty_file", "the file is empty: choose the recording again")
        if is_protected(file, self._head):
            raise Undecodable(
                "protected",
                "the file is protected (DRM): export it without protection, or record it again",
            )
        self._container = _open(file, self._head)
        self._audio = self._first_audio_stream()
        self.info = self._describe()
        self.damaged = False
        """Set by `blocks` when a part of the file is missing or cannot be decoded."""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def blocks(self, rate: int, channels: int) -> Iterator[Pcm]:
        """Yield PCM at `rate` Hz with 1 or 2 channels, from the beginning of the file.

        Files with another number of channels are mixed. Parts that cannot be decoded are skipped
        and set `damaged`.
        """
        layout = "stereo" if channels == 2 else "mono"
        self._rewind()
        resampler = None
        decoded_s, shape = 0.0, None
        for frame in self._frames():
            decoded_s += frame.samples / frame.sample_rate
            if (frame.format.name, frame.layout.name, frame.sample_rate) != shape:
                # Chained files change their format in the middle.
                yield from _resample(resampler, None, channels)
                resampler = av.AudioResampler(format="s16", layout=layout, rate=rate)
                shape = (frame.format.name, frame.layout.name, frame.sample_rate)
            yield from _resample(resampler, frame, channels)
        yield from _resample(resampler, None, channels)
        if not decoded_s:
            raise Undecodable(
                "broken_file",
                "the file is damaged: no audio in it could be decoded; export it again",
                reason="undecodable",
            )
        name = self._container.format.name
        self.damaged |= is_truncated(self._file, self._head, name, decoded_s, self.info.duration_s)

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
        self._container = _open(self._file, self._head)
        self._audio = self._first_audio_stream()

    def _first_audio_stream(self) -> Any:
        streams = self._container.streams
        if streams.audio:
            return streams.audio[0]
        name = self._container.format.name
        is_image = name in IMAGE_FORMATS or name.endswith("_pipe")
        if streams.video and not is_image:
            raise Undecodable(
                "no_audio_stream", "the video has no audio track: choose a file with audio"
            )
        raise Undecodable(
            "not_audio", "the file is not a recording: choose a file with audio", reason="no_sound"
        )

    def _describe(self) -> AudioInfo:
        stream, name = self._audio, self._container.format.name
        context = stream.codec_context
        if context is None:
            raise Undecodable(
                "broken_file",
                "the audio codec of the file is not supported: save it as WAV",
                reason="no_decoder",
            )
        duration = None
        if stream.duration is not None and stream.time_base is not None:
            duration = float(stream.duration * stream.time_base)
        elif self._container.duration is not None:
            duration = self._container.duration / av.time_base
        if not context.sample_rate or not context.channels:
            raise Undecodable(
                "broken_file",
                "the header of the file states no sample rate: save it as WAV",
                reason="no_rate",
            )
        return AudioInfo(
            container=CONTAINER_NAMES.get(name, name),
            codec=context.name.removesuffix("float"),
            sample_rate=context.sample_rate,
            channels=context.channels,
            duration_s=duration if duration is not None and duration > 0 else None,
            audio_streams=len(self._container.streams.audio),
        )


def analysed_channels(info: AudioInfo) -> int:
    """Return the number of channels to analyse; more than two are mixed into one."""
    return info.channels if info.channels <= MAX_CHANNELS else 1


def identical_channels(blocks: Iterator[Pcm]) -> bool:
    """Return whether the peak difference of both channels is 40 dB below the peak of each block.

    Stops at the first block that is not. Differences of at most 2 (int16) are ignored.
    """
    for block in blocks:
        samples = block.astype(np.int32)
        difference, peak = samples[:, 0] - samples[:, 1], np.abs(samples).max(initial=0)
        if np.abs(difference).max(initial=0) > max(2, peak // 100):
            return False
    return True


def _reason(error: Exception) -> str:
    """Return FFmpeg's message without the error number."""
    return str(getattr(error, "strerror", None) or error)


def _open(file: BinaryIO, head: bytes) -> Any:
    file.seek(0)
    try:
        return av.open(
            _UnnamedFile(file), options={"protocol_whitelist": "none"}, metadata_errors="ignore"
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        kind = kind_of(head)
        if kind is not None:
            raise Undecodable(
                "broken_file",
                f"the file has a {kind} header, but is damaged or truncated: export it again",
                reason="cut_off",
                kind=kind,
            ) from None
        raise Undecodable(
            "not_audio",
            f"the contents of the file are not audio ({_reason(error)}): choose a file with audio",
            reason="unknown",
        ) from None


class _UnnamedFile:
    """File object that does not expose the file's name to FFmpeg."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _resample(resampler: Any, frame: Any, channels: int) -> Iterator[Pcm]:
    if resampler is not None:
        for piece in resampler.resample(frame):
            yield np.asarray(piece.to_ndarray(), np.int16).reshape(-1, channels)
