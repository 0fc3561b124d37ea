"""Input of one stream without sockets: gathering, throttling, order."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from stream.protocol.messages import SessionConfig
from stream.sessions import ahead as ahead_module
from stream.sessions import input as input_module
from stream.types import Event, Window
from tests.support.plugins import LENGTHS
from tests.support.scheduling import until
from tests.support.sessions import FakeConnection, Sessions
from tests.support.utterances import talk


async def test_small_messages_are_processed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions()
    session, _ = await sessions.open()
    blocks: list[int] = []
    feed = session._pipeline.feed

    def recorded(data: bytes) -> Iterator[Window | Event]:
        blocks.append(len(data))
        return feed(data)

    monkeypatch.setattr(session._pipeline, "feed", recorded)
    for _ in range(4):
        session.audio(bytes(640))
    await until(lambda: bool(blocks))
    assert blocks == [2560]


async def test_a_flood_does_not_wait_for_the_pump() -> None:
    """A minute of audio within the pump's period was gathered and never stopped the reader."""
    sessions = Sessions(ahead_s=1.0, held_mb=0, catch_up=0)
    session, connection = await sessions.open()
    for _ in range(30):
        session.audio(bytes(64_000))
        if not connection.reading:
            break
    assert not connection.reading
    assert session._input.waiting_bytes <= input_module.HIGH_BYTES + 64_000


async def test_a_file_is_read_at_once_as_long_as_there_is_memory() -> None:
    """A peer whose audio is not read gets no answer to its pings, which stand behind the audio."""
    sessions = Sessions(ahead_s=1.0, held_mb=2, catch_up=0)
    session, connection = await sessions.open()
    sent = 0
    while connection.reading:
        session.audio(bytes(32_000))
        sent += 32_000
    assert sent == pytest.approx(1_048_576 + input_module.HIGH_BYTES, abs=100_000), "half of it"
    other, beside = await sessions.open()
    while beside.reading:
        other.audio(bytes(32_000))
    shared = session._input._shared
    assert shared.bytes == pytest.approx(2 * 1_048_576, abs=100_000)
    await sessions.registry.finish(session, "objected")
    await sessions.registry.finish(other, "objected")
    assert shared.bytes == 0


async def test_a_broken_connection_gives_back_the_memory_of_audio_that_waits() -> None:
    """Vanished clients kept theirs; one that returns sends what was not acknowledged."""
    sessions = Sessions(ahead_s=1.0, catch_up=0)
    session, connection = await sessions.open()
    session.flush()
    for _ in range(20):
        session.audio(bytes(32_001))
    session.acknowledge()
    assert connection.events[-1]["received_samples"] < 3 * 16_000
    sessions.registry.detach(session, connection)
    assert session._input._shared.bytes == 0
    assert not session.is_behind
    after = FakeConnection(sessions.registry)
    sessions.registry.reattach(session.resume_token, after, -1)
    resumed = next(event for event in after.events if event["type"] == "session.resumed")
    assert connection.events[-1]["received_samples"] <= resumed["received_samples"] < 3 * 16_000
    session.audio(bytes(2 * 16_000))
    session.flush()
    assert session._input.received == resumed["received_samples"] + 16_000
    # On a loaded machine a piece may have become due before the drop; the loop processes it first.
    await until(lambda: session._pipeline.position >= session._input.received - 1_700)
    assert session._pipeline.position == pytest.approx(session._input.received, abs=1_700)


async def test_a_file_catches_up_without_a_window_superseded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten seconds in far less than ten, with the windows that real time would give."""
    monkeypatch.setattr(ahead_module, "LATE_S", 5.0)
    sessions = Sessions(ahead_s=1.0, catch_up=100)
    await sessions.scheduler.start(LENGTHS)
    try:
        session, connection = await sessions.open()
        began = time.monotonic()
        for _ in range(5):
            session.audio(talk(2.0))
        assert session.is_behind
        await session.caught_up()
        took = time.monotonic() - began
        await sessions.registry.finish(session, "completed")
    finally:
        await sessions.scheduler.stop(1.0)
    assert took < 5
    scores = [event for event in connection.events if event["type"] == "emotion.score"]
    assert len(scores) >= 9
    assert not [event for event in connection.events if event["type"] == "stream.gap"]


async def test_samples_that_are_no_numbers_become_zero_and_are_reported_once() -> None:
    """A single NaN lost 100 ms of speech and cut the utterance; the tenth ended the call."""
    sessions = Sessions()
    request = SessionConfig.model_validate({"audio": {"sample_rate": 16_000, "encoding": "f32le"}})
    session, connection = await sessions.open(request=request)
    for n in range(60):
        samples = np.zeros(1600, "<f4")
        samples[n] = (np.nan, np.inf, -np.inf)[n % 3]
        session.audio(samples.tobytes())
    session.flush()
    assert session._pipeline.position == 96_000
    assert session._pipeline.invalid == 60
    assert connection.errors == []
    warnings = [event for event in connection.events if event["type"] == "warning"]
    assert [warning["code"] for warning in warnings] == ["invalid_samples"]


async def test_an_empty_message_is_ignored() -> None:
    """Sent once a second as a sign of life, the tenth ended the call."""
    sessions = Sessions()
    session, connection = await sessions.open()
    for _ in range(100):
        session.audio(b"")
    session.flush()
    assert (session._pipeline.position, connection.errors) == (0, [])


async def test_a_flush_does_not_wait_for_the_pump() -> None:
    sessions = Sessions()
    session, _ = await sessions.open()
    session.audio(bytes(3200))
    assert session._pipeline.position == 0
    session.flush()
    assert session._pipeline.position == 1600


async def test_audio_ahead_of_real_time_waits_and_stops_the_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A producer that sends an hour at once must not fill the memory."""
    sessions = Sessions(ahead_s=1.0, held_mb=0, catch_up=0)
    session, connection = await sessions.open()
    monkeypatch.setattr(input_module, "HIGH_BYTES", 40_000)
    monkeypatch.setattr(input_module, "LOW_BYTES", 20_000)
    for _ in range(30):
        session.audio(bytes(3200))
        session._input.process()
    assert session._pipeline.position == 16_000, "one second"
    assert not connection.reading
    session._scorer.release()
    await until(lambda: connection.reading)
    await until(lambda: session._input.waiting_bytes == 0)
    assert session._pipeline.position == 48_000


async def test_a_voice_on_the_other_channel_only_is_warned_of() -> None:
    """The producer had swapped the sides: no scores came, and live nothing said why."""
    sessions = Sessions()
    request = SessionConfig.model_validate({"audio": {"sample_rate": 16_000, "channels": 2}})
    session, connection = await sessions.open(request=request)
    voice = np.frombuffer(talk(60.0), "<i2")
    both = np.stack([np.zeros_like(voice), voice], axis=1).tobytes()
    for start in range(0, len(both), 64_000):
        session.audio(both[start : start + 64_000])
    session.flush()
    (warning,) = (event for event in connection.events if event["type"] == "warning")
    assert warning["code"] == "silent_channel"
    assert "channel 0 (customer) is analysed and silent" in warning["message"]
    assert "channel 1 (agent)" in warning["message"]


async def test_a_session_reports_how_many_chunks_nothing_can_be_due_before() -> None:
    sessions = Sessions()
    session, _ = await sessions.open()
    reports: list[tuple[int, float]] = []
    session._input.on_rest = lambda chunks, chunk_s: reports.append((chunks, chunk_s))
    session.audio(bytes(640))
    await until(lambda: bool(reports))
    # Nobody speaks: the next ten frames are gathered.
    assert reports == [(10, 0.02)]
