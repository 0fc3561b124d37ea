"""Registry of sessions without sockets: open, conflicts, reattachment, time limits, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from stream.config import Config
from stream.delivery.hub import Hub
from stream.inference.scheduler import Scheduler
from stream.protocol.errors import ProtocolError
from stream.protocol.messages import SessionConfig
from stream.sessions import registry as registry_module
from stream.sessions.registry import FINISH_S, SessionRegistry, new_session_id
from stream.sessions.session import Session
from stream.telemetry.metrics import Metrics
from tests.support.plugins import LENGTHS, Fast
from tests.support.scheduling import until
from tests.support.utterances import talk


class FakeConnection:
    """Connection that records its events and closes, and that ends its session when it fails."""

    def __init__(self, registry: SessionRegistry) -> None:
        self.last_received = time.monotonic()
        self.session: Session | None = None
        self.events: list[dict[str, Any]] = []
        self.closes: list[tuple[int, str]] = []
        self.hangs = False
        self._registry = registry

    def send(self, data: bytes) -> None:
        self.events.append(orjson.loads(data))

    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    async def fail(self, error: ProtocolError, finish_s: float = FINISH_S) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        assert self.session is not None
        self.session.emit(error.body(), shared=False)
        await self._registry.finish(self.session, error.code, finish_s)
        await self.close(error.close_code, error.code)

    async def close(self, code: int, reason: str) -> None:
        self.closes.append((code, reason))


class FakeAuditLog:
    def __init__(self) -> None:
        self.records: list[tuple[str, dict[str, Any]]] = []

    def record(self, event: str, **details: Any) -> None:
        self.records.append((event, details))


class Sessions:
    """A registry with stand-ins around it; its scheduler is not started."""

    def __init__(self, **limits: Any) -> None:
        self.config = Config.model_validate({"limits": {"ahead_s": 1e9, **limits}})
        self.hub = Hub()
        self.audit: Any = FakeAuditLog()
        self.scheduler = Scheduler(Fast, 32, 0.0, 10.0)
        self.registry = SessionRegistry(
            self.config, Fast().info, self.scheduler, self.hub, Metrics("test"), self.audit
        )

    async def open(
        self, stream_id: str | None = None, takeover: bool = False
    ) -> tuple[Session, FakeConnection]:
        connection = FakeConnection(self.registry)
        session = await self.registry.open(
            SessionConfig(stream_id=stream_id), connection, new_session_id(), 0, takeover
        )
        connection.session, session.send = session, connection.send
        session.announce("session.created", {}, "n1")
        return session, connection

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.registry.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "TICK_S", 0.002)


# -- open --------------------------------------------------------------------------------------


async def test_an_open_session_is_registered_and_audited() -> None:
    sessions = Sessions()
    session, connection = await sessions.open("call-1")
    assert len(sessions.registry) == 1
    assert sessions.registry.is_attached(session, connection)
    assert sessions.hub.streams["call-1"] is session.live
    await sessions.registry.finish(session, "completed")
    assert len(sessions.registry) == 0
    assert sessions.hub.streams == {}
    assert [(event, details["session_id"]) for event, details in sessions.audit.records] == [
        ("session.start", session.id),
        ("session.end", session.id),
    ]
    assert connection.types() == ["session.created", "audio.ack", "session.closed"]


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
        await sessions.registry.open(request, connection, "ses_1", 0, False)
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
    await until(lambda: connection.closes == [(4409, "stream_conflict")])
    assert not sessions.registry.is_attached(first, connection)
    assert sessions.hub.streams["call-1"] is second.live
    assert len(sessions.registry) == 1


async def test_of_two_takeovers_at_once_only_the_last_stays() -> None:
    """The second one waits for the end of the first session and finds the id taken again."""
    sessions = Sessions()
    await sessions.open("call-1")
    opened = await asyncio.gather(
        sessions.open("call-1", takeover=True), sessions.open("call-1", takeover=True)
    )
    assert len(sessions.registry) == 1
    assert sessions.hub.streams["call-1"] in [session.live for session, _ in opened]


async def test_a_detached_session_is_ended_by_a_new_one_with_its_id() -> None:
    sessions = Sessions()
    first, connection = await sessions.open("call-1")
    sessions.registry.detach(first, connection)
    second, _ = await sessions.open("call-1")
    assert first.closed.is_set()
    assert connection.closes == []
    assert sessions.hub.streams["call-1"] is second.live
    with pytest.raises(ProtocolError, match="resume token"):
        sessions.registry.reattach(first.resume_token, connection)


# -- detach and reattach -----------------------------------------------------------------------


async def test_a_detached_session_gets_its_missed_events_when_it_is_reattached() -> None:
    sessions = Sessions()
    session, before = await sessions.open()
    sessions.registry.detach(session, before)
    assert session.send is None
    session.warn("rate_mismatch", "missed")
    after = FakeConnection(sessions.registry)
    assert sessions.registry.reattach(session.resume_token, after) is session
    await session.attach(after.send, 0)
    assert sessions.registry.is_attached(session, after)
    assert after.types() == ["session.resumed", "warning"]
    assert before.types() == ["session.created"]
    assert before.closes == []


async def test_reattaching_closes_the_previous_connection() -> None:
    sessions = Sessions()
    session, before = await sessions.open()
    after = FakeConnection(sessions.registry)
    sessions.registry.reattach(session.resume_token, after)
    await until(lambda: before.closes == [(4409, "resumed elsewhere")])
    assert not sessions.registry.is_attached(session, before)
    sessions.registry.detach(session, before)
    assert sessions.registry.is_attached(session, after), "the old connection has no effect"


async def test_an_unknown_token_is_refused() -> None:
    sessions = Sessions()
    with pytest.raises(ProtocolError, match="unknown or expired resume token") as refused:
        sessions.registry.reattach("rt_none", FakeConnection(sessions.registry))
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
        sessions.registry.reattach(session.resume_token, connection)


async def test_with_resume_s_0_a_broken_connection_ends_its_session() -> None:
    sessions = Sessions(resume_s=0)
    session, connection = await sessions.open()
    sessions.registry.detach(session, connection)
    await until(lambda: len(sessions.registry) == 0)
    assert session.closed.is_set()


async def test_an_ended_session_is_kept_for_its_last_events_and_expires() -> None:
    sessions = Sessions(resume_s=0.02)
    session, connection = await sessions.open()
    await sessions.registry.finish(session, "completed")
    sessions.registry.keep_ended(session)
    again = FakeConnection(sessions.registry)
    assert sessions.registry.reattach(session.resume_token, again) is session
    assert not sessions.registry.is_attached(session, again), "an ended session is not attached"
    await session.attach(again.send, -1)
    assert again.types() == ["session.created", "audio.ack", "session.closed"]
    assert again.events[1:] == connection.events[1:]
    assert "resume_token" not in again.events[0], "the token is sent once"

    def expired() -> bool:
        try:
            sessions.registry.reattach(session.resume_token, again)
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
        await sessions.registry.finish(session, "completed")
        sessions.registry.keep_ended(session)
    connection = FakeConnection(sessions.registry)
    with pytest.raises(ProtocolError, match="resume token"):
        sessions.registry.reattach(ended[0].resume_token, connection)
    for session in ended[1:]:
        assert sessions.registry.reattach(session.resume_token, connection) is session


# -- time limits -------------------------------------------------------------------------------


async def test_audio_is_acknowledged_periodically(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "ACK_S", 0.01)
    sessions = Sessions()
    session, connection = await sessions.open()
    await session.audio(bytes(32_000))
    async with sessions.running():
        await until(lambda: connection.types().count("audio.ack") >= 3)
    assert connection.events[-1]["received_ms"] == 1000
    assert connection.events[-1]["processed_ms"] == 1000


async def test_an_idle_session_is_closed_but_can_be_reattached() -> None:
    sessions = Sessions(idle_timeout_s=0.02)
    session, connection = await sessions.open()
    async with sessions.running():
        await until(lambda: connection.closes == [(4408, "idle_timeout")])
    error = connection.events[-1]
    assert (error["type"], error["code"]) == ("error", "idle_timeout")
    assert "no message for 0.02 s" in error["message"]
    assert not session.ending
    after = FakeConnection(sessions.registry)
    assert sessions.registry.reattach(session.resume_token, after) is session


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
        await until(lambda: connection.closes == [(4410, "session_expired")])
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
            await session.audio(talk(1.5))
        sessions.registry.detach(detached, broken)
        await sessions.registry.drain(5.0)
    finally:
        await sessions.scheduler.stop(1.0)
    assert len(sessions.registry) == 0
    assert connection.closes == [(1012, "draining")]
    assert "emotion.segment" in connection.types()
    assert connection.events[-1]["reason"] == "draining"
    assert detached.closed.is_set()
    assert [event.type for event in detached.live.recent][-1] == "session.closed"
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
