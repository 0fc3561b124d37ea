"""Sessions when the server drains: scored to their ends, and ended in time."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from stream.protocol.errors import ProtocolError
from stream.sessions.session import SessionState
from tests.support.plugins import LENGTHS
from tests.support.scheduling import until
from tests.support.sessions import Sessions
from tests.support.utterances import talk


async def test_a_drain_scores_the_tails_and_ends_all_sessions() -> None:
    sessions = Sessions()
    await sessions.scheduler.start(LENGTHS)
    try:
        attached, connection = await sessions.open()
        detached, broken = await sessions.open()
        for session in (attached, detached):
            session.audio(talk(1.5))
        sessions.registry.detach(detached, broken)
        await sessions.registry.drain(5.0)
    finally:
        await sessions.scheduler.stop(1.0)
    assert len(sessions.registry) == 0
    assert connection.closes == ["draining"]
    assert "emotion.segment" in connection.types()
    assert connection.events[-1]["reason"] == "draining"
    assert detached.closed.is_set()
    assert [event.type for event in detached.live.replay.since(-1)][-1] == "session.closed"
    with pytest.raises(ProtocolError) as refused:
        await sessions.open()
    assert refused.value.code == "draining"


async def test_a_connection_that_breaks_during_a_drain_is_not_kept() -> None:
    sessions = Sessions()
    session, connection = await sessions.open()
    sessions.registry.draining = True
    sessions.registry.detach(session, connection)
    await until(lambda: len(sessions.registry) == 0)
    assert session.closed.is_set()


async def test_a_drain_ends_in_time_if_a_connection_hangs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sessions = Sessions()
    _, connection = await sessions.open()
    connection.hangs = True
    with caplog.at_level(logging.WARNING):
        await sessions.registry.drain(0.05)
    assert [record.getMessage() for record in caplog.records] == ["drain timed out"]
    assert vars(caplog.records[0])["sessions"] == 1


async def test_a_drain_waits_for_sessions_that_are_ending() -> None:
    """A detached session that expires during the drain lost its tail."""
    sessions = Sessions(resume_s=0)
    session, connection = await sessions.open()
    sessions.registry.detach(session, connection)
    await sessions.registry.drain(5)
    assert session.closed.is_set()


async def test_tails_get_a_part_of_the_time_of_a_drain() -> None:
    """The rest is for the last events to be sent."""
    sessions = Sessions()
    _, connection = await sessions.open()
    await sessions.registry.drain(5.0)
    assert 1.0 < connection.finish_s < 5.0


async def test_a_connection_that_raises_does_not_end_the_drain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sessions = Sessions()
    _, broken = await sessions.open()
    session, _ = await sessions.open()

    async def fail(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(broken, "fail", fail)
    await sessions.registry.drain(5.0)
    assert session.closed.is_set()


async def test_a_drain_waits_for_a_session_that_ends_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sessions = Sessions(resume_s=0)
    session, connection = await sessions.open()
    finish = session.finish

    async def slow(*args: Any) -> None:
        session.become(SessionState.ENDING)
        await asyncio.sleep(0.1)
        session.state = SessionState.DETACHED
        await finish(*args)

    monkeypatch.setattr(session, "finish", slow)
    sessions.registry.detach(session, connection)
    await asyncio.sleep(0)
    assert session.over
    await sessions.registry.drain(5.0)
    assert session.closed.is_set()
