"""Subscription to the events of many streams, across broken connections."""

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
from client.remote.events import Event
from client.remote.reader import read_event
from stream.protocol.wire.notices import ErrorBody

MAX_SINCE = 10_000
"""Streams whose newest `seq` is kept for the next connection."""


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
    """Yield the events of all matching streams: `async for event in subscribe(url)`.

    `streams` and `events` are globs; `rate_hz` limits the scores per second and channel. After a
    broken connection it yields `client.reconnecting` {why, delay_s}, subscribes again, and receives
    the missed events that the server still holds. Ends when the server closes with code 1000.
    Raises `Unreachable` if no server responds at first, or none within the back-off's limit, and
    `Refused` if the server refuses permanently.
    """
    server = Endpoint(url, api_key, ca_file, tls)
    filters: dict[str, object] = {
        "streams": list(streams),
        "tags": list(tags),
        "roles": list(roles),
        "events": list(events),
        "labels": list(labels),
        "min_score": dict(min_score or {}),
    }
    message: dict[str, object] = {
        "type": "subscribe",
        "id": "s1",
        "filter": filters,
        "snapshot": snapshot,
    }
    if rate_hz is not None:
        message["rate_hz"] = rate_hz
    retries = Retries(backoff or Backoff())
    now = asyncio.get_running_loop().time
    seen: dict[str, tuple[str, int]] = {}
    ever_subscribed = False
    while True:
        begun, subscribed = now(), False
        fault: ErrorBody | None = None
        broken: Broken
        try:
            async with await server.connect(SUBSCRIBE) as socket:
                await socket.send(orjson.dumps({**message, "since": _since(seen)}).decode())
                while True:
                    event = read_event(await socket.recv())
                    # An error with `sub` belongs to a stream, not to this connection.
                    if event["type"] == "error" and event.get("fatal") and "sub" not in event:
                        fault = event
                    subscribed = subscribed or event["type"] == "subscribed"
                    ever_subscribed = ever_subscribed or subscribed
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
            if isinstance(failure, NoServer) and not ever_subscribed:
                raise Unreachable(failure.why) from None
            broken = failure
        if subscribed:
            retries.succeeded(now() - begun)
        delay = retries.failed(broken, now())
        yield {"type": "client.reconnecting", "why": broken.why, "delay_s": delay}
        await asyncio.sleep(delay)


def _since(seen: dict[str, tuple[str, int]]) -> dict[str, int]:
    return {stream_id: seq for stream_id, (_, seq) in seen.items()}


def _remember(seen: dict[str, tuple[str, int]], event: Event) -> None:
    """Store the session of the event's stream and the largest `seq` of that session."""
    stream_id, seq = event.get("stream_id"), event.get("seq")
    if not isinstance(stream_id, str) or not isinstance(seq, int):
        return
    if tenant := event.get("tenant"):
        # Only for keys that watch several tenants, in which an id may name several streams.
        stream_id = f"{tenant}/{stream_id}"
    session_id = str(event.get("session_id"))
    previous, last = seen.pop(stream_id, (session_id, -1))
    if event["type"] == "session.closed":
        return
    # A throttled score can arrive after events with larger numbers. A new session of the same
    # stream starts again at 0.
    seen[stream_id] = (session_id, max(seq, last) if previous == session_id else seq)
    if len(seen) > MAX_SINCE:
        del seen[next(iter(seen))]
