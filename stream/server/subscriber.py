"""A subscriber on /v1/subscribe: filters in, events of many streams out."""

from __future__ import annotations

import asyncio
import logging
import time

import orjson
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from stream.config import LimitsConfig
from stream.delivery.hub import Hub
from stream.delivery.outbox import GOODBYE_S, Outbox
from stream.delivery.subscription import Subscription
from stream.protocol.errors import ProtocolError
from stream.protocol.events import EncodedEvent
from stream.protocol.messages import ListSubscriptions, Subscribe, Unsubscribe
from stream.protocol.parsing import parse_subscriber
from stream.telemetry.audit import AuditLog, masked
from stream.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

MAX_SUBSCRIPTIONS = 32
PATIENCE = 10
PING_S = 20.0


class Subscriber:
    """One WebSocket of a subscriber; its outbox is bounded and its slowness is its own."""

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
        tasks = [asyncio.create_task(self._out.run()), asyncio.create_task(self._alive())]
        self._metrics.subscribers.inc()
        mistakes = 0
        try:
            async for text in self._socket:
                try:
                    if isinstance(text, bytes):
                        raise ProtocolError(
                            "invalid_message",
                            "subscribers send JSON text; audio belongs on /v1/stream",
                            fatal=False,
                        )
                    if len(text) > self._limits.max_message_bytes:
                        raise ProtocolError(
                            "message_too_large",
                            f"send at most {self._limits.max_message_bytes} bytes at once",
                        )
                    self._act(text)
                except ProtocolError as error:
                    mistakes += 1
                    self._metrics.refused(error.code)
                    error.fatal = mistakes >= PATIENCE or error.code == "message_too_large"
                    self._out.say(error.body())
                    if error.fatal:
                        await self._out.goodbye(error)
        except ConnectionClosed:
            pass
        except Exception:
            log.exception("a subscriber failed")
            raise
        finally:
            self._metrics.subscribers.dec()
            for task in tasks:
                task.cancel()
            for subscription in self._subscriptions.values():
                self._hub.unsubscribe(subscription)

    async def leave(self, error: ProtocolError) -> None:
        """Tell the reason and close."""
        self._out.say(error.body())
        await self._out.goodbye(error)

    def _act(self, text: str) -> None:
        message = parse_subscriber(text)
        match message:
            case Subscribe():
                self._subscribe(message)
            case Unsubscribe():
                subscription = self._subscriptions.pop(message.id, None)
                if subscription is None:
                    raise ProtocolError(
                        "invalid_message", f"id: no subscription {message.id!r}", param="id"
                    )
                self._hub.unsubscribe(subscription)
                self._out.say({"type": "unsubscribed", "id": message.id})
            case ListSubscriptions():
                self._out.say({"type": "subscriptions", "ids": sorted(self._subscriptions)})

    def _subscribe(self, wanted: Subscribe) -> None:
        if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            raise ProtocolError(
                "quota_exceeded", f"a connection has at most {MAX_SUBSCRIPTIONS} subscriptions"
            )
        if wanted.id in self._subscriptions:
            raise ProtocolError(
                "invalid_message", f"id: {wanted.id!r} is in use here; unsubscribe it", param="id"
            )
        subscription = Subscription(wanted, self._out.queue, asyncio.get_running_loop())
        matched = self._hub.subscribe(subscription)
        self._subscriptions[wanted.id] = subscription
        peer = self._socket.remote_address
        self._audit.record(
            "subscribe",
            peer=peer[0] if peer else None,
            streams=masked(wanted.filter.streams),
            filter=wanted.filter.model_dump(exclude={"streams"}),
            matched=len(matched),
        )
        self._out.say({"type": "subscribed", "id": wanted.id, "matched": len(matched)})
        if wanted.snapshot:
            streams = [subscription.snapshot(stream) for stream in matched]
            self._out.say({"type": "snapshot", "sub": wanted.id, "streams": streams})
        missed = [
            kept
            for stream in matched
            if stream.stream_id in wanted.since
            for kept in stream.recent
            if kept.seq > wanted.since[stream.stream_id] and kept.type != "audio.ack"
        ]
        # The past must not push the present out of the queue; what does not fit is told as lagged.
        too_many = max(0, len(missed) - self._limits.subscriber_queue // 2)
        self._out.queue.dropped += too_many
        for kept in missed[too_many:]:
            subscription.replay(EncodedEvent(kept.seq, orjson.loads(kept.data), kept.data))

    async def _alive(self) -> None:
        """Ping, and close a peer that does not answer or does not read."""
        since_ping = 0.0
        while True:
            await asyncio.sleep(1.0)
            blocked = self._out.sending_since
            slow = blocked is not None and time.monotonic() - blocked > self._limits.slow_consumer_s
            if slow:
                try:
                    await asyncio.wait_for(self._socket.close(4408, "slow_consumer"), GOODBYE_S)
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
