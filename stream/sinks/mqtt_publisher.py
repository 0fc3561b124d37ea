"""Delivery to a broker that may be slow, unreachable, or lose its retained messages."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stream.config import MqttConfig
from stream.delivery.queues import ConflatingQueue
from stream.sinks.mqtt_connection import (
    IN_FLIGHT,
    BrokerRefused,
    BrokerUnavailable,
    MqttConnection,
    connect,
)
from stream.sinks.mqtt_retained import ExpiringMessage, Retained
from stream.sinks.mqtt_topics import Message

RETRY_S, RETRY_MAX_S = 0.2, 30.0
"""First and longest delay between two attempts to connect, in seconds."""
STABLE_S = 10.0
"""After a connection that lasted this many seconds the delay starts again at `RETRY_S`."""

log = logging.getLogger(__name__)


def _ignore(_: Any) -> None:
    pass


@dataclass(frozen=True, slots=True)
class MqttObserver:
    """Callbacks for metrics.

    `connected` gets True at every connect and False at every loss, the others get numbers of
    messages: `dropped` were pushed out of the outbox or expired, `failed` got no answer and are
    sent again.
    """

    connected: Callable[[bool], None] = _ignore
    sent: Callable[[int], None] = _ignore
    dropped: Callable[[int], None] = _ignore
    failed: Callable[[int], None] = _ignore


class Publisher:
    """Queues messages without blocking; `run` delivers them to one broker.

    A posted message waits in a queue of `mqtt.outbox` places and is sent until it is answered. Of
    the messages to retain, the newest per topic waits, and it is sent again after every connect.
    `births` returns the first messages of a connection; the broker publishes `will` when the
    connection breaks.
    """

    def __init__(
        self,
        config: MqttConfig,
        identifier: str,
        will: Message,
        births: Callable[[], Sequence[Message]],
        observer: MqttObserver,
    ) -> None:
        self._config = config
        self._broker = f"{config.host}:{config.port}"
        self._identifier = identifier
        self._will = will
        self._births = births
        self._observer = observer
        self._retained = Retained()
        # Items are topics to update, messages to send once, and None as the end marker.
        self._outbox: ConflatingQueue[str | ExpiringMessage | None] = ConflatingQueue(config.outbox)
        self._backlog: deque[str | ExpiringMessage] = deque()
        self._in_flight: dict[int, ExpiringMessage] = {}
        self._connection: MqttConnection | None = None
        self._up_since = math.inf
        self._broker_expires = True
        self._running = False
        self._stopping = asyncio.Event()
        self._finished = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Number of messages and topic updates not yet delivered to the broker."""
        return len(self._backlog) + len(self._outbox) + len(self._in_flight)

    def post(self, message: Message) -> None:
        """Queue a message to be sent once, in order; a full queue drops its oldest message."""
        before = self._outbox.dropped
        self._outbox.put(ExpiringMessage.at(message, time.monotonic()))
        if self._outbox.dropped > before:
            self._observer.dropped(self._outbox.dropped - before)

    def retain(self, message: Message) -> None:
        """Let the broker retain a message under its topic."""
        self._retained.set(message, time.monotonic())
        self._update(message.topic)

    def clear(self, topic: str) -> None:
        """Let the broker retain nothing under `topic`."""
        self._retained.clear(topic)
        self._update(topic)

    def expire(self) -> None:
        """Drop expired messages; delete those that the broker does not delete by itself."""
        for topic in self._retained.expire(time.monotonic(), self._broker_expires):
            self._update(topic)

    def retained(self) -> list[str]:
        """Return the topics under which a message is retained."""
        return self._retained.topics()

    def _update(self, topic: str) -> None:
        # Without a connection nothing is queued: a new connection updates all topics anyway, and
        # the queue would grow with every topic that is used meanwhile.
        if self._connection is not None:
            self._outbox.put(topic, key=topic)

    async def run(self) -> None:
        """Deliver until cancelled or stopped, despite any failure of the broker."""
        self._running = True
        try:
            await self._stay_connected()
        finally:
            self._running = False
            self._finished.set()

    async def stop(self, timeout_s: float) -> None:
        """Deliver all queued messages, disconnect, and end `run`.

        Without a connection there is one more attempt to connect. Returns after `timeout_s`
        seconds in any case.
        """
        if not self._running:
            return
        self._stopping.set()
        self._outbox.put(None)
        try:
            await asyncio.wait_for(self._finished.wait(), timeout_s)
        except TimeoutError:
            log.warning(
                "MQTT stop timed out",
                extra={"timeout_s": timeout_s, "undelivered": self.waiting},
            )

    async def _stay_connected(self) -> None:
        delay, last_reason = RETRY_S, ""
        while True:
            problem: BaseException | None = None
            self._up_since = math.inf
            try:
                await self._session()
            except* BrokerUnavailable as group:
                problem = _first_error(group)
            if problem is None or self._stopping.is_set():
                return
            was_up = self._up_since < math.inf
            if isinstance(problem, BrokerRefused):
                delay, message = RETRY_MAX_S, "MQTT connection refused"
            else:
                message = "MQTT connection lost" if was_up else "MQTT broker unreachable"
                if time.monotonic() - self._up_since > STABLE_S:
                    delay = RETRY_S
            reason = str(problem)
            # One warning per outage and reason; repetitions are logged at debug level.
            repeated = reason == last_reason and not was_up
            log.log(
                logging.DEBUG if repeated else logging.WARNING,
                message,
                extra={"broker": self._broker, "reason": reason},
            )
            last_reason = reason
            try:
                await asyncio.wait_for(self._stopping.wait(), delay * random.uniform(0.5, 1.0))
            except TimeoutError:
                delay = min(delay * 2, RETRY_MAX_S)

    async def _session(self) -> None:
        """Deliver over one connection until it is lost or, after `stop`, the queue is empty.

        Raises `BrokerUnavailable`.
        """
        connection = await connect(self._config, self._identifier, self._will)
        try:
            self._begin(connection)
            await self._deliver(connection)
            await connection.close()
        finally:
            self._connection = None
            connection.abort()
            self._observer.connected(False)
            self._observer.failed(len(self._in_flight))

    def _begin(self, connection: MqttConnection) -> None:
        """Queue the births, then all retained messages, then unanswered and unsent ones."""
        births = self._births()
        for message in births:
            self._retained.set(message, time.monotonic())
        topics = [message.topic for message in births] + self._retained.reconnected()
        unsent = [item for item in self._backlog if isinstance(item, ExpiringMessage)]
        self._backlog = deque([*topics, *self._in_flight.values(), *unsent])
        self._in_flight.clear()
        self._connection = connection
        self._up_since = time.monotonic()
        self._broker_expires = connection.expires
        self._observer.connected(True)
        log.info("MQTT connected", extra={"broker": self._broker, "protocol": connection.protocol})

    async def _deliver(self, connection: MqttConnection) -> None:
        slots = asyncio.Semaphore(IN_FLIGHT)
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(connection.wait_lost(), name="mqtt-watch")
            while True:
                await slots.acquire()
                item = self._backlog.popleft() if self._backlog else await self._outbox.get()
                if item is None:
                    break
                message = self._message(item)
                if message is None:
                    slots.release()
                    continue
                if isinstance(item, ExpiringMessage):
                    self._in_flight[id(item)] = item
                group.create_task(self._send(connection, item, message, slots), name="mqtt-publish")
            for _ in range(IN_FLIGHT - 1):
                await slots.acquire()
            watch.cancel()

    def _message(self, item: str | ExpiringMessage) -> Message | None:
        now = time.monotonic()
        if isinstance(item, str):
            return self._retained.next(item, now)
        message = item.remaining(now)
        if message is None:
            self._observer.dropped(1)
        return message

    async def _send(
        self,
        connection: MqttConnection,
        item: str | ExpiringMessage,
        message: Message,
        slots: asyncio.Semaphore,
    ) -> None:
        await connection.publish(message)
        self._observer.sent(1)
        if isinstance(item, ExpiringMessage):
            del self._in_flight[id(item)]
        elif not message.payload:
            self._retained.deleted(item)
        slots.release()


def _first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
