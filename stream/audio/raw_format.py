"""Recognition of audio that is not in the format that its producer declared. Pure.

The first bytes name a container. Later, a wrong encoding is recognised by smoothness: neighbouring
samples of speech are alike, and those of bytes read in a wrong way are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from stream.audio.codecs import CODECS
from stream.audio.first_bytes import MIN_HEAD, WavHeader, container_of, wav_header
from stream.types import AudioFormat, Samples

HEAD = 4096
"""Bytes in which a container, or the end of a WAV header, is looked for."""

BLOCK = 6144
"""Bytes inspected of every second of audio: a whole number of samples in every format."""

BLOCKS, ENOUGH, VOTES = 60, 6, 3
"""Blocks inspected at most, blocks that fit after which no more are, and those that have to agree
on another format."""

RARELY = 4
"""Seconds from one block to the next after `VOTES` blocks that fit."""

SMOOTH, ROUGH = 0.6, 0.35
"""Correlation of neighbouring samples: at least that of voiced speech, at most that of noise."""

FAR = 0.75
"""Share of the distance from a correlation of 1 that makes one format far smoother than another."""

UNEQUAL = 1.25
"""Ratio of the powers of two channels; those of a voice's even and odd samples are equal."""

FAINT = 0.002
"""Standard deviation of a block that is not judged."""

SPECTRUM = 512
"""Samples of one spectrum of a block."""

RANGES = ((127.0, 8), (32_767.0, 16), (8_388_607.0, 24), (2_147_483_647.0, 32))
"""Full scale of integers, and their bits."""


class WrongFormat(ValueError):
    """Error for audio that begins as a file of another format; its text has the remedy."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A suspicion about the audio, as a warning to its producer."""

    code: Literal["format_mismatch", "float_range", "wav_header"]
    message: str


