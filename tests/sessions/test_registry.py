"""Registry of sessions without sockets: open, conflicts, reattachment, time limits, drain."""

from __future__ import annotations

import asyncio
import logging
import time
from itertools import pairwise
from typing import Any

import pytest

from stream.protocol.errors import ProtocolError
from stream.protocol.events import EventEncoder
from stream.protocol.messages import SessionConfig
from stream.sessions import registry as registry_module
from stream.sessions.session import NEXT, Session, SessionState
from tests.support.plugins import LENGTHS
from tests.support.scheduling import until
from tests.support.sessions import FakeConnection, Sessions
from tests.support.utterances import talk


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "TICK_S", 0.002)


# -- open --------------------------------------------------------------------------------------


async def test_an_open_session_is_registered_and_audited() -> None:
    sessions = Sessions()
    session, connection = await sessions.open("call-1")
    assert len(sessions.registry) == 1
    assert sessions.registry.is_attached(session, connection)
    assert sessions.hub.streams["default", "call-1"] is session.live
    await sessions.registry.finish(session, "completed")
    assert len(sessions.registry) == 0
    assert sessions.hub.streams == {}
    assert [(event, details["session_id"]) for event, details in sessions.audit.records] == [
        ("session.start", session.id),
        ("session.end", session.id),
    ]
    assert connection.types() == ["session.created", "audio.ack", "session.closed"]


async def test_calls_that_come_at_once_leave_the_event_loop_to_others() -> None:
    """A hundred calls at once held the loop for 50 ms, and `opened` of the last waited for all."""
    sessions = Sessions()
    opening = [asyncio.create_task(sessions.open()) for _ in range(20)]
    opened = []
    while not all(task.done() for task in opening):
        await asyncio.sleep(0)
        opened.append(len(sessions.registry))
    steps = [after - before for before, after in pairwise(opened)]
    assert opened[-1] == 20
    assert max(steps) == 1


async def test_a_session_above_max_sessions_is_refused() -> None:
    sessions = Sessions(max_sessions=1)
    session, _ = await sessions.open()
    assert sessions.registry.full
    with pytest.raises(ProtocolError, match=r"limit of 1 streams.*max_sessions") as refused:
        await sessions.open()
    assert (refused.value.code, refused.value.retry_after_s) == ("overloaded", 5.0)
    await sessions.registry.finish(session, "completed")
    assert not sessions.registry.full
    await sessions.open()


async def test_a_refused_configuration_registers_nothing() -> None:
    sessions = Sessions()
    connection = FakeConnection(sessions.registry)
    request = SessionConfig.model_validate({"audio": {"roles": ["agent"]}})
    with pytest.raises(ProtocolError) as refused:
        await sessions.registry.open(
            request, connection, EventEncoder("ses_1", "ses_1"), "test", False
        )
    assert refused.value.code == "agent_channel_forbidden"
    assert len(sessions.registry) == 0
    assert sessions.audit.records == []


# -- conflicts ---------------------------------------------------------------------------------


async def test_the_id_of_an_attached_stream_is_refused() -> None:
    sessions = Sessions()
    session, connection = await sessions.open("call-1")
    with pytest.raises(ProtocolError, match="takeover=true") as refused:
        await sessions.open("call-1")
    assert (refused.value.code, refused.value.param) == ("stream_conflict", "stream_id")
    assert sessions.registry.is_attached(session, connection)
    assert connection.closes == []


async def test_a_takeover_ends_the_other_session() -> None:
    sessions = Sessions()
    first, connection = await sessions.open("call-1")
    second, _ = await sessions.open("call-1", takeover=True)
    assert connection.types() == ["session.created", "error", "audio.ack", "session.closed"]
    assert connection.events[1]["code"] == "stream_conflict"
    assert connection.events[-1]["reason"] == "taken_over"
    await until(lambda: connection.closes == ["stream_conflict"])
    assert not sessions.registry.is_attached(first, connection)
    assert sessions.hub.streams["default", "call-1"] is second.live
    assert len(sessions.registry) == 1


async def test_of_two_takeovers_at_once_only_the_last_stays() -> None:
    """The second one waits for the end of the first session and finds the id taken again."""
    sessions = Sessions()
    await sessions.open("call-1")
    opened = await asyncio.gather(
        sessions.open("call-1", takeover=True), sessions.open("call-1", takeover=True)
    )
    assert len(sessions.registry) == 1
    assert sessions.hub.streams["default", "call-1"] in [session.live for session, _ in opened]


async def test_a_detached_session_is_ended_by_a_new_one_with_its_id() -> None:
    sessions = Sessions()
    first, connection = await sessions.open("call-1")
    sessions.registry.detach(first, connection)
    second, _ = await sessions.open("call-1")
    assert first.closed.is_set()
    assert connection.closes == []
    assert sessions.hub.streams["default", "call-1"] is second.live
    with pytest.raises(ProtocolError, match="resume token"):
        sessions.registry.reattach(first.resume_token, connection, 0)


# -- detach and reattach -----------------------------------------------------------------------


