from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson
import pytest
from websockets.asyncio.server import ServerConnection, serve

from client import Backoff, Refused, Unreachable, subscribe
from client.remote.events import Event
from client.remote.subscription import _remember, _since

pytestmark = pytest.mark.timeout(90)

FAST = Backoff(first_s=0.01, most_s=0.02, give_up_s=60)


class Publisher:
    """Server that sends two scores on each connection and closes it with the next of `endings`."""

    def __init__(self, endings: list[int]) -> None:
        self.endings = endings
        self.requests: list[dict[str, Any]] = []

    async def __call__(self, socket: ServerConnection) -> None:
        request = orjson.loads(await socket.recv())
        self.requests.append(request)
        number = len(self.requests)
        await self.send(socket, type="subscribed", id=request["id"], matched=1)
        await self.send(socket, type="snapshot", sub="s1", streams=[])
        for seq in (10 * number + 1, 10 * number):  # a throttled score arrives later
            await self.send(socket, type="emotion.score", sub="s1", stream_id="call-1", seq=seq)
        code = self.endings.pop(0)
        if code == 1006:
            socket.transport.abort()
        else:
            if code >= 4000:
                await self.send(socket, type="error", fatal=True, code="slow_consumer", message="x")
            await socket.close(code)

    async def send(self, socket: ServerConnection, **event: Any) -> None:
        await socket.send(orjson.dumps(event).decode())


async def received(publisher: Publisher, **options: Any) -> list[Any]:
    async with serve(publisher, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        url = f"ws://127.0.0.1:{port}"
        return [event async for event in subscribe(url, backoff=FAST, **options)]


async def test_subscribes_again_after_a_break_with_its_positions() -> None:
    publisher = Publisher([1006, 1012, 1000])
    events = await received(publisher, streams=["call-*"], rate_hz=1, labels=["angry"])

    assert publisher.requests[0] == {
        "type": "subscribe",
        "id": "s1",
        "filter": {
            "streams": ["call-*"],
            "tags": [],
            "roles": [],
            "events": ["*"],
            "labels": ["angry"],
            "min_score": {},
        },
        "rate_hz": 1,
        "snapshot": True,
        "since": {},
    }
    assert [request["since"] for request in publisher.requests[1:]] == [
        {"call-1": 11},
        {"call-1": 21},
    ]
    assert [e["type"] for e in events].count("client.reconnecting") == 2
    assert [e["seq"] for e in events if e["type"] == "emotion.score"] == [11, 10, 21, 20, 31, 30]


async def test_a_refusal_is_raised() -> None:
    with pytest.raises(Refused, match=r"x \(slow_consumer, 4408\)"):
        await received(Publisher([4408]))


async def test_no_server_at_first_raises_at_once() -> None:
    with pytest.raises(Unreachable):
        async for _ in subscribe("ws://127.0.0.1:9"):
            pass


async def test_subscribe_raises_if_the_server_does_not_return() -> None:
    publisher = Publisher([1001])
    quick = Backoff(first_s=0.01, most_s=0.02, give_up_s=0.1)
    async with serve(publisher, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        events = subscribe(f"ws://127.0.0.1:{port}", backoff=quick)
        while (await anext(events))["type"] != "client.reconnecting":
            pass

        server.close()
        await asyncio.sleep(0.05)
        with pytest.raises(Unreachable, match="gave up"):
            async for _ in events:
                pass


def test_streams_of_one_id_in_two_tenants_are_remembered_apart() -> None:
    """After a break the client asked for the events of one tenant with the number of another."""
    seen: dict[str, tuple[str, int]] = {}
    for tenant, seq in (("acme", 40), ("globex", 7)):
        event = {"type": "warning", "stream_id": "c", "session_id": tenant, "seq": seq}
        _remember(seen, cast(Event, {**event, "tenant": tenant}))
    _remember(seen, cast(Event, {"type": "warning", "stream_id": "c", "session_id": "s", "seq": 1}))
    assert _since(seen) == {"acme/c": 40, "globex/c": 7, "c": 1}
