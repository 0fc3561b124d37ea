"""Block-wise decoder from recordings to PCM, for any container and codec that FFmpeg supports.

Files from clients are untrusted, so a server runs this in a separate process: `decode_worker`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import av
import numpy as np

from stream.audio.files import undecodable
from stream.audio.files.chunks import Layout, layout
from stream.audio.files.completeness import ends_early, joined_mp4
from stream.audio.files.containers import HEAD, flac_samples, is_protected, kind_of
from stream.audio.files.frame_clock import MAX_HOLE_S, FrameClock, Timing
from stream.audio.files.survey import Levels, Survey
from stream.audio.files.tags import start_of_sound
from stream.audio.files.tracks import default_track, marks
from stream.audio.files.undecodable import Undecodable
from stream.audio.files.views import View
from stream.audio.samples import Block, Pcm, RateConverter, mixed, to_float, to_pcm
from stream.terms import MAX_CHANNELS

CONTAINER_NAMES = {"mov,mp4,m4a,3gp,3g2,mj2": "mp4", "matroska,webm": "webm", "asf": "wma"}
"""FFmpeg's format name → container name in results; other names are used as they are."""

TIMED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "ogg", "mpegts", "mpeg", "asf", "flv", "avi")
"""Containers with time stamps. In others FFmpeg counts samples, or guesses from the bit rate."""

FROM_ZERO = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""Containers whose time begins at 0; in others it begins with the first packet of any track."""

STREAMED = ("mp3", "aac", "ac3", "eac3", "mpegts", "mpeg", "loas", "latm", "amr")
"""Formats that may be captured at any point: their first and last packet may be incomplete."""

EXACT = ("wav", "w64", "aiff", "caf", "au", "flac", "mov,mp4,m4a,3gp,3g2,mj2")
"""Containers that state the length of the sound itself; others guess, or state another track's."""

WITHOUT_INDEX = ("mpegts", "mpeg", "flv")
"""Containers in which a track is known only once it begins."""

FAR_BYTES, FAR_US = 512 * 1024 * 1024, 24 * 3600 * 1_000_000
"""Bytes and microseconds in which sound is searched that begins late in a video."""

LEVEL_FROM_S = 900.0
"""Seconds from which the level of a recording that is played is taken."""

SHORT_S = 0.1
"""Seconds by which a FLAC may be shorter than it states."""


