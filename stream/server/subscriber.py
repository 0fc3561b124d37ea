"""Handler of /v1/subscribe: filters in, events of many streams out."""

from __future__ import annotations

import asyncio
import logging
import time

import orjson
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from stream.config import LimitsConfig
from stream.delivery.hub import Hub
from stream.delivery.outbox import CLOSE_TIMEOUT_S, Outbox
from stream.delivery.subscription import Subscription
from stream.protocol.errors import ProtocolError
from stream.protocol.events import EncodedEvent
from stream.protocol.messages import ListSubscriptions, Subscribe, Unsubscribe
from stream.protocol.parsing import parse_subscriber
from stream.telemetry.audit import AuditLog, masked
from stream.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

MAX_SUBSCRIPTIONS = 32
MAX_MISTAKES = 10
"""Number of invalid messages after which the connection is closed."""

PING_S = 20.0


class Subscriber:
    """WebSocket connection of one subscriber. Its bounded outbox isolates a slow reader."""

    def __init__(
        self,
        socket: ServerConnection,
        limits: LimitsConfig,
        hub: Hub,
        metrics: Metrics,
        audit: AuditLog,
    ) -> None:
        self._socket = socket
        self._limits = limits
        self._hub = hub
        self._metrics = metrics
        self._audit = audit
        self._out = Outbox(socket, limits.subscriber_queue, metrics)
        self._subscriptions: dict[str, Subscription] = {}

    async def run(self) -> None:
        """Serve the connection until it ends."""
        tasks = [asyncio.create_task(self._out.run()), asyncio.create_task(self._keepalive())]
        self._metrics.subscribers.inc()
        mistakes = 0
        try:
            async for text in self._socket:
                try:
                    if isinstance(text, bytes):
                        raise ProtocolError(
                            "invalid_message",
                            "subscribers send JSON text only; send audio to /v1/stream",
                            fatal=False,
                        )
                    if len(text) > self._limits.max_message_bytes:
                        raise ProtocolError(
                            "message_too_large",
                            "message too large; send at most "
                            f"{self._limits.max_message_bytes} bytes at once",
                        )
                    self._handle(text)
                except ProtocolError as error:
                    mistakes += 1
                    self._metrics.refused(error.code)
                    error.fatal = mistakes >= MAX_MISTAKES or error.code == "message_too_large"
                    self._out.send(error.body())
                    if error.fatal:
                        await self._out.close(error)
        except ConnectionClosed:
            pass
        except Exception:
            log.exception("subscriber failed")
            raise
        finally:
            self._metrics.subscribers.dec()
            for task in tasks:
                task.cancel()
            for subscription in self._subscriptions.values():
                self._hub.unsubscribe(subscription)

    async def close(self, error: ProtocolError) -> None:
        """Send the error and close."""
        self._out.send(error.body())
        await self._out.close(error)

    def _handle(self, text: str) -> None:
        message = parse_subscriber(text)
        match message:
            case Subscribe():
                self._subscribe(message)
            case Unsubscribe():
                subscription = self._subscriptions.pop(message.id, None)
                if subscription is None:
                    raise ProtocolError(
                        "invalid_message", f"id: unknown subscription {message.id!r}", param="id"
                    )
                self._hub.unsubscribe(subscription)
                self._out.send({"type": "unsubscribed", "id": message.id})
            case ListSubscriptions():
                self._out.send({"type": "subscriptions", "ids": sorted(self._subscriptions)})

    def _subscribe(self, request: Subscribe) -> None:
        if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            raise ProtocolError(
                "quota_exceeded",
                f"at most {MAX_SUBSCRIPTIONS} subscriptions per connection; unsubscribe one first",
            )
        if request.id in self._subscriptions:
            raise ProtocolError(
                "invalid_message",
                f"id: {request.id!r} is already in use; unsubscribe it or choose another id",
                param="id",
            )
        subscription = Subscription(request, self._out.queue, asyncio.get_running_loop())
        matched = self._hub.subscribe(subscription)
        self._subscriptions[request.id] = subscription
        peer = self._socket.remote_address
        self._audit.record(
            "subscribe",
            peer=peer[0] if peer else None,
            streams=masked(request.filter.streams),
            filter=request.filter.model_dump(exclude={"streams"}),
            matched=len(matched),
        )
        self._out.send({"type": "subscribed", "id": request.id, "matched": len(matched)})
        if request.snapshot:
            streams = [subscription.snapshot(stream) for stream in matched]
            self._out.send({"type": "snapshot", "sub": request.id, "streams": streams})
        missed = [
            event
            for stream in matched
            if stream.stream_id in request.since
            for event in stream.recent
            if event.seq > request.since[stream.stream_id] and event.type != "audio.ack"
        ]
        # A replay may fill half of the outbox, so that it does not displace new events. The rest is
        # reported as lagged.
        excess = max(0, len(missed) - self._limits.subscriber_queue // 2)
        self._out.queue.dropped += excess
        for event in missed[excess:]:
            subscription.replay(EncodedEvent(event.seq, orjson.loads(event.data), event.data))

    async def _keepalive(self) -> None:
        """Ping the client; close the connection if it does not answer or does not read."""
        since_ping = 0.0
        while True:
            await asyncio.sleep(1.0)
            blocked = self._out.sending_since
            slow = blocked is not None and time.monotonic() - blocked > self._limits.slow_consumer_s
            if slow:
                try:
                    await asyncio.wait_for(
                        self._socket.close(4408, "slow_consumer"), CLOSE_TIMEOUT_S
                    )
                except TimeoutError:
                    self._socket.transport.abort()
                return
            since_ping += 1.0
            if blocked is None and since_ping >= PING_S:
                since_ping = 0.0
                try:
                    async with asyncio.timeout(PING_S):
                        await (await self._socket.ping())
                except (TimeoutError, ConnectionClosed):
                    self._socket.transport.abort()
                    return
