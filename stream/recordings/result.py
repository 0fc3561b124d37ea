"""What a recording came to: `emotide.result.v1`. Pure; docs/results.md describes it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from stream.analysis.quality import LOW_CONFIDENCE
from stream.audio.decode import About
from stream.labels import activation, top
from stream.protocol.events import model_body
from stream.protocol.messages import FileOptions
from stream.types import SAMPLE_RATE, Body, Event, Features, Gap, ModelInfo, Segment, timestamp

SCHEMA = "emotide.result.v1"
NOTICE = "Scores are indicators of how a voice sounds, not verdicts about a person."

SHORT_S = 1.0
"""Less speech than this is too short for a verdict."""

LONG_S = 120.0
"""Moods change: one verdict for more speech than this says little."""

RECORDING_HINTS = ("low_level", "clipped", "noisy", "narrowband", "music", "tone", "high_pitch")
"""Hints of utterances that are the recording's, if they hold for most of its speech."""

MEASURED = {"emotide-embedded": ("de", "en", "pl"), "emotion2vec": ("zh", "en", "de")}
"""Languages that a model was measured on, by how its id begins."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """The file as it came. `sha256` is of its bytes, in hexadecimal digits."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ChannelResult:
    """One analysed channel; `scores` is over all of its speech."""

    channel: int
    role: str
    speech: int
    scores: Mapping[str, float]


@dataclass(slots=True)
class Findings:
    """Utterances and gaps of one recording as they are found, by channel."""

    segments: dict[int, list[Segment]] = field(default_factory=lambda: defaultdict(list))
    gaps: dict[int, list[Gap]] = field(default_factory=lambda: defaultdict(list))

    def take(self, event: Event) -> None:
        if isinstance(event, Segment):
            self.segments[event.channel].append(event)
        elif isinstance(event, Gap):
            self.gaps[event.channel].append(event)

    def embeddings(self) -> list[Features]:
        """One float32[dim] for every utterance that has one, in the order of result.json."""
        return [
            segment.embedding
            for channel in sorted(self.segments)
            for segment in self.segments[channel]
            if segment.embedding is not None
        ]


def measured_languages(model: ModelInfo) -> tuple[str, ...]:
    """Languages the model was measured on; none where that is not known."""
    return next((known for name, known in MEASURED.items() if model.id.startswith(name)), ())


def recording_hints(
    channels: Sequence[ChannelResult],
    findings: Findings,
    *,
    truncated: bool,
    language: str,
    model: ModelInfo,
) -> list[str]:
    """Reasons to doubt the verdict over the whole recording."""
    spoken = sum(channel.speech for channel in channels) / SAMPLE_RATE
    segments = [segment for found in findings.segments.values() for segment in found]
    heard = sum(s.end - s.start for s in segments)
    best = [max(channel.scores.values()) for channel in channels if channel.scores]
    known = measured_languages(model)

    def mostly(hint: str) -> bool:
        return 2 * sum(s.end - s.start for s in segments if hint in s.hints) > heard

    doubts = {
        "no_speech": not spoken,
        "too_short": 0 < spoken < SHORT_S,
        "too_long_for_one_verdict": max((c.speech for c in channels), default=0)
        > LONG_S * SAMPLE_RATE,
        **{hint: mostly(hint) for hint in RECORDING_HINTS},
        "low_confidence": bool(best) and min(best) < LOW_CONFIDENCE,
        "truncated": truncated,
        "language": bool(language and known and language.lower().partition("-")[0] not in known),
    }
    return [name for name, doubtful in doubts.items() if doubtful]


def document(
    file: FileInfo,
    about: About,
    duration_s: float,
    created: float,
    options: FileOptions,
    model: ModelInfo,
    channels: Sequence[ChannelResult],
    findings: Findings,
    truncated: bool,
    timings: Mapping[str, float],
) -> Body:
    """result.json without its `frames`."""
    return {
        "schema": SCHEMA,
        "file": {
            "name": file.name,
            "bytes": file.size,
            "sha256": file.sha256,
            "container": about.container,
            "codec": about.codec,
            "sample_rate": about.sample_rate,
            "channels": about.channels,
            "duration_s": round(duration_s, 3),
        },
        "created": timestamp(created),
        "options": {**options.model_dump(mode="json", exclude={"disclosed"})},
        "model": {
            key: value
            for key, value in model_body(model).items()
            if key in ("id", "revision", "labels", "missing_labels", "licence", "embedding_dim")
        },
        "hints": recording_hints(
            channels, findings, truncated=truncated, language=options.language, model=model
        ),
        "channels": [_channel(channel, findings) for channel in channels],
        "timings": {name: round(value, 2) for name, value in timings.items()},
        "notice": NOTICE,
    }


def _channel(channel: ChannelResult, findings: Findings) -> Body:
    return {
        "channel": channel.channel,
        "role": channel.role,
        "speech_s": seconds(channel.speech),
        "scores": dict(channel.scores),
        "top": top(channel.scores),
        "activation": activation(channel.scores),
        "utterances": [_utterance(s) for s in findings.segments.get(channel.channel, ())],
        "gaps": [
            {
                "start_s": seconds(gap.start),
                "end_s": seconds(gap.end),
                "missing_s": seconds(gap.speech),
                "reason": gap.reason,
            }
            for gap in findings.gaps.get(channel.channel, ())
        ],
    }


def _utterance(segment: Segment) -> Body:
    return {
        "utterance": segment.utterance,
        "start_s": seconds(max(0, segment.start)),
        "end_s": seconds(segment.end),
        "scores": dict(segment.scores),
        "top": top(segment.scores),
        "activation": activation(segment.scores),
        "quality": asdict(segment.quality),
        "hints": list(segment.hints),
        "covered": segment.covered,
    }


def seconds(position: int) -> float:
    """Samples at 16 kHz → seconds, to the millisecond."""
    return round(position / SAMPLE_RATE, 3)


def csv_head(labels: Iterable[str]) -> str:
    """The first line of frames.csv."""
    return ",".join(("channel", "start_s", *labels)) + "\n"
