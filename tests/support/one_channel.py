"""A channel under a backend that a test drives by hand, and the check that no speech is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stream.analysis.channel import ChannelPipeline
from stream.analysis.timeline import RollingSettings
from stream.analysis.vad import VadSettings
from stream.analysis.windows import WindowSettings
from stream.types import (
    FRAME,
    SAMPLE_RATE,
    Event,
    Gap,
    GapReason,
    Logits,
    Score,
    Segment,
    SpeechEnd,
    SpeechStart,
    Window,
)
from tests.support.signals import (
    ToneBackend,
    frames_of,
    loudness,
    model,
)

E = TypeVar("E", bound=Event)

S = SAMPLE_RATE
SHORT = WindowSettings((S // 2, S, 3 * S // 2), hop=S // 4)
"""Small windows, so that Hypothesis finds overload within seconds of audio."""
VAD = VadSettings("loud", hangover=10, pre_roll=5, max_utterance=200, only_speech=False)

STANDARD = WindowSettings()
CALM = VadSettings("loud", only_speech=False)


def channel(
    vad: VadSettings = VAD,
    windows: WindowSettings = SHORT,
    frames: bool = False,
    embeddings: bool = False,
) -> ChannelPipeline:
    info = model(lengths=windows.lengths)
    return ChannelPipeline(0, S, info, vad, windows, RollingSettings((2, 5)), frames, embeddings)


@dataclass
class Slot:
    """Slot of one channel in a scheduler without threads: at most one window waits and one is in
    flight; a newer window replaces the waiting one. Records the outcome of every window."""

    pipeline: ChannelPipeline
    waiting: Window | None = None
    in_flight: Window | None = None
    events: list[Event] = field(default_factory=list)
    cut: list[Window] = field(default_factory=list)
    taken: list[Window] = field(default_factory=list)
    scored: list[tuple[Window, Logits]] = field(default_factory=list)
    holes: list[int] = field(default_factory=lambda: [0])
    real_from: dict[int, int] = field(default_factory=dict)
    scored_before: list[tuple[Gap, list[Window]]] = field(default_factory=list)
    backend: ToneBackend = field(default_factory=ToneBackend)

    def run(self, items: Iterator[Window | Event], prompt: bool = False) -> None:
        for item in items:
            if isinstance(item, Window):
                self._offer(item)
                if prompt:
                    self.settle()
                    self.take()
                    self.settle()
            else:
                self.record([item])

    def _offer(self, window: Window) -> None:
        self.cut.append(window)
        self.real_from[id(window)] = self.holes[-1]
        old, self.waiting = self.waiting, window
        if old is not None:
            self.record(self.pipeline.superseded(old, window))

    def take(self) -> None:
        if self.waiting is not None and self.in_flight is None:
            self.in_flight, self.waiting = self.waiting, None
            self.taken.append(self.in_flight)
            self.pipeline.taken(self.in_flight)

    def settle(self, fault: GapReason | None = None) -> None:
        window, self.in_flight = self.in_flight, None
        if window is None:
            return
        if fault is not None:
            self.record(self.pipeline.failed(window, fault))
            return
        logits = self.backend.score(window)
        self.scored.append((window, logits.logits))
        self.record(self.pipeline.scored(logits))

    def finish(self) -> None:
        self.run(self.pipeline.flush())
        while self.waiting or self.in_flight:
            self.take()
            self.settle()

    def record(self, events: Sequence[Event]) -> None:
        self.events += events
        for event in events:
            if isinstance(event, Gap):
                self.scored_before.append((event, [w for w, _ in self.scored]))

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def covered(self, windows: Sequence[Window], count: int) -> NDArray[np.bool_]:
        """Return the frames that these windows cover with real audio; mirrored audio does not."""
        spans = [(max(w.start, self.real_from[id(w)]), w.end) for w in windows]
        return frames_of(spans, count)


def check_accounting(slot: Slot) -> None:
    """Check that every frame of speech is either scored or reported lost, and not twice."""
    count = slot.pipeline.position // FRAME + 1
    utterances = [(e.start, e.at) for e in slot.of(SpeechEnd)]
    speech = frames_of(utterances, count)
    assert speech.sum() * FRAME == sum(b - a for a, b in utterances), "utterances overlap"

    reported = np.zeros(count, int)
    for gap in slot.of(Gap):
        lost = frames_of([(gap.start, gap.end)], count) & speech
        assert lost.sum() * FRAME == gap.speech, "a gap miscounts its speech"
        assert lost[gap.start // FRAME]
        assert lost[gap.end // FRAME - 1]
        reported += lost
    assert reported.max() <= 1, "speech was reported lost twice"
    lost = reported.astype(bool)
    assert lost.sum() * FRAME == slot.pipeline.lost

    covered = slot.covered([w for w, _ in slot.scored], count)
    missing = np.flatnonzero(speech & ~covered & ~lost)
    assert not missing.size, f"frames {missing.tolist()} were neither scored nor reported lost"

    taken = slot.covered(slot.taken, count)
    for gap, before in slot.scored_before:
        span = frames_of([(gap.start, gap.end)], count) & speech
        excluded = taken if gap.reason == "overload" else slot.covered(before, count)
        both = np.flatnonzero(span & excluded)
        assert not both.size, f"a gap ({gap.reason}) has covered frames {both.tolist()}"

    ended = slot.of(SpeechEnd)
    segments = slot.of(Segment)
    assert [s.utterance for s in segments] == list(range(len(ended)))
    assert [(s.start, s.end, s.trigger) for s in segments] == [
        (e.start, e.at, e.trigger) for e in ended
    ]
    assert [e.utterance for e in slot.of(SpeechStart)] == list(range(len(ended)))
    assert len(slot.of(Score)) == len(slot.scored)


def speak(slot: Slot, text: str) -> None:
    """Run a script: `x` is 100 ms of speech, `.` 100 ms of silence; `t` takes the waiting window,
    `s` scores the one in flight, `f` fails it, `!` flushes."""
    for c in text.replace(" ", ""):
        match c:
            case "x" | ".":
                slot.run(slot.pipeline.feed(loudness([c == "x"] * 5)))
            case "t":
                slot.take()
            case "s":
                slot.settle()
            case "f":
                slot.settle("inference_failed")
            case "!":
                slot.run(slot.pipeline.flush())
