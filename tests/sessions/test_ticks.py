"""Ticks of the registry: acknowledgements of audio, and time limits of sessions."""

from __future__ import annotations

import asyncio
import time

import pytest

from stream.sessions import registry as registry_module
from tests.support.scheduling import until
from tests.support.sessions import FakeConnection, Sessions

pytestmark = pytest.mark.usefixtures("short_ticks")


async def test_audio_is_acknowledged_periodically(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "ACK_S", 0.01)
    sessions = Sessions()
    session, connection = await sessions.open()
    session.audio(bytes(32_000))
    async with sessions.running():
        await until(lambda: connection.types().count("audio.ack") >= 3)
        await until(lambda: connection.events[-1].get("processed_ms") == 1000)
    assert connection.events[-1]["received_ms"] == 1000


async def test_audio_is_acknowledged_once_a_second_and_not_at_every_tick() -> None:
    sessions = Sessions()
    session, connection = await sessions.open()
    async with sessions.running():
        session.audio(bytes(3_200))
        await asyncio.sleep(0.4)
    assert connection.types().count("audio.ack") == 0, "many ticks, less than a second"


async def test_an_idle_session_is_closed_but_can_be_reattached() -> None:
    sessions = Sessions(idle_timeout_s=0.02)
    session, connection = await sessions.open()
    async with sessions.running():
        await until(lambda: connection.closes == ["idle_timeout"])
    error = connection.events[-1]
    assert (error["type"], error["code"]) == ("error", "idle_timeout")
    assert "no message for 0.02 s" in error["message"]
    assert not session.over
    after = FakeConnection(sessions.registry)
    assert sessions.registry.reattach(session.resume_token, after, 0) is session


async def test_a_session_that_receives_messages_is_not_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry_module, "ACK_S", 0.01)
    sessions = Sessions(idle_timeout_s=0.02)
    session, connection = await sessions.open()
    connection.last_received = time.monotonic() + 60
    async with sessions.running():
        await until(lambda: connection.types().count("audio.ack") >= 5)
    assert connection.closes == []
    assert sessions.registry.is_attached(session, connection)


async def test_a_producer_whose_audio_waits_for_the_model_is_not_idle() -> None:
    """It had sent a file, `ahead_s` let all of it in, and after 30 s its connection was closed."""
    sessions = Sessions(idle_timeout_s=0.05, ahead_s=1000)
    session, connection = await sessions.open()
    session._scorer.feed(iter(()), 0.0, not_before=time.monotonic() + 1000)  # nothing goes on
    session.audio(bytes(32_000))
    await until(lambda: session.is_busy)
    assert not session.is_behind
    async with sessions.running():
        await asyncio.sleep(0.4)
        assert not connection.closes


async def test_a_session_without_audio_ends_although_it_sends_messages() -> None:
    """Keepalives alone held a place for ever."""
    sessions = Sessions(no_audio_timeout_s=0.2, idle_timeout_s=60)
    session, connection = await sessions.open()
    async with sessions.running():
        await until(lambda: bool(connection.closes))
    assert connection.closes == ["idle_timeout"]
    (error,) = [event for event in connection.events if event["type"] == "error"]
    assert "less than a second of audio" in error["message"]
    assert not session.over, "its producer may return"


async def test_a_session_ends_at_its_maximum_duration() -> None:
    sessions = Sessions(max_session_s=0.02)
    session, connection = await sessions.open()
    async with sessions.running():
        await until(lambda: connection.closes == ["session_expired"])
    assert session.closed.is_set()
    assert connection.events[-1]["reason"] == "session_expired"
    assert len(sessions.registry) == 0


async def test_a_session_that_fails_at_its_tick_does_not_stop_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sessions = Sessions(idle_timeout_s=0.2)
    _, broken = await sessions.open("broken")
    _, healthy = await sessions.open("healthy")

    def fail() -> None:
        raise RuntimeError("tick")

    broken.tick = fail  # type: ignore[method-assign]
    async with sessions.running():
        await until(lambda: healthy.closes == ["idle_timeout"])
    assert "session failed" in caplog.text
