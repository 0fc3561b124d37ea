"""Conversation of the channels of a stream: who talks when, without emotion. Pure.

Definitions, units and sources are in docs/conversation.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stream.analysis.talk import Activity, TalkDetector
from stream.types import SAMPLE_RATE

DEAD_AIR = 3 * SAMPLE_RATE
"""Samples of the shortest mutual silence that is dead air."""

MINUTE = 60 * SAMPLE_RATE

INTERVAL = 5 * SAMPLE_RATE
"""Samples of audio between two reports."""


@dataclass(frozen=True, slots=True)
class Side:
    """Measures of one channel, in samples.

    `share` is its part of all talk, `overlap` the time in which it talked over another channel
    that had begun before, `response` the mean silence before its turns, `longest_turn` its longest
    monologue. None: not known.
    """

    channel: int
    talk: int = 0
    share: float | None = None
    overlap: int = 0
    turns: int = 0
    response: int | None = None
    longest_turn: int = 0


@dataclass(frozen=True, slots=True)
class Measures:
    """Measures of a conversation over some time, in samples.

    `heard` is the time with audio, `silence` that in which no channel talks, `dead_air` the part of
    it in silences of `DEAD_AIR` or more, `overlap` the time in which several talk.
    """

    heard: int
    silence: int
    dead_air: int
    longest_silence: int
    overlap: int
    sides: tuple[Side, ...]


@dataclass(frozen=True, slots=True)
class ConversationReport:
    """Measures up to position `end`, over the last minute and since the beginning.

    `silence_now` is the length of the mutual silence at `end`, 0 if a channel talks.
    """

    end: int
    silence_now: int
    minute: Measures
    call: Measures


@dataclass(frozen=True, slots=True)
class Run:
    """Time `[start, end)` in which the same channels talk; `heard` is False for a hole.

    `over` is the channel that began while another talked, `holder` the one that had the floor
    before the run.
    """

    start: int
    end: int
    talking: frozenset[int]
    heard: bool
    over: int | None
    holder: int | None


class Meter:
    """Running measures over consecutive runs.

    A channel takes the floor when it talks alone, and holds it until another one does (Jaffe and
    Feldstein, Rhythms of Dialogue, 1970). A turn is the time from then to its last talk.
    """

    def __init__(self, channels: Sequence[int], holder: int | None = None) -> None:
        self._sides = {channel: Side(channel) for channel in channels}
        self._responses = dict.fromkeys(channels, (0, 0))
        """Sum in samples, and number, of the responses of each channel."""
        self.heard = self._silence = self._dead_air = self._overlap = self._longest = 0
        self.silence_now = 0
        self.holder = holder
        self._turn_start: int | None = None
        self._began: dict[int, int] = {}
        """Position at which the talk of each talking channel began, by channel."""

    def add(self, run: Run) -> None:
        """Process the next run, or the next part of one."""
        if not run.heard:
            self.silence_now, self.holder, self._turn_start = 0, None, None
            self._began.clear()
            return
        length = run.end - run.start
        self.heard += length
        if run.talking:
            self._talk(run, length)
        else:
            self._be_silent(length)

    def _be_silent(self, length: int) -> None:
        before = self.silence_now
        self.silence_now = now = before + length
        self._silence += length
        self._longest = max(self._longest, now)
        if now >= DEAD_AIR:
            self._dead_air += now if before < DEAD_AIR else length
        self._began.clear()

    def _talk(self, run: Run, length: int) -> None:
        silence, self.silence_now = self.silence_now, 0
        self._began = {n: self._began.get(n, run.start) for n in run.talking}
        for channel in run.talking:
            side = self._sides[channel]
            self._sides[channel] = replace(side, talk=side.talk + length)
        if len(run.talking) > 1:
            self._overlap += length
            if run.over is not None:
                side = self._sides[run.over]
                self._sides[run.over] = replace(side, overlap=side.overlap + length)
        else:
            self._take_floor(next(iter(run.talking)), silence)
        if self.holder in run.talking:
            self._extend_turn(run)

    def _take_floor(self, channel: int, silence: int) -> None:
        """Begin a turn of `channel`, which talks alone, unless it has the floor.

        `silence` is the length of the silence before its talk.
        """
        if self.holder == channel:
            return
        if self.holder is not None:
            total, count = self._responses[channel]
            self._responses[channel] = total + silence, count + 1
        side = self._sides[channel]
        self._sides[channel] = replace(side, turns=side.turns + 1)
        self.holder, self._turn_start = channel, self._began[channel]

    def _extend_turn(self, run: Run) -> None:
        assert self.holder is not None
        if self._turn_start is None:  # the turn began before the time that is measured
            self._turn_start = run.start
        side = self._sides[self.holder]
        longest = max(side.longest_turn, run.end - self._turn_start)
        self._sides[self.holder] = replace(side, longest_turn=longest)

    def measures(self) -> Measures:
        """Return the measures so far."""
        talk = sum(side.talk for side in self._sides.values())
        sides = []
        for side in self._sides.values():
            total, count = self._responses[side.channel]
            sides.append(
                replace(
                    side,
                    share=round(side.talk / talk, 4) if talk else None,
                    response=total // count if count else None,
                )
            )
        return Measures(
            self.heard,
            self._silence,
            self._dead_air,
            self._longest,
            self._overlap,
            tuple(sides),
        )


class Conversation:
    """Conversation of several channels; their detectors must advance together.

    The runs of the last minute are kept: at most one per frame.
    """

    def __init__(self, talks: dict[int, TalkDetector]) -> None:
        self._talks = talks
        self._activity = dict.fromkeys(talks, Activity.SILENT)
        self._call = Meter(tuple(talks))
        self._runs: deque[Run] = deque()
        self._reported = 0
        self.position = 0
        """Position up to which the measures are complete."""

    @property
    def silence_now(self) -> int:
        """Length of the mutual silence at `position`, in samples."""
        return self._call.silence_now

    def advance(self) -> None:
        """Process what has become final in all channels."""
        until = min(talk.settled for talk in self._talks.values())
        while self.position < until:
            end = until
            for channel, talk in self._talks.items():
                while talk.changes and talk.changes[0][0] <= self.position:
                    self._change(channel, talk.changes.popleft()[1])
                if talk.changes:
                    end = min(end, talk.changes[0][0])
            self._add(end)

    def _change(self, channel: int, activity: Activity) -> None:
        self._activity[channel] = activity

    def _add(self, end: int) -> None:
        """Process the time from `position` to `end`, in which nothing changes."""
        heard = Activity.UNHEARD not in self._activity.values()
        talking = frozenset(c for c, a in self._activity.items() if a is Activity.TALKING and heard)
        last = self._runs[-1] if self._runs else None
        over = None
        if last is not None and len(talking) > 1:
            same = last.talking == talking
            newcomers = talking - last.talking
            over = last.over if same else next(iter(newcomers), None)
            if not same and len(newcomers) != 1:
                over = None
        run = Run(self.position, end, talking, heard, over, self._call.holder)
        self._call.add(run)
        if last is not None and (last.talking, last.heard, last.over) == (talking, heard, over):
            self._runs[-1] = replace(last, end=end)
        else:
            self._runs.append(run)
        self.position = end
        while self._runs[0].end <= end - MINUTE:
            self._runs.popleft()

    def due(self) -> ConversationReport | None:
        """Return a report if `INTERVAL` was heard since the last one; None otherwise."""
        heard = self._call.heard
        if heard - self._reported < INTERVAL:
            return None
        self._reported = heard
        return self.report()

    def report(self) -> ConversationReport:
        """Return the measures up to now."""
        since = self.position - MINUTE
        minute = Meter(tuple(self._talks), self._holder(since))
        for run in self._runs:
            minute.add(replace(run, start=max(run.start, since)))
        return ConversationReport(
            self.position, self.silence_now, minute.measures(), self._call.measures()
        )

    def _holder(self, since: int) -> int | None:
        """Return the channel that has the floor when the last minute begins."""
        first = self._runs[0] if self._runs else None
        if first is None:
            return None
        if first.start < since and len(first.talking) == 1:
            return next(iter(first.talking))
        return first.holder

    def finish(self) -> None:
        """End all open talk, at the end of the stream."""
        for talk in self._talks.values():
            talk.close()
        self.advance()
