"""Registry of sessions without sockets: open, places, conflicts, takeovers."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from typing import Any

import pytest

from stream.protocol.errors import ProtocolError
from stream.protocol.events import EventEncoder
from stream.protocol.messages import SessionConfig
from stream.sessions.session import Session
from tests.support.scheduling import until
from tests.support.sessions import FakeConnection, Sessions

pytestmark = pytest.mark.usefixtures("short_ticks")


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


def test_held_audio_is_bounded_as_configured() -> None:
    sessions = Sessions(held_mb=3)
    assert sessions.registry._ahead.max_bytes == 3 * 1_048_576


# -- places ------------------------------------------------------------------------------------


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


async def test_the_oldest_parked_session_ends_for_a_new_one() -> None:
    """A server full of producers that lost their network refused those that came."""
    sessions = Sessions(max_sessions=2, resume_s=60)
    older, first = await sessions.open("older")
    newer, second = await sessions.open("newer")
    sessions.registry.detach(newer, second)
    await until(lambda: time.monotonic() > sessions.registry._entries[newer.resume_token].since)
    sessions.registry.detach(older, first)
    assert sessions.registry.parked == 2
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


async def test_a_parked_session_makes_room_although_another_one_is_opening(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sessions = Sessions(max_sessions=3, resume_s=60)
    taken, _ = await sessions.open("call")
    parked, connection = await sessions.open("parked")
    sessions.registry.detach(parked, connection)
    ends, finish = asyncio.Event(), taken.finish

    async def slow(*args: Any) -> None:
        await ends.wait()
        await finish(*args)

    monkeypatch.setattr(taken, "finish", slow)
    taking = asyncio.create_task(sessions.open("call", takeover=True))
    await until(lambda: len(sessions.registry._opening) == 1)
    await sessions.open("new")
    await until(lambda: parked.over)
    ends.set()
    await taking
    assert len(sessions.registry) == 2


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
