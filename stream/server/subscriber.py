"""Handler of /v1/subscribe: filters in, events of many streams out."""

from __future__ import annotations

import asyncio
import time

from stream.delivery.outbox import Outbox
from stream.delivery.subscription import Subscription
from stream.delivery.transport import Message
from stream.protocol.errors import ProtocolError
from stream.protocol.messages import ListSubscriptions, Subscribe, Unsubscribe
from stream.protocol.mistakes import Mistakes
from stream.protocol.parsing import parse_subscriber
from stream.protocol.wire.codes import ErrorCode
from stream.protocol.wire.subscriber import MAX_SUBSCRIPTIONS
from stream.server.websocket import WebSocketConnection
from stream.services import Services
from stream.telemetry.audit import masked

PING_S = 20.0
"""Seconds between two pings, and for the answer to one."""


class Subscriber:
    """Connection of one subscriber. Its bounded outbox isolates a slow reader."""

    def __init__(self, connection: WebSocketConnection, services: Services) -> None:
        self._connection = connection
        self._hub = services.hub
        self._limits = services.config.limits
        self._metrics = services.metrics
        self._audit = services.audit
        self._out = Outbox(connection, self._limits.subscriber_queue, services.metrics)
        self._subscriptions: dict[str, Subscription] = {}
        self._mistakes = Mistakes()
        self._closing: asyncio.Task[None] | None = None
        self._pinged_at = time.monotonic()
        self._metrics.subscribers.inc()

    # -- see `transport.Handler` -------------------------------------------------------------

    def received(self, message: Message) -> None:
        if self._closing is not None:
            return
        try:
            if isinstance(message, bytes):
                raise ProtocolError(
                    "invalid_message",
                    "subscribers send JSON text; audio belongs on /v1/stream",
                    fatal=False,
                )
            self._handle(message)
        except ProtocolError as error:
            self._metrics.refused(error.code)
            error.fatal = self._mistakes.add(time.monotonic())
            self._out.send(error.body())
            if error.fatal:
                self._close_soon(error)

    def resumed(self) -> None:
        self._out.flush()

    def refused(self, code: ErrorCode, message: str) -> None:
        self._metrics.refused(code)
        self._out.send(ProtocolError(code, message).body())

    def disconnected(self, code: int | None) -> None:
        self._metrics.subscribers.dec()
        self._out.flush()
        for subscription in self._subscriptions.values():
            self._hub.unsubscribe(subscription)

    # -- see `router.Connected` --------------------------------------------------------------

    def tick(self) -> None:
        """Ping, and close a peer that does not answer or does not read."""
        now, connection = time.monotonic(), self._connection
        if self._out.blocked_s() > self._limits.slow_consumer_s:
            connection.close(ProtocolError("slow_consumer", "").close_code, "slow_consumer")
        elif connection.silent_s > PING_S:
            connection.abort()
        elif now - self._pinged_at >= PING_S and not self._out.queue:
            self._pinged_at = now
            connection.ping()

    async def close(self, error: ProtocolError) -> None:
        """Send the error and close."""
        self._out.send(error.body())
        await self._out.close(error.close_code, error.code)

    # -- messages ----------------------------------------------------------------------------

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
        subscription = Subscription(request, self._out, asyncio.get_running_loop())
        matched = self._hub.subscribe(subscription)
        self._subscriptions[request.id] = subscription
        self._audit.record(
            "subscribe",
            peer=self._connection.peer or None,
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
            for event in stream.replay.since(request.since[stream.stream_id])
            if event.type != "audio.ack"
        ]
        # A replay may fill half of the outbox, so that it does not displace new events. The rest is
        # reported as lagged.
        excess = max(0, len(missed) - self._limits.subscriber_queue // 2)
        self._out.skip(excess)
        for event in missed[excess:]:
            subscription.replay(event)

    def _close_soon(self, error: ProtocolError) -> None:
        self._closing = asyncio.create_task(self._out.close(error.close_code, error.code))
