"""Sessions that lost their connection or ended: reattached, kept for a time, expired."""

from __future__ import annotations

import asyncio
import time

import pytest

from stream.delivery.hub import Hub
from stream.protocol.errors import ProtocolError
from stream.sessions import registry as registry_module
from stream.sessions.session import SessionState
from tests.support.scheduling import until
from tests.support.sessions import FakeConnection, Sessions
from tests.support.subscribing import Recorder

pytestmark = pytest.mark.usefixtures("short_ticks")


async def test_a_detached_session_gets_its_missed_events_when_it_is_reattached() -> None:
    sessions = Sessions()
    session, before = await sessions.open()
    sessions.registry.detach(session, before)
    assert session.state is SessionState.DETACHED
    session.warn("rate_mismatch", "missed")
    after = FakeConnection(sessions.registry)
    assert sessions.registry.reattach(session.resume_token, after, 0) is session
    assert sessions.registry.is_attached(session, after)
    assert after.types() == ["session.resumed", "stream.detached", "warning"]
    assert before.types() == ["session.created"]
    assert before.closes == []


async def test_reattaching_closes_the_previous_connection() -> None:
    sessions = Sessions()
    session, before = await sessions.open()
    after = FakeConnection(sessions.registry)
    sessions.registry.reattach(session.resume_token, after, 0)
    await until(lambda: before.closes == ["resumed elsewhere"])
    assert not sessions.registry.is_attached(session, before)
    sessions.registry.detach(session, before)
    assert sessions.registry.is_attached(session, after), "the old connection has no effect"


async def test_an_unknown_token_is_refused() -> None:
    sessions = Sessions()
    with pytest.raises(ProtocolError, match="unknown or expired resume token") as refused:
        sessions.registry.reattach("rt_none", FakeConnection(sessions.registry), 0)
    assert (refused.value.code, refused.value.param) == ("unknown_stream", "resume")


async def test_a_detached_session_expires() -> None:
    sessions = Sessions(resume_s=0.02)
    session, connection = await sessions.open("call-1")
    detached = time.monotonic()
    sessions.registry.detach(session, connection)
    async with sessions.running():
        await until(session.closed.is_set)
        await until(lambda: len(sessions.registry) == 0)
    assert time.monotonic() - detached >= 0.02
    assert sessions.audit.records[-1][1]["reason"] == "connection_lost"
    with pytest.raises(ProtocolError, match="resume token"):
        sessions.registry.reattach(session.resume_token, connection, 0)


async def test_with_resume_s_0_a_broken_connection_ends_its_session() -> None:
    sessions = Sessions(resume_s=0)
    session, connection = await sessions.open()
    sessions.registry.detach(session, connection)
    await until(lambda: len(sessions.registry) == 0)
    assert session.closed.is_set()


async def test_an_ended_session_is_kept_for_its_last_events_and_expires() -> None:
    sessions = Sessions(resume_s=0.02)
    session, connection = await sessions.open()
    await sessions.registry.finish(session, "completed", keep=True)
    again = FakeConnection(sessions.registry)
    assert sessions.registry.reattach(session.resume_token, again, -1) is session
    assert not sessions.registry.is_attached(session, again), "an ended session is not attached"
    assert again.types() == ["session.created", "audio.ack", "session.closed"]
    assert again.events[1:] == connection.events[1:]
    assert "resume_token" not in again.events[0], "the token is sent once"

    def expired() -> bool:
        try:
            sessions.registry.reattach(session.resume_token, again, 0)
        except ProtocolError:
            return True
        return False

    async with sessions.running():
        await until(expired)


async def test_an_ended_session_is_kept_for_its_whole_time() -> None:
    """Its producer may have lost the last events with its connection."""
    sessions = Sessions(resume_s=60)
    session, _ = await sessions.open()
    await sessions.registry.finish(session, "completed", keep=True)
    async with sessions.running():
        await asyncio.sleep(0.3)
    again = FakeConnection(sessions.registry)
    assert sessions.registry.reattach(session.resume_token, again, -1) is session


async def test_the_number_of_kept_ended_sessions_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry_module, "MAX_ENDED", 2)
    sessions = Sessions()
    ended = [(await sessions.open())[0] for _ in range(3)]
    for session in ended:
        await sessions.registry.finish(session, "completed", keep=True)
    connection = FakeConnection(sessions.registry)
    with pytest.raises(ProtocolError, match="resume token"):
        sessions.registry.reattach(ended[0].resume_token, connection, 0)
    for session in ended[1:]:
        assert sessions.registry.reattach(session.resume_token, connection, 0) is session


async def test_a_stream_without_its_producer_is_not_shown_as_active() -> None:
    """A wall board showed a call as live for a minute after its telephony server had crashed."""
    recorder = Recorder()
    sessions = Sessions(hub=Hub([recorder]))
    session, before = await sessions.open()
    recorder.calls.clear()
    sessions.registry.detach(session, before)
    assert session.live.snapshot()["state"] == "detached"
    assert [call for call, _ in recorder.calls] == ["changed", "stream.detached"]
    recorder.calls.clear()
    after = FakeConnection(sessions.registry)
    sessions.registry.reattach(session.resume_token, after, 0)
    assert session.live.snapshot()["state"] == "active"
    assert [call for call, _ in recorder.calls] == ["changed", "session.resumed"]


async def test_a_paused_stream_is_still_paused_when_its_producer_returns() -> None:
    sessions = Sessions()
    session, before = await sessions.open()
    session.pause()
    await until(lambda: session.live.state == "paused")
    sessions.registry.detach(session, before)
    assert session.live.snapshot()["state"] == "detached"
    after = FakeConnection(sessions.registry)
    sessions.registry.reattach(session.resume_token, after, before.events[-1]["seq"])
    assert session.live.snapshot()["state"] == "paused"
    assert after.types() == ["session.resumed", "stream.paused", "stream.detached"]


async def test_a_detached_stream_that_is_paused_meanwhile_stays_detached() -> None:
    """The message came just before the connection broke, behind audio that was not analysed."""
    sessions = Sessions()
    session, before = await sessions.open()
    session.audio(bytes(3_200))
    session.pause()
    sessions.registry.detach(session, before)
    await until(lambda: "stream.paused" in [e.type for e in session.live.replay.since(-1)])
    assert session.live.snapshot()["state"] == "detached"
    sessions.registry.reattach(session.resume_token, FakeConnection(sessions.registry), 0)
    assert session.live.snapshot()["state"] == "paused"


async def test_a_stream_whose_producer_left_only_ends() -> None:
    sessions = Sessions()
    session, connection = await sessions.open()
    sessions.registry.detach(session, connection, left=True)
    await until(session.closed.is_set)
    kept = [event.type for event in session.live.replay.since(-1)]
    assert "stream.detached" not in kept
    assert kept[-1] == "session.closed"
    assert session.live.snapshot()["state"] == "ended"
