"""Shared data types. Positions are int samples at 16 kHz since the stream began."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

# `as` exports a name from this module as well.
from stream.terms import BYTES_PER_SAMPLE as BYTES_PER_SAMPLE
from stream.terms import MAX_CHANNELS as MAX_CHANNELS
from stream.terms import MAX_RATE as MAX_RATE
from stream.terms import MIN_RATE as MIN_RATE
from stream.terms import SAMPLE_RATE as SAMPLE_RATE
from stream.terms import Band, End, Hint
from stream.terms import Encoding as Encoding
from stream.terms import GapReason as GapReason
from stream.terms import Sound as Sound
from stream.terms import Trigger as Trigger

FRAME = 320
"""Samples of one VAD frame: 20 ms at 16 kHz. Windows begin and end on this grid."""

Samples = NDArray[np.float32]
"""Mono audio in [-1, 1] at 16 kHz, shape [n]."""

Logits = NDArray[np.float32]
"""Frame logits, shape [frames, labels]."""

Features = NDArray[np.float32]
"""Frame embeddings, shape [frames, dim]; or their mean, shape [dim]."""

Span = tuple[int, int]
"""Half-open range of positions."""

Body = dict[str, Any]
"""Outgoing JSON object: the fields of an event or of a response."""


def to_ms(position: int) -> int:
    """Convert a position in samples to whole milliseconds, for the wire."""
    return position * 1000 // SAMPLE_RATE


def from_ms(milliseconds: int) -> int:
    """Convert milliseconds to samples at 16 kHz (exact: 16 samples per millisecond)."""
    return milliseconds * (SAMPLE_RATE // 1000)


def timestamp(seconds: float) -> str:
    """Format Unix time as RFC 3339 in UTC with milliseconds."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def unix_time(text: str) -> float:
    """Return the Unix time of an RFC 3339 time in seconds."""
    return datetime.fromisoformat(text).timestamp()


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """Format of a producer's audio: `sample_rate` in Hz, channels interleaved sample by sample."""

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
    """Audio quality of an utterance so far; None where not yet known.

    `rms_dbfs` is the level over voiced frames, `clipped` the share of clipped samples in them,
    `snr_db` the SNR against the pauses, `speech_s` the voiced time in seconds. `sound` classifies
    an utterance that does not sound like ordinary speech.
    """

    rms_dbfs: float
    clipped: float
    snr_db: float | None
    band: Band | None
    speech_s: float
    sound: Sound | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """One piece of a channel's audio to be scored.

    Real audio begins at `heard`. Before it (the stream had not begun or had a hole) the audio is
    mirrored and never counted; `start` may be negative. `speech` lists the speech inside
    `[heard, end)` known when the window was cut, `quality` is that of the utterance so far.
    `fresh` is the beginning of the speech that no window taken before covers.
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
    """Output of a backend for one window: logits float32[frames, labels].

    `features` float32[frames, dim] is set if embeddings were requested.
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
    trigger: End = "speech_end"


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
    trigger: End


@dataclass(frozen=True, slots=True, eq=False)
class FramePosteriors:
    """Posteriors float32[frames, labels] of consecutive frames, `hop` samples apart.

    `features` float32[frames, dim] is set if embeddings were requested as well.
    """

    start: int
    hop: int
    posteriors: NDArray[np.float32]
    features: Features | None = None


@dataclass(frozen=True, slots=True, eq=False)
class UtteranceFrames:
    """Scored frames of one utterance: `starts` int[frames], posteriors float32[frames, labels]."""

    utterance: int
    starts: NDArray[np.intp]
    posteriors: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class BaselineUse:
    """Baseline that moved a score: seconds of speech it rests on, and its weight.

    `logits` float32[labels] and `scores` are those of the model, unmoved. `activation` is the
    median activation of the voice's earlier utterances, None while there are too few.
    """

    speech_s: float
    weight: float
    logits: NDArray[np.float32]
    scores: Mapping[str, float]
    activation: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Scores after one window: `scores` of the window, `rolling` of each horizon.

    `baseline` is set if the scores are moved by the baseline of the voice.
    """

    channel: int
    utterance: int
    start: int
    end: int
    trigger: Trigger
    speech_ratio: float
    scores: Mapping[str, float]
    rolling: Mapping[str, Mapping[str, float]]
    quality: Quality
    hints: tuple[Hint, ...]
    frames: FramePosteriors | None = None
    baseline: BaselineUse | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Final scores of one utterance over all its frames; `scores` is empty if none was scored.

    `covered` is the share of the utterance's frames that some window scored, `embedding`
    float32[dim] the mean of their features, if requested. `baseline` is as in `Score`. `audio`
    int16[n] is that of the utterance, if it is kept for feedback.
    """

    channel: int
    utterance: int
    start: int
    end: int
    trigger: End
    covered: float
    scores: Mapping[str, float]
    rolling: Mapping[str, Mapping[str, float]]
    quality: Quality
    hints: tuple[Hint, ...]
    embedding: Features | None = None
    baseline: BaselineUse | None = None
    audio: NDArray[np.int16] | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Speech that no window will cover: `speech` samples of `[start, end)` are lost."""

    channel: int
    start: int
    end: int
    speech: int
    reason: GapReason


Event = SpeechStart | SpeechEnd | Score | Segment | Gap
"""Any event of a pipeline; windows are the other kind of item that it yields."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Identity of a model, and the input and output shapes of its backend.

    `frame_hop` is in samples (320 = 50 Hz). `lengths` are the supported window lengths in samples.
    `batch_sizes` ascend; a batch is rounded up to one of them. `temperature` divides mean logits
    before softmax. `why` is the reason that this model was chosen; it is shown to users. `dim` is
    the size of a frame's embedding, 0 for a backend without embeddings. `default_lengths` are the
    window lengths to use unless the configuration names others; empty: `lengths`. `reference` are
    the mean logits of an average voice, for `analysis.baseline`; empty if unknown. `base` are the
    id and revision of the model whose features this one uses, None if they are its own.
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
    default_lengths: tuple[int, ...] = ()
    reference: tuple[float, ...] = ()
    base: tuple[str, str] | None = None

    @property
    def preferred_lengths(self) -> tuple[int, ...]:
        """Window lengths in samples to use unless the configuration names others."""
        return tuple(sorted(self.default_lengths or self.lengths))

    @property
    def features(self) -> tuple[str, str]:
        """Id and revision of the model whose features these are: its own, or those of its base."""
        return self.base or (self.id, self.revision)
