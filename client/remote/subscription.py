"""Listening to many streams: one subscription that outlives its connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from ssl import SSLContext

import orjson
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK

from client.remote.backoff import Backoff, Retries
from client.remote.endpoint import SUBSCRIBE, Endpoint, closed_error
from client.remote.errors import Broken, NoServer, Refused, Unreachable
from client.remote.event_queue import Event

MAX_SINCE = 10_000
"""Streams whose place is remembered for a reconnect."""


async def subscribe(
    url: str,
    *,
    streams: Sequence[str] = ("*",),
    tags: Sequence[str] = (),
    roles: Sequence[str] = (),
    events: Sequence[str] = ("*",),
    labels: Sequence[str] = (),
    min_score: Mapping[str, float] | None = None,
    rate_hz: float | None = None,
    snapshot: bool = True,
    api_key: str | None = None,
    ca_file: Path | None = None,
    tls: SSLContext | None = None,
    backoff: Backoff | None = None,
) -> AsyncIterator[Event]:
    """Events of the streams that match, for ever: `async for event in subscribe(url)`.

    `streams` and `events` are globs; `rate_hz` bounds the scores per second and channel. After a
    break it yields `client.reconnecting` {why, delay_s}, subscribes again and gets what it missed.
    Raises `Unreachable` when no server answers at first or none comes back, `Refused` for good.
    """
    server = Endpoint(url, api_key, ca_file, tls)
    wanted: Event = {
        "streams": list(streams),
        "tags": list(tags),
        "roles": list(roles),
        "events": list(events),
        "labels": list(labels),
        "min_score": dict(min_score or {}),
    }
    message: Event = {"type": "subscribe", "id": "s1", "filter": wanted, "snapshot": snapshot}
    if rate_hz is not None:
        message["rate_hz"] = rate_hz
    retries = Retries(backoff or Backoff())
    now = asyncio.get_running_loop().time
    seen: dict[str, tuple[str, int]] = {}
    ever = False
    while True:
        begun, welcome, fault = now(), False, None
        broken: Broken
        try:
            async with await server.connect(SUBSCRIBE) as socket:
                await socket.send(orjson.dumps({**message, "since": _since(seen)}).decode())
                while True:
                    event = orjson.loads(await socket.recv())
                    # With a `sub` it is a stream's own trouble.
                    if event.get("type") == "error" and event.get("fatal") and "sub" not in event:
                        fault = event
                    welcome = welcome or event.get("type") == "subscribed"
                    ever = ever or welcome
                    _remember(seen, event)
                    yield event
        except ConnectionClosedOK as closed:
            ending = closed_error(closed, fault)
            if isinstance(ending, Refused):
                return
            broken = ending
        except ConnectionClosed as closed:
            ending = closed_error(closed, fault)
            if isinstance(ending, Refused):
                raise ending from None
            broken = ending
        except Broken as failure:
            if isinstance(failure, NoServer) and not ever:
                raise Unreachable(failure.why) from None
            broken = failure
        if welcome:
            retries.worked(now() - begun)
        delay = retries.failed(broken, now())
        yield {"type": "client.reconnecting", "why": broken.why, "delay_s": delay}
        await asyncio.sleep(delay)


def _since(seen: dict[str, tuple[str, int]]) -> dict[str, int]:
    return {stream_id: seq for stream_id, (_, seq) in seen.items()}


def _remember(seen: dict[str, tuple[str, int]], event: Event) -> None:
    """Keep each stream's place: its session and the largest `seq` of that."""
    stream_id, seq = event.get("stream_id"), event.get("seq")
    if not isinstance(stream_id, str) or not isinstance(seq, int):
        return
    session_id = str(event.get("session_id"))
    before, last = seen.pop(stream_id, (session_id, -1))
    if event["type"] == "session.closed":
        return
    # Scores held back by the rate may come after events with larger numbers; a new session of the
    # same stream begins again.
    seen[stream_id] = (session_id, max(seq, last) if before == session_id else seq)
    if len(seen) > MAX_SINCE:
        del seen[next(iter(seen))]
