"""Measures of a conversation, on two-sided calls of which the answers are known."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.analysis.conversation import Conversation, ConversationReport, Side
from stream.analysis.pipeline import AnalysisSettings, StreamPipeline
from stream.analysis.talk import TalkDetector
from stream.analysis.vad import DETECTORS, VadSettings
from stream.types import FRAME, SAMPLE_RATE, AudioFormat, Samples, from_ms, to_ms
from tests.support.signals import ToneBackend
from tests.support.signals import conversation as spoken

MODEL = ToneBackend().info
Spans = list[tuple[float, float]]


def held(spans: Spans, seconds: float) -> list[bool]:
    """Return a decision per frame: True within the spans, in seconds."""
    decisions = [False] * round(seconds * 50)
    for start, end in spans:
        for frame in range(round(start * 50), round(end * 50)):
            decisions[frame] = True
    return decisions


def measured(customer: Spans, agent: Spans, seconds: float) -> ConversationReport:
    """Return the report at the end of a call of which the talk is known."""
    talks = {0: TalkDetector(), 1: TalkDetector()}
    line = Conversation(talks)
    for pair in zip(held(customer, seconds), held(agent, seconds), strict=True):
        for channel, voiced in enumerate(pair):
            talks[channel].push([voiced])
        line.advance()
    line.finish()
    return line.report()


def sides(report: ConversationReport) -> tuple[Side, Side]:
    customer, agent = report.call.sides
    return customer, agent


def test_shares_turns_responses_and_silence_of_a_polite_call() -> None:
    """0-2 customer, 3-6 agent, 6.5-8.5 customer, then nobody until 13."""
    report = measured([(0, 2), (6.5, 8.5)], [(3, 6)], 13)
    customer, agent = sides(report)
    assert (to_ms(customer.talk), to_ms(agent.talk)) == (4000, 3000)
    assert (customer.share, agent.share) == (0.5714, 0.4286)
    assert (customer.turns, agent.turns) == (2, 1)
    assert to_ms(agent.response or 0) == 1000
    assert to_ms(customer.response or 0) == 500
    assert (to_ms(customer.longest_turn), to_ms(agent.longest_turn)) == (2000, 3000)
    call = report.call
    assert (to_ms(call.heard), to_ms(call.silence), to_ms(call.dead_air)) == (13_000, 6000, 4500)
    assert to_ms(call.longest_silence) == to_ms(report.silence_now) == 4500
    assert call.overlap == 0
    assert report.minute == call


def test_the_one_who_begins_later_talks_over_the_other() -> None:
    """The agent begins at 3 while the customer talks until 4, and goes on alone."""
    customer, agent = sides(report := measured([(0, 4)], [(3, 7)], 7))
    assert to_ms(report.call.overlap) == to_ms(agent.overlap) == 1000
    assert customer.overlap == 0
    assert (customer.turns, agent.turns) == (1, 1)
    assert agent.response == 0, "its turn began before the other's ended"
    assert (to_ms(customer.longest_turn), to_ms(agent.longest_turn)) == (4000, 4000)


def test_a_mhm_within_the_others_talk_takes_no_turn() -> None:
    customer, agent = sides(measured([(0, 10)], [(4, 4.6)], 10))
    assert (customer.turns, agent.turns) == (1, 0)
    assert to_ms(agent.overlap) == 600
    assert to_ms(customer.longest_turn) == 10_000


def test_who_begins_in_the_same_frame_talks_over_nobody() -> None:
    customer, agent = sides(report := measured([(1, 3)], [(1, 4)], 5))
    assert to_ms(report.call.overlap) == 2000
    assert customer.overlap == agent.overlap == 0


def test_a_pause_of_one_speaker_neither_ends_the_turn_nor_is_a_response() -> None:
    customer, agent = sides(report := measured([(0, 2), (4, 6)], [(6.4, 7)], 8))
    assert (customer.turns, customer.response) == (1, None)
    assert to_ms(customer.longest_turn) == 6000
    assert to_ms(agent.response or 0) == 400
    assert report.call.dead_air == 0, "2 s are a pause, not dead air"


def test_an_answer_without_a_pause_has_a_response_of_zero() -> None:
    """The silence within the customer's own turn is not counted as the agent's response."""
    _, agent = sides(measured([(0, 2), (4, 6)], [(6, 8)], 9))
    assert agent.response == 0


def test_dead_air_counts_from_its_beginning() -> None:
    assert to_ms(measured([(0, 1)], [(3.98, 5)], 5).call.dead_air) == 0
    assert to_ms(measured([(0, 1)], [(4, 5)], 5).call.dead_air) == 3000


def test_the_last_minute_is_measured_as_if_the_call_had_begun_then() -> None:
    """The agent has talked from 0 to 50 s and the customer from 60 to 100."""
    report = measured([(60, 100)], [(0, 50)], 100)
    customer, agent = report.minute.sides
    assert (to_ms(agent.talk), to_ms(customer.talk)) == (10_000, 40_000)
    assert (agent.turns, customer.turns) == (0, 1)
    assert to_ms(customer.response or 0) == 10_000
    assert to_ms(agent.longest_turn) == 10_000
    assert to_ms(report.minute.heard) == 60_000
    assert to_ms(report.call.sides[1].longest_turn) == 50_000


def test_a_hole_counts_as_nothing() -> None:
    """While a producer is paused (a card number is read out), there is no dead air."""
    talks = {0: TalkDetector(), 1: TalkDetector()}
    line = Conversation(talks)
    for talk in talks.values():
        talk.push([True] * 100)
        talk.jump(FRAME * 100 + 60 * SAMPLE_RATE)
        talk.push([False] * 50)
    line.finish()
    call = line.report().call
    assert (to_ms(call.heard), to_ms(call.silence), call.dead_air) == (3000, 1000, 0)


def test_a_report_is_due_after_every_five_seconds_that_were_heard() -> None:
    talks = {0: TalkDetector(), 1: TalkDetector()}
    line = Conversation(talks)
    due = []
    for frame in range(600):
        for talk in talks.values():
            talk.push([False])
        line.advance()
        if line.due() is not None:
            due.append(frame + 1)
    assert due == [250, 500]


def test_memory_is_bounded_however_the_speakers_alternate() -> None:
    talks = {0: TalkDetector(), 1: TalkDetector()}
    line = Conversation(talks)
    for number in range(2_000):
        talks[number % 2].push([True] * 8)
        talks[1 - number % 2].push([False] * 8)
        line.advance()
    assert len(line._runs) <= 3_000
    assert all(len(talk.changes) < 100 for talk in talks.values())


spans = st.lists(st.tuples(st.booleans(), st.integers(10, 120)), max_size=40)


@settings(max_examples=100)
@given(spans, spans)
def test_time_is_conserved(customer: list[tuple[bool, int]], agent: list[tuple[bool, int]]) -> None:
    lines = [[v for voiced, n in side for v in [voiced] * n] for side in (customer, agent)]
    length = max(map(len, lines)) + 1
    talks = {0: TalkDetector(), 1: TalkDetector()}
    line = Conversation(talks)
    for channel, decisions in enumerate(lines):
        talks[channel].push([*decisions, *[False] * (length - len(decisions))])
    line.finish()
    call = line.report().call
    talk = sum(side.talk for side in call.sides)
    assert call.heard == length * FRAME
    assert call.silence + talk - call.overlap == call.heard
    assert sum(side.overlap for side in call.sides) <= call.overlap
    assert call.dead_air <= call.silence


class Loud:
    """Detector of sound, so that the talk in a synthetic call is known exactly."""

    frame = FRAME

    def probability(self, samples: np.ndarray[tuple[int], np.dtype[np.int16]]) -> float:
        return float(np.abs(samples).max() > 8_000)


@pytest.fixture
def loud(monkeypatch: pytest.MonkeyPatch) -> VadSettings:
    monkeypatch.setitem(DETECTORS, "loud", lambda mode: Loud())
    return VadSettings(detector="loud", only_speech=False)


def bursts(spans: Spans, seconds: float, seed: int) -> Samples:
    """Return noise within the spans and silence elsewhere."""
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * SAMPLE_RATE))
    inside = np.repeat(held(spans, seconds), FRAME)
    return np.asarray(noise * inside, np.float32)


def stereo(left: Samples, right: Samples) -> bytes:
    return (np.stack([left, right], 1) * 32_000).astype("<i2").tobytes()


def run(line: StreamPipeline, data: bytes, size: int) -> ConversationReport | None:
    """Feed a stream in chunks, and lose what it yields."""

    def items() -> Iterator[object]:
        for start in range(0, len(data), size):
            yield from line.feed(data[start : start + size])
        yield from line.finish()

    for _ in items():
        pass
    return None if line.conversation is None else line.conversation.report()


@pytest.mark.parametrize("analysed", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("size", [1_000, 5_120, 200_000])
def test_a_call_of_known_bursts_is_measured_to_20_ms(
    loud: VadSettings, analysed: tuple[int, ...], size: int
) -> None:
    """A channel that is only observed is measured as one that is analysed."""
    customer, agent = [(1.0, 3.0), (7.3, 8.5)], [(2.5, 4.26), (12.0, 13.0)]
    data = stereo(bursts(customer, 15, 1), bursts(agent, 15, 2))
    line = StreamPipeline(
        AudioFormat("linear16", SAMPLE_RATE, 2),
        analysed,
        MODEL,
        AnalysisSettings(vad=loud),
        observed=(0, 1),
    )
    report, known = run(line, data, size), measured(customer, agent, 15)
    assert report is not None

    def close(found: int, expected: int) -> bool:
        return abs(found - expected) <= from_ms(20)

    assert close(report.call.overlap, known.call.overlap)
    assert close(report.call.dead_air, known.call.dead_air)
    assert close(report.call.silence, known.call.silence)
    for one, two in zip(report.call.sides, known.call.sides, strict=True):
        assert close(one.talk, two.talk)
        assert close(one.overlap, two.overlap)
        assert close(one.longest_turn, two.longest_turn)
        assert close(one.response or 0, two.response or 0)
        assert one.turns == two.turns


def test_a_channel_that_is_only_observed_yields_no_window_and_no_event() -> None:
    """The agent is not analysed: the VAD runs on that channel, and nothing else does."""
    voice = spoken(3)
    line = StreamPipeline(
        AudioFormat("linear16", SAMPLE_RATE, 2),
        (0,),
        MODEL,
        AnalysisSettings(),
        observed=(0, 1),
    )
    items = [*line.feed(stereo(np.zeros_like(voice), voice)), *line.finish()]
    assert items == []
    assert line.conversation is not None
    customer, agent = line.conversation.report().call.sides
    assert customer.talk == 0
    assert agent.talk > SAMPLE_RATE


def test_one_voice_on_both_channels_is_no_conversation() -> None:
    voice = spoken(6, 0.5)
    line = StreamPipeline(
        AudioFormat("linear16", SAMPLE_RATE, 2),
        (0, 1),
        MODEL,
        AnalysisSettings(),
        observed=(0, 1),
    )
    assert run(line, stereo(voice, voice * 0.9), 6_400) is None