class FormatCheck:
    """Check of one stream's audio: its first bytes, and a block of every second.

    Once it has `begun`, `begin` wants no more first bytes; once it is `done`, `inspect` wants no
    more blocks: it saw `BLOCKS` of them, or the result is clear.
    """

    def __init__(self, audio: AudioFormat) -> None:
        self._audio = audio
        self._head: bytearray | None = bytearray()
        self._passed = 0
        """Bytes of the head that were returned as audio."""
        self._period = max(BLOCK, audio.bytes_per_second // 24 * 24)
        self._at = 0
        self._block = bytearray()
        self._blocks = 0
        self._votes: Counter[str] = Counter()
        self._bandwidths: list[float] = []
        self.done = False

    @property
    def begun(self) -> bool:
        return self._head is None

    @property
    def bandwidth(self) -> float | None:
        """Median frequency, in Hz at the declared rate, below which voiced speech has 99 % of its
        power; None if none was heard."""
        return float(np.median(self._bandwidths)) if self._bandwidths else None

    def begin(self, data: bytes) -> tuple[bytes, Finding | None]:
        """Return the bytes of a chunk that are audio, and what was found in the first bytes.

        The header of a WAV of the declared format is left out. Raises `WrongFormat` if the stream
        begins as any other file.
        """
        if self._head is None:
            return data, None
        self._head += data
        head = bytes(self._head)
        kind = container_of(head, self._audio.encoding)
        if kind == "WAV":
            header = wav_header(head)
            if header is None and len(head) < HEAD:
                return b"", None
            self._head = None
            return self._without_header(head, header)
        if kind is not None:
            raise WrongFormat(
                f"the audio begins as a file: {kind}; send samples without a container "
                f"({self._declared}), or send the whole file to /v1/files"
            )
        if b"RIFF".startswith(head[:4]) and len(head) < MIN_HEAD:
            return b"", None
        data, self._passed = head[self._passed :], len(head)
        if len(head) >= HEAD:
            self._head = None
        return data, None

    def _without_header(self, head: bytes, header: WavHeader | None) -> tuple[bytes, Finding]:
        """Return what follows a WAV header. Raises `WrongFormat` unless its format is declared."""
        if header is None or header.encoding is None:
            found = "of a format that is not supported here" if header else "with a long header"
            raise WrongFormat(
                f"the audio is a WAV file {found}; send its samples as {self._declared}, or send "
                "the whole file to /v1/files"
            )
        audio = AudioFormat(header.encoding, header.sample_rate, header.channels)
        if audio != self._audio:
            raise WrongFormat(
                f"the audio is a WAV file ({_named(audio)}), but the session declares "
                f"{self._declared}; declare what the file has, and leave out its header of "
                f"{header.length} bytes"
            )
        text = f"the audio began with a WAV header of {header.length} bytes, which was left out"
        return head[header.length :], Finding("wav_header", text + "; send samples only")

    @property
    def _declared(self) -> str:
        return _named(self._audio)

    # -- samples -----------------------------------------------------------------------------

    def inspect(self, data: bytes) -> Finding | None:
        """Gather the first `BLOCK` bytes of every second of audio, and judge each block."""
        after = self._at + len(data)
        if self._at >= BLOCK and after < self._period:
            self._at = after
            return None
        finding = None
        while data and not self.done:
            if self._at < BLOCK:
                self._block += data[: BLOCK - self._at]
            step = min(len(data), (BLOCK if self._at < BLOCK else self._period) - self._at)
            data, self._at = data[step:], self._at + step
            if len(self._block) == BLOCK:
                finding = self._judge(bytes(self._block)) or finding
                self._block.clear()
            if self._at >= self._period:
                self._at = 0
        return finding

    def _judge(self, block: bytes) -> Finding | None:
        self._blocks += 1
        self.done = self._blocks >= BLOCKS
        verdict = self._verdict(block)
        if verdict is None:
            return None
        self._votes[verdict] += 1
        if self._votes[FITS] == VOTES and verdict == FITS:
            self._period *= RARELY
        self.done |= self._votes[FITS] >= ENOUGH
        if verdict == FITS or self._votes[verdict] < VOTES + self._votes[FITS] // 2:
            return None
        self.done = True
        if verdict in SUSPECTS:
            name, remedy = SUSPECTS[verdict]
            text = f"the audio looks like {name}, but the session declares {self._declared}"
            return Finding("format_mismatch", f"{text}; {remedy}")
        return Finding(
            "float_range",
            f"the samples of f32le audio reach beyond -1 to 1: they are in the range of {verdict}-"
            f"bit integers; divide them by {2 ** (int(verdict) - 1)}",
        )

    def _verdict(self, block: bytes) -> str | None:
        """Return `FITS`, a key of `SUSPECTS`, the bits of a range, or None for an unclear block."""
        declared = _samples(self._audio.encoding, block)
        if declared is not None and self._audio.encoding == "f32le":
            bits = _bits(declared)
            if bits is not None:
                return str(bits) if _likeness(declared / 2 ** (bits - 1)) > ROUGH else None
        own = ROUGH
        if declared is not None:
            if float(declared.std()) < FAINT:
                return None
            own = _likeness(declared)
        other = _best_candidate(self._audio.encoding, block, own)
        if other is not None or declared is None or own < SMOOTH:
            return other
        layout = _layout(declared, self._audio.channels)
        if layout is None:
            voice = declared[:: self._audio.channels]
            self._bandwidths.append(_bandwidth(voice, self._audio.sample_rate))
        return layout or FITS


FITS = "fits"
STEREO, MONO = "stereo", "mono"

SUSPECTS: Mapping[str, tuple[str, str]] = {
    "f32le": ("32-bit float samples", "set encoding=f32le"),
    "linear16": ("16-bit samples", "set encoding=linear16"),
    "mulaw": ("G.711 mu-law", "set encoding=mulaw"),
    "alaw": ("G.711 A-law", "set encoding=alaw"),
    "s24": ("24-bit samples", "convert them to 16 bit, or to f32le"),
    "s32": ("32-bit integer samples", "convert them to 16 bit, or to f32le"),
    "s16be": ("big-endian 16-bit samples", "swap their bytes: linear16 is little-endian"),
    STEREO: ("two channels", "set channels=2, or send one channel"),
    MONO: ("one channel", "set channels=1"),
}
"""Name and remedy of each format that audio is mistaken for."""

CANDIDATES = ("f32le", "linear16", "mulaw", "alaw", "s24", "s32", "s16be")


def _named(audio: AudioFormat) -> str:
    channels = "1 channel" if audio.channels == 1 else f"{audio.channels} channels"
    return f"{audio.encoding}, {audio.sample_rate} Hz, {channels}"


def _s24(block: bytes) -> Samples:
    parts = np.frombuffer(block, np.uint8).reshape(-1, 3).astype(np.int32)
    value = parts[:, 0] | parts[:, 1] << 8 | parts[:, 2] << 16
    return ((value ^ 0x800000) - 0x800000).astype(np.float32) / np.float32(8_388_608)


_OTHERS: Mapping[str, Callable[[bytes], Samples]] = {
    "s24": _s24,
    "s32": lambda block: np.frombuffer(block, "<i4").astype(np.float32) / np.float32(2**31),
    "s16be": lambda block: np.frombuffer(block, ">i2").astype(np.float32) / np.float32(32_768),
}


def _samples(name: str, block: bytes) -> Samples | None:
    """Return a block read as a format, or None if that gives no plausible numbers."""
    samples = (_OTHERS.get(name) or CODECS[name])(block)
    if name != "f32le":
        return samples
    with np.errstate(invalid="ignore", over="ignore"):
        magnitude = np.abs(samples)
    ordinary = (magnitude == 0) | ((magnitude > 1e-9) & (magnitude < 1e10))
    if float(ordinary.mean()) < 0.95:
        return None
    return samples if ordinary.all() else np.where(ordinary, samples, np.float32(0))


def _likeness(samples: Samples) -> float:
    """Return the correlation of samples with those one or two later, whichever is higher.

    Two later is the neighbour in the same channel, if there are two.
    """
    samples = samples - samples.mean()
    power = float(np.dot(samples, samples))
    if power <= 0:
        return -1.0
    return max(float(np.dot(samples[step:], samples[:-step])) / power for step in (1, 2))


def _best_candidate(declared: str, block: bytes, own: float) -> str | None:
    """Return the format in which a block is far smoother than `own`, None if there is none."""
    best, level, found = max(SMOOTH, 1 - (1 - own) * FAR), 0.0, None
    for name in CANDIDATES:
        samples = None if name == declared else _samples(name, block)
        if samples is None or (name == "s32" and not _is_wide(block)):
            continue
        likeness = _likeness(samples)
        if likeness > best:
            best, level, found = likeness, float(samples.std()), name
            if name == "f32le":
                break  # bytes of other formats are hardly ever floats of a plausible size
    return found if level > FAINT else None


def _is_wide(block: bytes) -> bool:
    """Return whether the lower halves of 32-bit integers are noise, and not another channel."""
    low = np.frombuffer(block, "<i2")[::2].astype(np.float32)
    return _likeness(low) < ROUGH


def _layout(samples: Samples, channels: int) -> str | None:
    """Return `STEREO` or `MONO` if the samples have another number of channels than declared."""
    step = np.diff(samples)
    within, across = _power(step[::2]), _power(step[1::2])
    same = _power(samples[2:] - samples[:-2])
    if channels == 2:
        # Samples of one channel are as far from the one before as from the one after.
        near, far = sorted((within, across))
        return MONO if near > far / 2 and far < 0.7 * same else None
    if min(within, across) < max(within, across) / 2:
        return STEREO  # every sample comes twice
    powers = [_power(samples[side::2]) for side in (0, 1)]
    if min(powers) < max(powers) / UNEQUAL:
        return STEREO  # one side is louder
    return STEREO if same < (within + across) / 4 else None


def _power(samples: Samples) -> float:
    """Return the mean square of samples."""
    return float(np.dot(samples, samples)) / len(samples)


def _bits(samples: Samples) -> int | None:
    """Return the bits of the integers that float samples were, None for the range -1 to 1."""
    peak = float(np.percentile(np.abs(samples), 99))
    if peak < 4:
        return None
    return next((bits for scale, bits in RANGES if peak <= scale * 1.01), None)


@cache
def _window(samples: int) -> Samples:
    """Return a Hann window; blocks have one length per format."""
    return np.hanning(samples).astype(np.float32)


def _bandwidth(samples: Samples, rate: int) -> float:
    """Return the frequency in Hz below which the samples have 99 % of their power."""
    size = min(SPECTRUM, len(samples))
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    spectra = np.fft.rfft(frames * _window(size), axis=1)
    total = np.cumsum((spectra.real**2 + spectra.imag**2).sum(axis=0))
    return float(np.searchsorted(total, 0.99 * total[-1]) * rate / size)
