"""The nouns of Emotide. Positions are int samples at 16 kHz since the stream began."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
"""Every position and every buffer inside a stream is at this rate, in samples per second."""

FRAME = 320
"""One VAD frame: 20 ms at 16 kHz. Windows begin and end on this grid."""

MIN_RATE, MAX_RATE, MAX_CHANNELS = 8_000, 48_000, 2
"""What a stream may bring: Hz, and channels that are scored one by one."""

Samples = NDArray[np.float32]
"""Mono audio in [-1, 1] at 16 kHz, shape [n]."""

Logits = NDArray[np.float32]
"""Frame logits, shape [frames, labels]."""

Features = NDArray[np.float32]
"""Frame embeddings, shape [frames, dim]; or their mean, shape [dim]."""

Span = tuple[int, int]
"""Half-open range of positions."""

Body = dict[str, Any]
"""A JSON object on its way out: the fields of an event or of an answer."""

Encoding = Literal["linear16", "f32le", "mulaw", "alaw"]
BYTES_PER_SAMPLE: Mapping[str, int] = {"linear16": 2, "f32le": 4, "mulaw": 1, "alaw": 1}

Trigger = Literal["interval", "speech_end", "flush", "split"]
"""What made a window due: a hop of new speech, or the way its utterance ended."""

GapReason = Literal["overload", "inference_failed", "inference_timeout"]

Sound = Literal["tone", "hiss", "music", "noise", "high_pitch"]
"""What a sound is that is no ordinary speech: beeps, DTMF, dialling tones; a noise that stays as
it is; notes; a sound without pitch; a pitch held higher than grown-ups speak."""


def to_ms(position: int) -> int:
    """Position in samples → whole milliseconds, for the wire."""
    return position * 1000 // SAMPLE_RATE


def from_ms(milliseconds: int) -> int:
    """Milliseconds → samples at 16 kHz (exact: 16 samples each)."""
    return milliseconds * (SAMPLE_RATE // 1000)


def timestamp(seconds: float) -> str:
    """Unix time → RFC 3339 in UTC with milliseconds."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """What a producer sends: `sample_rate` in Hz, channels interleaved sample by sample."""

    encoding: Encoding = "linear16"
    sample_rate: int = SAMPLE_RATE
    channels: int = 1

    @property
    def bytes_per_frame(self) -> int:
        """Bytes of one sample of every channel."""
        return BYTES_PER_SAMPLE[self.encoding] * self.channels

    @property
    def bytes_per_second(self) -> int:
        return self.bytes_per_frame * self.sample_rate


@dataclass(frozen=True, slots=True)
class Quality:
    """What an utterance sounded like. RMS level in dBFS over voiced frames, `clipped` a share of
    their samples, SNR in dB against the pauses; None where not yet known. `sound` says what it is
    if it does not sound like ordinary speech."""

    rms_dbfs: float
    clipped: float
    snr_db: float | None
    band: Literal["narrow", "wide"] | None
    speech_s: float
    sound: Sound | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """One piece of a channel's audio that is to be scored.

    Real audio begins at `heard`; before it, where the stream had not begun or had a hole, it is
    mirrored and never counted (`start` may be negative). `speech` lists the speech inside
    `[heard, end)` as it was known when the window was cut, `quality` what the utterance sounded
    like so far. `fresh` is where the speech begins that no window taken before covered.
    """

    channel: int
    start: int
    audio: Samples
    heard: int
    speech: tuple[Span, ...]
    fresh: int
    utterance: int
    trigger: Trigger
    quality: Quality

    @property
    def length(self) -> int:
        return len(self.audio)

    @property
    def end(self) -> int:
        return self.start + len(self.audio)


@dataclass(frozen=True, slots=True, eq=False)
class FrameScores:
    """What a backend said of one window: logits float32[frames, labels].

    `features` float32[frames, dim] is there if embeddings were asked for.
    """

    window: Window
    logits: Logits
    features: Features | None = None


@dataclass(frozen=True, slots=True)
class Utterance:
    """A run of speech of one channel, `[start, end)` in samples, numbered from 0."""

    index: int
    start: int
    end: int
    trigger: Trigger = "speech_end"


@dataclass(frozen=True, slots=True)
class SpeechStart:
    channel: int
    utterance: int
    at: int


@dataclass(frozen=True, slots=True)
class SpeechEnd:
    channel: int
    utterance: int
    start: int
    at: int
    trigger: Trigger


@dataclass(frozen=True, slots=True, eq=False)
class FramePosteriors:
    """Posteriors float32[frames, labels] of consecutive frames, `hop` samples apart.

    `features` float32[frames, dim] is there if embeddings were asked for as well.
    """

    start: int
    hop: int
    posteriors: NDArray[np.float32]
    features: Features | None = None


@dataclass(frozen=True, slots=True, eq=False)
class UtteranceFrames:
    """What of one utterance is scored: `starts` int[frames], posteriors float32[frames, labels]."""

    utterance: int
    starts: NDArray[np.intp]
    posteriors: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Rolling scores after one window: `scores` is the window's, `rolling` each horizon's."""

    channel: int
    utterance: int
    start: int
    end: int
    trigger: Trigger
    speech_ratio: float
    scores: Mapping[str, float]
    rolling: Mapping[str, Mapping[str, float]]
    quality: Quality
    hints: tuple[str, ...]
    frames: FramePosteriors | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """The final scores of one utterance over all its frames; no `scores` if none was scored.

    `covered` is the share of the utterance's frames that some window scored, `embedding`
    float32[dim] the mean of their features, if asked for.
    """

    channel: int
    utterance: int
    start: int
    end: int
    trigger: Trigger
    covered: float
    scores: Mapping[str, float]
    rolling: Mapping[str, Mapping[str, float]]
    quality: Quality
    hints: tuple[str, ...]
    embedding: Features | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Speech that no window will ever cover; `speech` of the samples in `[start, end)` are lost."""

    channel: int
    start: int
    end: int
    speech: int
    reason: GapReason


Event = SpeechStart | SpeechEnd | Score | Segment | Gap
"""Everything a pipeline tells besides windows."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a backend is and how it wants to be called.

    `frame_hop` is in samples (320 = 50 Hz); `lengths` are the window lengths in samples it was
    made for; `batch_sizes` ascend, and a batch is rounded up to one of them; `temperature` divides
    mean logits before softmax. `why` says why this model was chosen and is shown to users.
    `dim` is the size of a frame's embedding, 0 for a backend without.
    """

    id: str
    revision: str
    labels: tuple[str, ...]
    frame_hop: int
    lengths: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    temperature: float
    licence: str
    device: str
    why: str = ""
    missing_labels: tuple[str, ...] = field(default=())
    dim: int = 0
