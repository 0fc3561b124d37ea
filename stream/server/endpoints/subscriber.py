"""Handler of /v1/subscribe: filters in, events of many streams out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterator

from websockets.frames import CloseCode

from stream.delivery.live_stream import LiveStream
from stream.delivery.outbox import Outbox
from stream.delivery.subscription import Subscription
from stream.delivery.transport import Message
from stream.protocol.errors import ProtocolError
from stream.protocol.events import EncodedEvent
from stream.protocol.messages import (
    AcknowledgeAlert,
    ListSubscriptions,
    SetAlertRules,
    Subscribe,
    Unsubscribe,
)
from stream.protocol.mistakes import Mistakes
from stream.protocol.parsing import parse_subscriber
from stream.protocol.wire.codes import ErrorCode
from stream.protocol.wire.subscriber import MAX_PATTERNS, MAX_SUBSCRIPTIONS
from stream.server.connections.websocket import WebSocketConnection
from stream.server.endpoints.subscriber_rules import SubscriberRules
from stream.services import Services
from stream.telemetry.audit import masked
from stream.tenants import ANYONE, Principal

log = logging.getLogger(__name__)

PING_S = 20.0
"""Seconds between two pings, and for the answer to one."""


STEP_S = 0.001
"""Seconds of work on a subscription before other connections are served."""


class Subscriber:
    """Connection of one subscriber. Its bounded outbox isolates a slow reader."""

    def __init__(
        self,
        connection: WebSocketConnection,
        services: Services,
        principal: Principal = ANYONE,
    ) -> None:
        self._connection = connection
        self._principal = principal
        # One event may go to 32 subscriptions of each of many connections.
        connection.shares_sending = True
        self._hub = services.hub
        self._limits = services.config.limits
        self._rules = SubscriberRules(services, principal)
        self._metrics = services.metrics
        self._audit = services.audit
        self._out = Outbox(connection, self._limits.subscriber_queue, services.metrics)
        self._subscriptions: dict[str, Subscription] = {}
        self._patterns: dict[str, int] = {}
        """Number of globs by subscription."""
        self._work: Iterator[None] | None = None
        """The rest of a subscription that is being made; other messages wait for its end."""
        self._messages: deque[Message] = deque()
        self._is_handling = False
        self._mistakes = Mistakes()
        self._closing: asyncio.Task[None] | None = None
        self._pinged_at = time.monotonic()
        self._metrics.subscribers.inc()

    # -- see `transport.Handler` -------------------------------------------------------------

    def received(self, message: Message) -> None:
        if self._closing is None:
            self._messages.append(message)
            self._handle_messages()

    def resumed(self) -> None:
        self._out.flush()

    def refused(self, code: ErrorCode, message: str) -> None:
        self._metrics.refused(code)
        self._out.send(ProtocolError(code, message).body())

    def disconnected(self, code: int | None) -> None:
        self._metrics.subscribers.dec()
        self._work = None
        self._messages.clear()
        self._out.flush()
        self._rules.remove()
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

    def _handle_messages(self) -> None:
        """Handle all messages received, up to one that takes time."""
        if self._is_handling:
            return
        self._is_handling = True
        # Answers are part of this step, and must not be dropped while events wait for theirs.
        self._connection.shares_sending = False
        try:
            self._out.flush()
            while self._messages and self._work is None and self._closing is None:
                try:
                    self._handle(self._messages.popleft())
                except ProtocolError as error:
                    self._mistake(error)
        finally:
            self._is_handling = False
            self._connection.shares_sending = True

    def _mistake(self, error: ProtocolError) -> None:
        self._metrics.refused(error.code)
        error.fatal = self._mistakes.add(time.monotonic())
        self._out.send(error.body())
        if error.fatal:
            self._close_soon(error)

    def _handle(self, data: Message) -> None:
        if isinstance(data, bytes):
            raise ProtocolError(
                "invalid_message",
                "subscribers send JSON text; audio belongs on /v1/stream",
                fatal=False,
            )
        message = parse_subscriber(data)
        match message:
            case Subscribe():
                self._check(message)
                self._work = self._subscribe(message)
                self._connection.queue.run(self._connection.usage, self._step)
                if self._work is not None:
                    self._connection.pause()
            case Unsubscribe():
                subscription = self._subscriptions.pop(message.id, None)
                if subscription is None:
                    raise ProtocolError(
                        "invalid_message", f"id: unknown subscription {message.id!r}", param="id"
                    )
                del self._patterns[message.id]
                self._hub.unsubscribe(subscription)
                self._out.send({"type": "unsubscribed", "id": message.id})
            case SetAlertRules():
                self._set_rules(message)
            case AcknowledgeAlert():
                self._acknowledge(message)
            case ListSubscriptions():
                self._out.send({"type": "subscriptions", "ids": sorted(self._subscriptions)})

    def _set_rules(self, request: SetAlertRules) -> None:
        """Use other rules of alerts from now on. Raises `ProtocolError`."""
        self._rules.set(request.rules)
        names = [rule.name for rule in request.rules]
        self._audit.record(
            "alert.rules",
            tenant=self._principal.tenant,
            key=self._principal.key or None,
            peer=self._connection.peer or None,
            rules=names,
        )
        self._out.send({"type": "alert.rules", "names": names})

    def _acknowledge(self, request: AcknowledgeAlert) -> None:
        """Acknowledge an open alert. Raises `ProtocolError`, never fatal."""
        self._rules.check_scope()
        principal = self._principal
        stream = self._hub.find(principal, request.stream_id, request.tenant or "")
        if stream is None or not stream.acknowledge(request.id, principal.key):
            raise ProtocolError(
                "invalid_message",
                f"id: stream {request.stream_id!r} has no open alert {request.id!r}; it may have "
                "ended",
                param="id",
                fatal=False,
            )
        self._audit.record(
            "alert.acknowledge",
            tenant=principal.tenant,
            key=principal.key or None,
            peer=self._connection.peer or None,
            session_id=stream.session_id,
            alert=request.id,
        )
        self._out.send({"type": "alert.acknowledged", "id": request.id})

    def _check(self, request: Subscribe) -> None:
        """Raise `ProtocolError` if there are too many subscriptions, or the id is in use."""
        if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            raise ProtocolError(
                "quota_exceeded",
                f"at most {MAX_SUBSCRIPTIONS} subscriptions per connection; unsubscribe one first",
            )
        if sum(self._patterns.values()) + _patterns(request) > MAX_PATTERNS:
            raise ProtocolError(
                "quota_exceeded",
                f"filter: at most {MAX_PATTERNS} patterns in all subscriptions of a connection; "
                "use fewer, or a wildcard",
                param="filter",
            )
        if request.id in self._subscriptions:
            raise ProtocolError(
                "invalid_message",
                f"id: {request.id!r} is already in use; unsubscribe it or choose another id",
                param="id",
            )

    def _step(self) -> bool:
        """Go on with a subscription; return whether there is more to do."""
        end = time.perf_counter() + STEP_S
        while self._work is not None:
            try:
                next(self._work)
            except StopIteration:
                self._work = None
                self._connection.resume()
                self._handle_messages()
                return False
            except Exception:
                self._work = None
                log.exception("connection failed")
                self._connection.close(CloseCode.INTERNAL_ERROR, "")
                return False
            if time.perf_counter() > end:
                return True
        return False

    def _subscribe(self, request: Subscribe) -> Iterator[None]:
        """Make a subscription: the work grows with the patterns and with the live streams."""
        subscription = Subscription(request, self._out, asyncio.get_running_loop(), self._principal)
        matched = yield from self._hub.subscribing(subscription)
        self._subscriptions[request.id] = subscription
        self._patterns[request.id] = _patterns(request)
        self._audit.record(
            "subscribe",
            tenant=self._principal.tenant,
            key=self._principal.key or None,
            peer=self._connection.peer or None,
            streams=masked(request.filter.streams),
            filter=request.filter.model_dump(exclude={"streams"}),
            matched=len(matched),
        )
        self._out.send({"type": "subscribed", "id": request.id, "matched": len(matched)})
        if request.snapshot:
            streams = [subscription.snapshot(stream) for stream in matched]
            self._out.send({"type": "snapshot", "sub": request.id, "streams": streams})
        # A replay may fill half of the outbox, so that it does not displace new events. The rest is
        # reported as lagged.
        missed: deque[tuple[LiveStream, EncodedEvent]] = deque(
            maxlen=self._limits.subscriber_queue // 2
        )
        count = 0
        for stream in matched if request.since else ():
            last = subscription.replay_from(stream, request.since)
            if last is None:
                continue
            for event in stream.replay.shared_since(last):
                missed.append((stream, event))
                count += 1
        self._out.skip(count - len(missed))
        for stream, event in missed:
            subscription.replay(stream, event)

    def _close_soon(self, error: ProtocolError) -> None:
        self._closing = asyncio.create_task(self._out.close(error.close_code, error.code))


def _patterns(request: Subscribe) -> int:
    """Return the number of globs of a subscription that cost something."""
    wanted = request.filter
    return sum(pattern != "*" for pattern in (*wanted.streams, *wanted.events))
