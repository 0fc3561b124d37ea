from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from client import Backoff, Refused, Unreachable, stream
from tests.support.scheduling import until
from tests.support.scripted_server import Scripted, Session

pytestmark = pytest.mark.timeout(90)

FAST = Backoff(first_s=0.01, most_s=0.02, give_up_s=60)


def speech(samples: int, frame: int) -> bytes:
    return random.Random(7).randbytes(samples * frame)


async def talk(
    server: Scripted, data: bytes, chunk: int = 997, **options: Any
) -> tuple[list[Any], Any]:
    """Send `data` in chunks that split samples; return all events and `session.closed`."""
    events: list[Any] = []
    options = {"sample_rate": server.rate, "backoff": FAST, **options}
    async with stream(server.url, **options) as call:

        async def receive() -> None:
            events.extend([event async for event in call])

        receiving = asyncio.create_task(receive())
        for start in range(0, len(data), chunk):
            await call.send(data[start : start + chunk])
        closed = await call.close()
        await receiving
    return events, closed


def numbers(events: list[Any]) -> list[int]:
    return [event["number"] for event in events if event["type"] == "emotion.score"]


async def test_a_call_delivers_all_audio_and_all_events() -> None:
    async with Scripted(2, 8000).running() as server:
        data = speech(8000, 2)
        events, closed = await talk(server, data, roles=["customer"], tags=["a", "b"])

        assert server.audio == data
        assert events[0]["type"] == "session.created"
        assert events[-1] is closed
        assert closed["reason"] == "completed"
        assert numbers(events) == list(range(1, 11))
        assert server.requests[0] == {
            "sample_rate": ["8000"],
            "encoding": ["linear16"],
            "channels": ["1"],
            "roles": ["customer"],
            "tag": ["a", "b"],
        }


@pytest.mark.timeout(90)
@pytest.mark.parametrize("seed", range(6))
async def test_broken_connections_neither_lose_nor_repeat_audio_or_events(seed: int) -> None:
    draw = random.Random(seed)
    breaks = [draw.randrange(1, 60_000) for _ in range(5)]
    async with Scripted(4, 8000, breaks).running() as server:
        data = speech(80_000, 4)
        events, _ = await talk(server, data, channels=2)

        assert server.audio == data
        assert len(server.requests) == 6
        assert server.skips == []
        assert numbers(events) == list(range(1, 101))
        numbered = [e["seq"] for e in events if "seq" in e and e["type"] != "session.resumed"]
        assert numbered == sorted(set(numbered))
        assert [e["type"] for e in events].count("session.resumed") == 5
        assert [e["type"] for e in events].count("client.reconnecting") == 5


async def test_a_break_before_the_first_acknowledgement_loses_no_audio() -> None:
    async with Scripted(2, 8000, [1, 2, 3], acks=True).running() as server:
        data = speech(3000, 2)
        await talk(server, data)
        assert server.audio == data


async def test_an_unknown_session_is_restarted_with_the_buffered_audio() -> None:
    server = Scripted(2, 8000, [4000])
    server.forget = True
    async with server.running():
        data = speech(8000, 2)
        events, _ = await talk(server, data)

        kinds = [event["type"] for event in events]
        assert kinds.count("session.created") == 2
        restarted = events[kinds.index("client.restarted")]
        assert restarted["why"] == "because of unknown_stream"
        first, second = [session.audio for session in server.sessions]
        assert data.endswith(bytes(second))
        assert len(first) + len(second) >= len(data)


async def test_after_a_drain_the_call_continues_in_a_new_session() -> None:
    async def drain(session: Session) -> None:
        await session.send(
            "error", fatal=True, code="draining", message="draining", retry_after_s=0.05
        )
        await server.send_closed(session, "draining")
        await session.close(1012)

    server = Scripted(2, 8000)
    server.on_audio = drain

    async with server.running():
        data = speech(8000, 2)
        events, closed = await talk(server, data, chunk=320)  # whole milliseconds

        assert closed["reason"] == "completed"
        assert "client.restarted" in [event["type"] for event in events]
        first, second = [session.audio for session in server.sessions]
        assert bytes(first) + bytes(second) == data


async def test_at_the_longest_duration_the_call_continues_in_a_new_session() -> None:
    """The call ended for good with `Refused` 4410, after hours and in the middle of a word."""

    async def expire(session: Session) -> None:
        if len(server.sessions) == 1:
            await session.send("error", fatal=True, code="session_expired", message="too long")
            await server.send_closed(session, "session_expired")
            await session.close(4410, "session_expired")

    server = Scripted(2, 8000)
    server.on_audio = expire

    async with server.running():
        data = speech(8000, 2)
        events, closed = await talk(server, data, chunk=320)  # whole milliseconds

        assert closed["reason"] == "completed"
        kinds = [event["type"] for event in events]
        assert events[kinds.index("client.restarted")]["why"] == "too long"
        first, second = [session.audio for session in server.sessions]
        assert bytes(first) + bytes(second) == data


async def test_events_and_fields_of_a_newer_server_are_passed_on() -> None:
    """Within v1 a server may add types and fields: clients ignore those that they do not know."""

    async def send(session: Session) -> None:
        await session.send("later.event", level=3)
        await session.send("warning", code="later_code", message="x", later=[1])

    server = Scripted(2, 8000)
    server.on_audio = send
    async with server.running():
        events, closed = await talk(server, speech(8000, 2), chunk=320)

    assert closed["reason"] == "completed"
    assert numbers(events) == list(range(1, 11))
    [unknown] = [event for event in events if event["type"] == "later.event"]
    [warning] = [event for event in events if event["type"] == "warning"]
    assert (unknown["level"], warning["later"]) == (3, [1])