UNREADABLE = (Undecodable, av.FFmpegError, OSError, ValueError)
"""All errors that reading a foreign file may raise."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """Format of a recording: rate in Hz, length in seconds, the track that was chosen from 1.

    `duration_s` is None if the header does not state it; it may be a guess before `Source.blocks`
    has ended.
    """

    container: str
    codec: str
    sample_rate: int
    channels: int
    duration_s: float | None
    audio_streams: int = 1
    track: int = 1


class Source:
    """One open recording, a context manager. All methods raise `Undecodable`.

    FFmpeg gets the contents only: no file name, so that the contents determine the format, and no
    protocols, so that a playlist can open neither other files nor the network. `track` counts the
    audio tracks from 1; 0 is the default one. Silence in place of holes in the time stamps never
    makes the recording longer than `max_s` seconds.
    """

    def __init__(self, file: BinaryIO, track: int = 0, max_s: float = MAX_HOLE_S) -> None:
        self._file = file
        self._wanted = track
        self._max_s = max_s
        self._far = False
        size = file.seek(0, 2)
        if not size:
            raise undecodable.empty()
        self._view, self._layout = _view(file, size)
        self._head = _read(self._view, HEAD)
        if self._layout is not None and self._layout.is_empty:
            raise undecodable.header_alone(kind_of(self._head))
        if is_protected(self._view, self._head):
            raise undecodable.protected()
        self._container = self._open()
        self._audio = self._find_track()
        self.info = self._describe()
        self.timing = Timing()
        """Corrections of the time stamps, after `blocks`."""
        self.damaged = False
        """Set by `blocks` when a part of the file is missing or cannot be decoded."""
        self.cut_off = self._ends_early()
        """True if the file ends before its container does."""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    @property
    def share_read(self) -> float:
        """Position in the file, as a share of its bytes, 0 to 1."""
        return min(1.0, self._view.tell() / max(1, self._view.size))

    @property
    def left_out(self) -> int:
        """Bytes behind the sound that are not decoded, because their format is another."""
        if self._layout is not None:
            return self._layout.left_out
        is_mp4 = self.info.container == "mp4"
        return joined_mp4(self._view, self._view.size) if is_mp4 else 0

    @property
    def exact_duration_s(self) -> float | None:
        """Length that the file certainly has, in seconds; None if it has to be measured."""
        exact = self._container.format.name in EXACT and not self.cut_off
        return self.info.duration_s if exact else None

    def blocks(self) -> Iterator[Block]:
        """Yield float32[samples, channels] at the rate of the file, from its beginning.

        Times are those of the container: its holes are silence. Parts that cannot be decoded are
        skipped and set `damaged`.
        """
        self._rewind()
        rate, channels = self.info.sample_rate, self.info.channels
        name = self._container.format.name
        clock = FrameClock(self._origin(), self._max_s)
        converter: RateConverter | None = None
        shape, decoded_s = None, 0.0
        for frame in self._frames():
            length_s = frame.samples / frame.sample_rate
            decoded_s += length_s
            block = to_float(frame.to_ndarray(), frame.format.name, len(frame.layout.channels))
            if (frame.sample_rate, block.shape[1]) != shape:
                # Chained files change their format in the middle.
                if converter is not None:
                    yield from (_fitted(rest, channels) for rest in converter.drain())
                shape = (frame.sample_rate, block.shape[1])
                converter = RateConverter(frame.sample_rate, rate, block.shape[1])
            assert converter is not None
            silence_s = clock.place(frame.time if name in TIMED else None, length_s)
            for silence in _silence(round(silence_s * frame.sample_rate), block.shape[1]):
                yield _fitted(converter.push(silence), channels)
            yield _fitted(converter.push(block), channels)
        if converter is not None:
            yield from (_fitted(rest, channels) for rest in converter.drain())
        self.timing = clock.timing
        if not decoded_s:
            if self.damaged or self.cut_off:
                raise undecodable.nothing_decoded()
            raise undecodable.header_alone(kind_of(self._head) or self.info.container)
        stated = flac_samples(self._head) if name == "flac" else 0
        self.damaged |= self.cut_off or decoded_s < stated / rate - SHORT_S

    def pcm(self, rate: int, channels: int) -> Iterator[Pcm]:
        """Yield int16[samples, channels] at `rate` Hz, at the level at which it is analysed.

        The level is measured in the first `LEVEL_FROM_S`; what exceeds full scale later is clipped.
        """
        levels = self._levels()
        gain = np.float32(levels.gain)
        converter = RateConverter(self.info.sample_rate, rate, channels)
        for block in self.blocks():
            if block.shape[1] > MAX_CHANNELS:
                block = mixed(block) * np.float32(levels.mix_gain)
            loud = _fitted(block, channels)
            yield to_pcm(converter.push(loud * gain if levels.gain != 1 else loud))
        yield from (to_pcm(rest) for rest in converter.drain())

    def _levels(self) -> Levels:
        meter = Survey(self.info.sample_rate, self.info.channels)
        sample_format = self._audio.codec_context.format.name
        if self.info.channels > MAX_CHANNELS or sample_format.startswith(("flt", "dbl")):
            for block in self.blocks():
                meter.add(block)
                if meter.seconds > LEVEL_FROM_S:
                    break
        return meter.levels()

    def _origin(self) -> float:
        start = self._container.start_time
        if self._container.format.name in FROM_ZERO or start is None:
            return 0.0
        return float(start / av.time_base)

    def _frames(self) -> Iterator[Any]:
        packets = self._container.demux(self._audio)
        failed = number = 0
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except (av.FFmpegError, OSError):
                self.damaged = True
                break
            number += 1
            try:
                yield from packet.decode()
            except av.error.EOFError:
                break
            except (av.FFmpegError, OSError):
                # The first packet of a capture refers to what came before it.
                failed += number > 1
        allowed = 2 if self._container.format.name in STREAMED else 0
        self.damaged |= failed > allowed

    def _ends_early(self) -> bool:
        if self._layout is not None:
            return self._layout.missing > 0
        return ends_early(self._view, self._view.size, self._container.format.name)

    def _open(self) -> Any:
        self._view.seek(0)
        options = {"protocol_whitelist": "none"}
        if self._far:
            options |= {"probesize": str(FAR_BYTES), "analyzeduration": str(FAR_US)}
        try:
            return av.open(self._view, options=options, metadata_errors="ignore")
        except (av.FFmpegError, OSError, ValueError) as error:
            raise undecodable.not_opened(self._view, self._head, error) from None

    def _rewind(self) -> None:
        self._container.close()
        self._container = self._open()
        self._audio = self._find_track()

    def _find_track(self) -> Any:
        """Return the stream of the track; search the whole file if its beginning has none."""
        streams = self._container.streams.audio
        unknown = [s for s in streams if s.codec_context and not s.codec_context.sample_rate]
        late = self._container.format.name in WITHOUT_INDEX and (not streams or unknown)
        if late and not self._far:
            self._far = True
            self._container.close()
            self._container = self._open()
            streams = self._container.streams.audio
        if not streams:
            raise undecodable.without_track(
                self._view,
                self._head,
                self._container.format.name,
                bool(self._container.streams.video),
            )
        if self._wanted > len(streams):
            raise undecodable.unknown_track(self._wanted, len(streams))
        number = self._wanted or default_track([marks(stream) for stream in streams]) + 1
        self._track = number
        return streams[number - 1]

    def _describe(self) -> AudioInfo:
        stream, name = self._audio, self._container.format.name
        context = stream.codec_context
        if context is None:
            raise undecodable.without_decoder()
        duration = None
        if stream.duration is not None and stream.time_base is not None:
            duration = float(stream.duration * stream.time_base)
        elif self._container.duration is not None:
            duration = self._container.duration / av.time_base
        if not context.sample_rate or not context.channels:
            raise undecodable.without_rate()
        return AudioInfo(
            container=CONTAINER_NAMES.get(name, name),
            codec=context.name.removesuffix("float"),
            sample_rate=context.sample_rate,
            channels=context.channels,
            duration_s=duration if duration is not None and duration > 0 else None,
            audio_streams=len(self._container.streams.audio),
            track=self._track,
        )


def analysed_channels(info: AudioInfo) -> int:
    """Return the number of channels to analyse; more than two are mixed into one."""
    return info.channels if info.channels <= MAX_CHANNELS else 1


def _view(file: BinaryIO, size: int) -> tuple[View, Layout | None]:
    """Return the sound in the file: without misleading tags, with a header that states its size."""
    start = start_of_sound(file)
    view = View(file, [(start, size)])
    found = layout(view, view.size)
    view.seek(0)
    if found is not None and found.header is not None:
        view = View(view, found.sound, found.header)
    return view, found


def _read(view: View, size: int) -> bytes:
    view.seek(0)
    return view.read(size)


def _silence(samples: int, channels: int) -> Iterator[Block]:
    """Yield silence in blocks of at most 16 384 samples."""
    for start in range(0, samples, 16_384):
        yield np.zeros((min(16_384, samples - start), channels), np.float32)


def _fitted(block: Block, channels: int) -> Block:
    """Return a block with `channels` channels: others are mixed, and one is repeated."""
    if block.shape[1] == channels:
        return block
    one = block if block.shape[1] == 1 else mixed(block)
    return np.repeat(one, channels, axis=1)