async def test_a_detached_session_gets_its_missed_events_when_it_is_reattached() -> None:
    sessions = Sessions()
    session, before = await sessions.open()
    sessions.registry.detach(session, before)
    assert session.state is SessionState.DETACHED
    session.warn("rate_mismatch", "missed")
    after = FakeConnection(sessions.registry)
    assert sessions.registry.reattach(session.resume_token, after, 0) is session
    assert sessions.registry.is_attached(session, after)
    assert after.types() == ["session.resumed", "warning"]
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


async def test_only_legal_transitions_are_accepted() -> None:
    """The state of a session was spread over four flags in three objects, and some combinations
    had no meaning."""
    sessions = Sessions()
    for state in SessionState:
        for after in SessionState:
            session, _ = await sessions.open()
            session.state = state
            if after in NEXT[state]:
                session.become(after)
                assert session.state is after
            else:
                with pytest.raises(RuntimeError, match=f"{state.name} cannot become {after.name}"):
                    session.become(after)
                assert session.state is state


# -- time limits -------------------------------------------------------------------------------


async def test_audio_is_acknowledged_periodically(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "ACK_S", 0.01)
    sessions = Sessions()
    session, connection = await sessions.open()
    session.audio(bytes(32_000))
    async with sessions.running():
        await until(lambda: connection.types().count("audio.ack") >= 3)
        await until(lambda: connection.events[-1].get("processed_ms") == 1000)
    assert connection.events[-1]["received_ms"] == 1000


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


async def test_a_session_ends_at_its_maximum_duration() -> None:
    sessions = Sessions(max_session_s=0.02)
    session, connection = await sessions.open()
    async with sessions.running():
        await until(lambda: connection.closes == ["session_expired"])
    assert session.closed.is_set()
    assert connection.events[-1]["reason"] == "session_expired"
    assert len(sessions.registry) == 0


# -- drain -------------------------------------------------------------------------------------


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


async def test_audio_is_acknowledged_once_a_second_and_not_at_every_tick() -> None:
    sessions = Sessions()
    session, connection = await sessions.open()
    async with sessions.running():
        session.audio(bytes(3_200))
        await asyncio.sleep(0.4)
    assert connection.types().count("audio.ack") == 0, "four ticks, less than a second"


async def test_the_oldest_parked_session_ends_for_a_new_one() -> None:
    """A server full of producers that lost their network refused those that came."""
    sessions = Sessions(max_sessions=2, resume_s=60)
    older, first = await sessions.open("older")
    newer, second = await sessions.open("newer")
    sessions.registry.detach(newer, second)
    newer_since = time.monotonic()
    sessions.registry.detach(older, first)
    assert sessions.registry.parked == 2
    assert time.monotonic() >= newer_since
    third, _ = await sessions.open("third")
    await until(lambda: newer.over)
    assert not older.over, "it was parked later"
    assert not third.over
    fourth, _ = await sessions.open("fourth")
    await until(lambda: older.over)
    await until(lambda: sessions.registry.parked == 0)
    assert len(sessions.registry) == 2
    with pytest.raises(ProtocolError, match="max_sessions"):
        await sessions.open("fifth")
    assert not fourth.over


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


async def test_a_takeover_frees_its_place_if_it_is_refused() -> None:
    """The place of a session that waits for another one to end was counted twice, or for ever."""
    sessions = Sessions(max_sessions=2)
    await sessions.open("call")
    for _ in range(3):
        with pytest.raises(ProtocolError, match="is live on another connection"):
            await sessions.open("call")
    second, _ = await sessions.open("other")
    assert not second.over
    assert sessions.registry.full


def test_held_audio_is_bounded_as_configured() -> None:
    sessions = Sessions(held_mb=3)
    assert sessions.registry._ahead.max_bytes == 3 * 1_048_576


async def test_an_ended_session_is_kept_for_its_whole_time() -> None:
    """Its producer may have lost the last events with its connection."""
    sessions = Sessions(resume_s=60)
    session, _ = await sessions.open()
    await sessions.registry.finish(session, "completed", keep=True)
    async with sessions.running():
        await asyncio.sleep(0.3)
    again = FakeConnection(sessions.registry)
    assert sessions.registry.reattach(session.resume_token, again, -1) is session


async def test_a_session_that_waits_for_a_takeover_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Others took its place while the session before it was scored to its end."""
    sessions = Sessions(max_sessions=2)
    first, _ = await sessions.open("call")
    ends = asyncio.Event()
    finish = first.finish

    async def slow(*args: Any) -> None:
        await ends.wait()
        await finish(*args)

    monkeypatch.setattr(Session, "finish", lambda self, *args: slow(*args))
    taking = asyncio.create_task(sessions.open("call", takeover=True))
    await asyncio.sleep(0.01)
    assert sessions.registry.full
    with pytest.raises(ProtocolError, match="max_sessions"):
        await sessions.open("other")
    ends.set()
    second, _ = await taking
    assert not second.over
    assert len(sessions.registry) == 1


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


async def test_a_drain_waits_for_sessions_that_are_ending() -> None:
    """A detached session that expires during the drain lost its tail."""
    sessions = Sessions(resume_s=0)
    session, connection = await sessions.open()
    sessions.registry.detach(session, connection)
    await sessions.registry.drain(5)
    assert session.closed.is_set()