@pytest.mark.parametrize("code", [1001, 1011, 1012, 1013])
async def test_temporary_close_codes_are_retried(code: int) -> None:
    async def close(session: Session) -> None:
        await session.close(code)

    server = Scripted(2, 8000)
    server.on_audio = close

    async with server.running():
        data = speech(8000, 2)
        await talk(server, data)
        assert server.audio == data
        assert len(server.requests) == 2


async def test_a_refusal_is_raised_by_name_and_not_retried() -> None:
    async def refuse(session: Session) -> None:
        await session.send("error", fatal=True, code="idle_timeout", message="too quiet")
        await server.send_closed(session, "idle_timeout")
        await session.close(4408, "idle_timeout")

    server = Scripted(2, 8000)
    server.on_audio = refuse

    async with server.running():
        with pytest.raises(Refused) as caught:
            await talk(server, speech(8000, 2))

        assert caught.value.code == 4408
        assert caught.value.reason == "idle_timeout"
        assert str(caught.value) == "too quiet (idle_timeout, 4408)"
        assert len(server.requests) == 1


async def test_send_raises_after_the_server_ended_the_session() -> None:
    async def end(session: Session) -> None:
        await server.send_closed(session, "taken_over")
        await session.close(4409)

    server = Scripted(2, 8000)
    server.on_audio = end

    async with server.running(), stream(server.url, sample_rate=8000, backoff=FAST) as call:
        await call.send(bytes(320))
        closed = await call.close()
        assert closed["reason"] == "taken_over"
        with pytest.raises(Refused, match="accepts no more audio"):
            await call.send(bytes(320))


async def test_send_waits_while_the_server_does_not_acknowledge() -> None:
    async with Scripted(2, 8000, acks=False).running() as server:
        call = stream(server.url, sample_rate=8000, backlog_s=1, backoff=FAST)
        await call.__aenter__()
        sending = asyncio.create_task(call.send(speech(20_000, 2)))
        await until(lambda: bool(server.sessions) and server.samples >= 8000)
        done, _ = await asyncio.wait({sending}, timeout=0.3)

        assert not done
        assert server.samples == 8000

        sending.cancel()
        await call._cancel()


async def test_a_lossy_call_never_waits_and_declares_dropped_audio() -> None:
    async with Scripted(2, 8000, acks=False).running() as server:
        data = speech(20_000, 2)
        options: dict[str, Any] = {"backlog_s": 1, "backoff": FAST, "lossy": True}
        async with stream(server.url, sample_rate=8000, **options) as call:
            await call.send(data)
            await call.close()

        ((at, skipped),) = server.skips
        assert (at, skipped) == (0, 12_000)
        assert server.audio[12_000 * 2 :] == data[12_000 * 2 :]


async def test_unread_events_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.remote.event_queue.MAX_EVENTS", 5)

    async with Scripted(2, 8000).running() as server:
        async with stream(server.url, sample_rate=8000, backoff=FAST) as call:
            await call.send(speech(8000, 2))
            await call.close()
            events = [event async for event in call]

        assert events[0]["type"] == "client.lagged"
        assert events[0]["dropped"] >= 7
        assert events[-1]["type"] == "session.closed"
        assert len(events) == 6


async def test_keepalives_are_sent_during_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.remote.call.KEEPALIVE_S", 0.05)

    async with (
        Scripted(2, 8000).running() as server,
        stream(server.url, sample_rate=8000, backoff=FAST),
    ):
        await until(lambda: server.keepalives >= 2)


async def test_close_raises_if_the_server_does_not_end_the_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("client.remote.call.CLOSE_TIMEOUT_S", 0.1)

    async def never(session: Session) -> None:
        assert session.socket is not None
        await session.socket.wait_closed()

    server = Scripted(2, 8000)
    server.on_close = never

    async with server.running():
        quick = Backoff(first_s=0.01, most_s=0.01, give_up_s=0.3)
        with pytest.raises((Unreachable, Refused)):
            await talk(server, speech(800, 2), backoff=quick)


async def test_no_server_at_first_raises_at_once() -> None:
    with pytest.raises(Unreachable, match=r"no server answers at 127\.0\.0\.1:9"):
        async with stream("ws://127.0.0.1:9"):
            pass


async def test_close_raises_if_the_server_does_not_return() -> None:
    async with Scripted(2, 8000).running() as server:
        quick = Backoff(first_s=0.01, most_s=0.05, give_up_s=0.3)
        call = stream(server.url, sample_rate=8000, backoff=quick)
        await call.__aenter__()
    with pytest.raises(Unreachable, match="gave up after"):
        await call.close()
    await call._cancel()


async def test_the_key_is_sent_in_a_header() -> None:
    async with Scripted(2, 8000).running() as server:
        await talk(server, b"", api_key="secret")
        assert server.headers[0]["Authorization"] == "Bearer secret"
        assert "Sec-WebSocket-Extensions" not in server.headers[0]


async def test_an_exception_inside_the_call_leaves_no_task() -> None:
    async with Scripted(2, 8000).running() as server:
        with pytest.raises(RuntimeError, match="mine"):
            async with stream(server.url, sample_rate=8000, backoff=FAST):
                raise RuntimeError("mine")

        me = asyncio.current_task()
        names = {repr(t.get_coro()) for t in asyncio.all_tasks() if t is not me}
        assert not any("Call." in name for name in names)
