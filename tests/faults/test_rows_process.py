"""Rows of docs/reliability.md about the process: its clock, its event loop, its model."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from stream.delivery.hub import Hub
from stream.delivery.live_stream import LiveStream
from stream.delivery.outbox import Outbox
from stream.delivery.subscription import Subscription
from stream.protocol.events import EventEncoder
from stream.protocol.messages import Subscribe
from stream.telemetry.metrics import Metrics
from tests.support.clients import stream
from tests.support.running import Gate, running_server
from tests.support.scheduling import until
from tests.support.sessions import Sessions
from tests.support.transport import FakeTransport
from tests.support.utterances import talk

HOUR_S = 3600.0


async def test_row_07_an_event_for_a_thousand_subscribers_is_serialised_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fan-out costs a copy of bytes per subscriber, not a serialisation; all get all of it."""
    serialised: list[object] = []

    def counting(value: object, *args: Any, **options: Any) -> bytes:
        if isinstance(value, dict) and "type" in value:
            serialised.append(value)
        return dumps(value, *args, **options)

    dumps = orjson.dumps
    hub, live = Hub(), LiveStream("call-1", "s", ("customer",), (0,), (), 0.0)
    hub.opened(live)
    outboxes = []
    for number in range(1000):
        transport = FakeTransport()
        outbox = Outbox(transport, 100, Metrics("test"), lambda dropped: None)
        request = Subscribe(type="subscribe", id=f"s{number}")
        subscription = Subscription(request, outbox, asyncio.get_running_loop())
        hub.subscribe(subscription)
        outboxes.append((outbox, transport))
    monkeypatch.setattr(orjson, "dumps", counting)
    event = EventEncoder("s", "call-1").encode(
        {"type": "warning", "code": "agc_suspected", "message": "x"}
    )
    hub.publish(live, event)
    for outbox, transport in outboxes:
        outbox.flush()
        (message,) = transport.sent
        assert orjson.loads(message)["code"] == "agc_suspected"
    assert len(serialised) == 1


async def test_row_13_audio_after_the_end_of_a_session_is_ignored() -> None:
    """A client that goes on sending after session.close gets its result all the same."""
    with running_server() as server:
        async with stream(server) as client:
            await client.audio(talk(1.0))
            await client.send("session.close")
            for _ in range(20):
                await client.socket.send(bytes(3200))
            assert await client.closed() == 1000
            assert client.events[-1]["type"] == "session.closed"
            assert client.events[-1]["totals"]["audio_ms"] == 1000


async def test_row_18_a_model_that_never_returns_ends_the_process(tmp_path: Path) -> None:
    """Native code cannot be interrupted: the process exits with 70, and its supervisor starts it.

    Before that, /readyz is 503 and the windows that hang are reported as gaps.
    """
    gate = Gate(tmp_path / "block")
    args = ("--set", "model.hang_timeout_s=0.4", "--set", "model.exit_after_hang_s=1.5")
    env = {"EMOTEST_BLOCK": str(gate.path)}
    with running_server(*args, model="tests.support.plugins:blocked", env=env) as server:
        server.errors_expected = True
        async with stream(server) as client:
            gate.shut()
            await client.audio(talk(2.5), 3200, 0.05)
            await client.until("stream.gap")
            assert (await asyncio.to_thread(server.get, "/readyz"))[0] == 503
            assert await asyncio.to_thread(server.exit) == 70
    assert any(line["level"] in ("error", "critical") for line in server.lines)


async def test_row_31_a_wall_clock_set_back_changes_time_stamps_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """NTP sets the clock back an hour in the middle of a call.

    Nothing expires, nothing hangs, positions go on; only `ts` follows the clock.
    """
    sessions = Sessions(resume_s=0.4)
    async with sessions.running():
        session, connection = await sessions.open("call")
        before = time.time()
        monkeypatch.setattr(time, "time", lambda: before - HOUR_S)
        session.audio(bytes(32_000))
        session.warn("agc_suspected", "after the clock was set back")
        await asyncio.sleep(0.3)
        monkeypatch.setattr(time, "time", lambda: before + 24 * HOUR_S)
        session.audio(bytes(32_000))
        session.warn("rate_mismatch", "after the clock was set forward")
        await asyncio.sleep(0.3)
        assert not connection.closes
        assert not session.over
        await sessions.registry.finish(session, "completed")
    created, back, forward, *_, closed = (e for e in connection.events if e["type"] != "audio.ack")
    assert back["ts"] < created["ts"] < forward["ts"]
    assert closed["totals"]["audio_ms"] == 2000


async def test_row_32_a_blocked_event_loop_shows_in_the_metric() -> None:
    """The operator sees it in `emotide_loop_lag_seconds`: here the process is stopped for 1 s.

    A sleep of 0.5 s is measured, so a stop is seen without what was left of the sleep.
    """
    with running_server() as server:
        await asyncio.sleep(0.5)

        def slow() -> float:
            total = server.metric("emotide_loop_lag_seconds_count")
            return total - server.metric("emotide_loop_lag_seconds_bucket", le="0.25")

        before = slow()
        server.signal(signal.SIGSTOP)
        await asyncio.sleep(1.0)
        server.signal(signal.SIGCONT)
        await until(lambda: slow() > before)
