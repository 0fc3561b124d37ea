"""Result of a recording, `emotide.result.v1`; described in docs/results.md. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, get_args

from stream.analysis.quality import LOW_CONFIDENCE
from stream.audio.files.decode import AudioInfo
from stream.labels import activation, top
from stream.protocol.events import baseline_body, quality_body
from stream.protocol.file_options import FileOptions
from stream.protocol.wire import result as wire
from stream.protocol.wire.parts import WithBaseline
from stream.protocol.wire.trials import RuleTrial
from stream.terms import AudioHint
from stream.types import (
    SAMPLE_RATE,
    BaselineUse,
    Event,
    Features,
    Gap,
    ModelInfo,
    Segment,
    timestamp,
)

SCHEMA: Final = "emotide.result.v1"
NOTICE = "Scores are indicators of how a voice sounds, not verdicts about a person."

SHORT_S = 1.0
"""Speech below which a result is marked `too_short`."""

LONG_S = 120.0
"""Speech above which one verdict means little, because emotions change."""

RECORDING_HINTS: tuple[AudioHint, ...] = get_args(AudioHint)
"""Hints of utterances that apply to the recording if they hold for most of its speech."""

FILE_HINTS: Final[tuple[wire.ResultHint, ...]] = (
    "truncated",
    "left_out",
    "time_jump",
    "silent_channel",
)
"""Hints that lie in the file."""

MEASURED = {"emotide-embedded": ("de", "en", "pl"), "emotion2vec": ("zh", "en", "de")}
"""Languages that a model was evaluated on, by the prefix of its id."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """The uploaded file. `size` is in bytes, `sha256` hexadecimal."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ChannelResult:
    """One analysed channel. `speech` is in samples at 16 kHz; `scores` cover all of it."""

    channel: int
    role: str
    speech: int
    scores: Mapping[str, float]
    reconsider: Callable[[BaselineUse], tuple[Mapping[str, float], BaselineUse]] | None = None
    """Returns scores moved by the baseline of the whole recording, if there is one."""


class ResultBuilder:
    """Collects the utterances and gaps of one recording and builds its result."""

    def __init__(self, options: FileOptions, model: ModelInfo) -> None:
        self._options = options
        self._model = model
        self._segments: dict[int, list[Segment]] = defaultdict(list)
        self._gaps: dict[int, list[Gap]] = defaultdict(list)

    def add(self, event: Event) -> None:
        """Collect a segment or gap; ignore other events."""
        if isinstance(event, Segment):
            self._segments[event.channel].append(event)
        elif isinstance(event, Gap):
            self._gaps[event.channel].append(event)

    def segments(self) -> list[Segment]:
        """Return all utterances, channel by channel."""
        return [
            segment for channel in sorted(self._segments) for segment in self._segments[channel]
        ]

    def embeddings(self) -> list[Features]:
        """Return one float32[dim] per utterance that has one, in the order of result.json."""
        return [segment.embedding for segment in self.segments() if segment.embedding is not None]

    def hints(
        self, channels: Sequence[ChannelResult], faults: Collection[wire.ResultHint] = ()
    ) -> list[wire.ResultHint]:
        """Return the reasons to doubt the verdict over the whole recording.

        `faults` are those that lie in the file.
        """
        speech_s = sum(channel.speech for channel in channels) / SAMPLE_RATE
        segments = [segment for group in self._segments.values() for segment in group]
        # Tones have no scores. They say nothing about the verdict over what was said.
        segments = [segment for segment in segments if segment.scores] or segments
        total = sum(s.end - s.start for s in segments)
        best = [max(channel.scores.values()) for channel in channels if channel.scores]
        language = self._options.language.lower().partition("-")[0]
        known = measured_languages(self._model)

        def mostly(hint: AudioHint) -> bool:
            return 2 * sum(s.end - s.start for s in segments if hint in s.hints) > total

        doubts: dict[wire.ResultHint, bool] = {
            "no_speech": not speech_s,
            "too_short": 0 < speech_s < SHORT_S,
            "too_long_for_one_verdict": max((c.speech for c in channels), default=0)
            > LONG_S * SAMPLE_RATE,
            **{hint: hint in faults or mostly(hint) for hint in RECORDING_HINTS},
            "low_confidence": bool(best) and min(best) < LOW_CONFIDENCE,
            **{hint: hint in faults for hint in FILE_HINTS},
            "language": bool(self._options.language and known and language not in known),
        }
        return [name for name, doubtful in doubts.items() if doubtful]

    def build(
        self,
        file: FileInfo,
        info: AudioInfo,
        channels: Sequence[ChannelResult],
        *,
        duration_s: float,
        created: float,
        faults: Collection[wire.ResultHint],
        gain_db: float,
        timings: wire.ResultTimings,
        trials: list[RuleTrial] | None = None,
    ) -> wire.Result:
        """Return result.json without its `frames`. `created` is Unix time in seconds."""
        result: wire.Result = {
            "schema": SCHEMA,
            "file": {
                "name": file.name,
                "bytes": file.size,
                "sha256": file.sha256,
                "container": info.container,
                "codec": info.codec,
                "sample_rate": info.sample_rate,
                "channels": info.channels,
                "track": info.track,
                "tracks": info.audio_streams,
                "gain_db": gain_db,
                "duration_s": round(duration_s, 3),
            },
            "created": timestamp(created),
            "options": {
                "granularity": self._options.granularity,
                "embedding": self._options.embedding,
                "denoise": self._options.denoise,
                "baseline": any(channel.reconsider is not None for channel in channels),
                "language": self._options.language,
                "roles": list(self._options.roles),
                "track": self._options.track,
            },
            "model": {
                "id": self._model.id,
                "revision": self._model.revision,
                "labels": list(self._model.labels),
                "missing_labels": list(self._model.missing_labels),
                "licence": self._model.licence,
                "embedding_dim": self._model.dim,
                "why": self._model.why,
            },
            "hints": self.hints(channels, faults),
            "channels": [self._channel(channel) for channel in channels],
            "timings": {
                "decode_s": round(timings["decode_s"], 2),
                "analysis_s": round(timings["analysis_s"], 2),
                "total_s": round(timings["total_s"], 2),
                "speed": round(timings["speed"], 2),
            },
            "notice": NOTICE,
        }
        if trials is not None:
            result["alerts"] = trials
        return result

    def _channel(self, channel: ChannelResult) -> wire.ResultChannel:
        return {
            "channel": channel.channel,
            "role": channel.role,
            "speech_s": seconds(channel.speech),
            "scores": dict(channel.scores),
            "top": top(channel.scores),
            "activation": activation(channel.scores),
            "utterances": [
                _utterance(segment, channel) for segment in self._segments.get(channel.channel, ())
            ],
            "gaps": [
                {
                    "start_s": seconds(gap.start),
                    "end_s": seconds(gap.end),
                    "missing_s": seconds(gap.speech),
                    "reason": gap.reason,
                }
                for gap in self._gaps.get(channel.channel, ())
            ],
        }


def measured_languages(model: ModelInfo) -> tuple[str, ...]:
    """Return the languages that the model was evaluated on; empty if unknown."""
    return next((codes for prefix, codes in MEASURED.items() if model.id.startswith(prefix)), ())


def _utterance(segment: Segment, channel: ChannelResult) -> wire.ResultUtterance:
    use, scores = segment.baseline, segment.scores
    baseline: WithBaseline = {}
    if use is not None and channel.reconsider is not None:
        scores, use = channel.reconsider(use)
        baseline = {"baseline": baseline_body(use, use.scores)}
    return {
        "utterance": segment.utterance,
        "start_s": seconds(max(0, segment.start)),
        "end_s": seconds(segment.end),
        "scores": dict(scores),
        "top": top(scores),
        "activation": activation(scores),
        "quality": quality_body(segment.quality),
        "hints": list(segment.hints),
        "covered": segment.covered,
        **baseline,
    }


def seconds(position: int) -> float:
    """Convert samples at 16 kHz to seconds, rounded to milliseconds."""
    return round(position / SAMPLE_RATE, 3)


def csv_head(labels: Iterable[str]) -> str:
    """Return the header line of frames.csv."""
    return ",".join(("channel", "start_s", *labels)) + "\n"
