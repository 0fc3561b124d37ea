"""Delivery to a broker that may be slow, unreachable, or lose its retained messages."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from stream.config import MqttConfig
from stream.delivery.queues import ConflatingQueue
from stream.sinks.mqtt.client import Answer
from stream.sinks.mqtt.connection import MqttConnection, connect
from stream.sinks.mqtt.diagnosis import Diagnosis
from stream.sinks.mqtt.errors import BrokerDisconnected, BrokerRefused, BrokerUnavailable
from stream.sinks.mqtt.limits import MessageRefused
from stream.sinks.mqtt.message import Message, deletion
from stream.sinks.mqtt.observer import MqttObserver
from stream.sinks.mqtt.retained import ExpiringMessage, Retained
from stream.sinks.mqtt.scan import Scan
from stream.sinks.mqtt.topics import Topics

log = logging.getLogger(__name__)

_END: Final = object()
"""Key of the end marker."""


class Publisher:
    """Queues messages without blocking; `run` delivers them to one broker.

    A posted message waits in a queue of `mqtt.outbox` places and `mqtt.outbox_mb` MiB, and is sent
    until it is answered. Of the messages to retain, the newest per topic waits; it is sent again
    after every connect. `births` returns the first messages of a connection, on which `scan` runs;
    when it breaks, the broker publishes the status "offline".
    """

    def __init__(
        self,
        config: MqttConfig,
        topics: Topics,
        identifier: str,
        births: Callable[[], Sequence[Message]],
        scan: Scan,
        observer: MqttObserver,
    ) -> None:
        self._config = config
        self._broker = f"{config.host}:{config.port}"
        self._topics = topics
        self._identifier = identifier
        self._births = births
        self._scan = scan
        self._observer = observer
        self._diagnosis = Diagnosis(config.prefix)
        self.taken_over = False
        """True if another server with the name of this node publishes the topics of the node."""
        self._retained = Retained()
        # Items are topics to update, messages to send once, and None as the end marker.
        self._outbox: ConflatingQueue[str | ExpiringMessage | None] = ConflatingQueue(
            config.outbox, config.outbox_mb << 20, _size
        )
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
        """Queue a message to be sent once, in order; a full queue drops its oldest minor one."""
        before = self._outbox.dropped
        item = ExpiringMessage.at(message, time.monotonic())
        self._outbox.put(item, minor=message.minor)
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
        connected = self._connection is not None
        for topic in self._retained.expire(time.monotonic(), self._broker_expires, connected):
            self._update(topic)

    def left(self, topic: str) -> None:
        """Assume that the broker retains a message of an earlier process under `topic`."""
        self._retained.left_behind(topic)

    def retains(self, topic: str) -> bool:
        """Return whether a message is to be retained under `topic`."""
        return topic in self._retained

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

        Expiring messages are deleted last on a broker that does not expire them (MQTT 3.1.1).
        Without a connection, or if it is lost meanwhile, there is one more attempt to connect.
        Returns after `timeout_s` seconds in any case.
        """
        if not self._running:
            return
        self._stopping.set()
        if self._connection is not None and not self._broker_expires:
            # No process will delete them later. They follow the last JSON of their topics.
            for topic in self._retained.expiring():
                self.post(deletion(topic))
        self._outbox.put(None, key=_END)
        try:
            await asyncio.wait_for(self._finished.wait(), timeout_s)
        except TimeoutError:
            log.warning(
                "MQTT stop timed out",
                extra={"timeout_s": timeout_s, "undelivered": self.waiting},
            )
        else:
            self._give_up()

    def _give_up(self) -> None:
        """Count and log the messages that no connection will take any more."""
        rest = [*self._backlog, *(self._outbox.pop() for _ in range(len(self._outbox)))]
        left = len(self._in_flight) + sum(isinstance(item, ExpiringMessage) for item in rest)
        if left:
            self._observer.dropped(left)
            log.warning("MQTT messages undelivered", extra={"messages": left})

    async def _stay_connected(self) -> None:
        outages, last_reason = self._diagnosis.outages, ""
        last_attempt = False
        while True:
            problem: BaseException | None = None
            self._up_since = math.inf
            try:
                await self._session()
            except* BrokerUnavailable as group:
                problem = _first_error(group)
            was_up = self._up_since < math.inf
            if problem is None or (self._stopping.is_set() and (last_attempt or not was_up)):
                return
            last_attempt = self._stopping.is_set()
            assert isinstance(problem, BrokerUnavailable)
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # A task group whose tasks fail while it is cancelled raises their errors only.
                raise asyncio.CancelledError
            reason = str(problem)
            # One warning per outage and reason; repetitions are logged at debug level, also those
            # of connections that end right after they began.
            repeated = reason == last_reason and (not was_up or outages.careful)
            if isinstance(problem, BrokerRefused):
                outages.refused()
                text = "MQTT connection refused"
            else:
                text = "MQTT connection lost" if was_up else "MQTT broker unreachable"
            log.log(
                logging.DEBUG if repeated else logging.WARNING,
                text,
                extra={"broker": self._broker, "reason": reason},
            )
            last_reason = reason
            up_s = time.monotonic() - self._up_since if was_up else None
            if self._diagnosis.ended(problem, up_s):
                self._change_identifier(problem)
            try:
                delay = outages.delay_s * random.uniform(0.5, 1.0)
                await asyncio.wait_for(self._stopping.wait(), delay)
            except TimeoutError:
                outages.waited()

    def _change_identifier(self, problem: BrokerUnavailable) -> None:
        """Leave the identifier to another server.

        Connecting again with it would end the other connection, which then would do the same, for
        ever.
        """
        used = self._identifier
        self._identifier = f"{used.rpartition('~')[0] or used}~{secrets.token_hex(4)}"
        self._diagnosis.outages.settled()
        certain = isinstance(problem, BrokerDisconnected)
        if certain and not self.taken_over:
            self.taken_over = True
            for leaf in ("status", "info", "stats"):
                self._retained.forget(self._topics.of_node(leaf))
        log.error(
            "MQTT client identifier is used by another server"
            if certain
            else "MQTT connections keep ending: another server may use this client identifier",
            extra={
                "identifier": used,
                "continues_as": self._identifier,
                "remedy": "give each server its own server.node, then restart this one",
            },
        )

    async def _session(self) -> None:
        """Deliver over one connection until it is lost or, after `stop`, the queue is empty.

        Raises `BrokerUnavailable`.
        """
        # The topics of the node belong to the other server then, its status as well.
        will = None if self.taken_over else self._topics.status(False)
        self._diagnosis.connecting()
        connection = await connect(self._config, self._identifier, will)
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
        if self._stopping.is_set():
            self._outbox.put(None, key=_END)  # the lost connection may have taken it
        self._connection = connection
        self._up_since = time.monotonic()
        self._broker_expires = connection.expires
        self._observer.connected(True)
        log.info("MQTT connected", extra={"broker": self._broker, "protocol": connection.protocol})
        if not connection.limits.retain and self._diagnosis.first(0, "retain"):
            log.warning(
                "MQTT broker does not retain messages: new subscribers see a state only when it "
                "changes",
                extra={"broker": self._broker, "remedy": "permit retained messages"},
            )

    async def _deliver(self, connection: MqttConnection) -> None:
        places = 1 if self._diagnosis.outages.careful else connection.in_flight
        slots = asyncio.Semaphore(places)
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(connection.wait_lost(), name="mqtt-watch"),
                group.create_task(self._scan.run(connection), name="mqtt-scan"),
            ]
            at_once = 0
            while True:
                await slots.acquire()
                item = self._backlog.popleft() if self._backlog else await self._outbox.get()
                if item is None:
                    break
                message = self._message(item)
                # Sent here and not in a task of its own, because each turn of a busy event loop
                # takes milliseconds, and the broker permits only so many messages at a time.
                answer = None if message is None else self._send(connection, item, message)
                if message is not None and answer is not None:
                    waiting = self._answered(connection, item, message, answer, slots)
                    group.create_task(waiting, name="mqtt-publish")
                    continue
                slots.release()
                at_once += 1
                if at_once % places == 0:
                    await asyncio.sleep(0)
            for _ in range(places - 1):
                await slots.acquire()
            for task in background:
                task.cancel()

    def _message(self, item: str | ExpiringMessage) -> Message | None:
        now = time.monotonic()
        if isinstance(item, str):
            return self._retained.next(item, now)
        message = item.remaining(now)
        if message is None:
            self._observer.dropped(1)
        return message

    def _send(
        self, connection: MqttConnection, item: str | ExpiringMessage, message: Message
    ) -> Answer | None:
        """Send a message; return the answer to come, None if there is none."""
        diagnosis = self._diagnosis
        if diagnosis.drops(message):
            self._observer.refused(1)
            return None
        if isinstance(item, ExpiringMessage):
            self._in_flight[id(item)] = item
        diagnosis.sending(message)
        try:
            # Only an answer tells whether the broker took the message.
            careful = replace(message, qos=1) if diagnosis.outages.careful else message
            answer = connection.send(careful)
        except MessageRefused as refusal:
            self._refused(item, message, refusal)
            return None
        if answer is None:
            self._sent(item, message)
        return answer

    async def _answered(
        self,
        connection: MqttConnection,
        item: str | ExpiringMessage,
        message: Message,
        answer: Answer,
        slots: asyncio.Semaphore,
    ) -> None:
        try:
            await connection.answered(answer)
        except MessageRefused as refusal:
            self._refused(item, message, refusal)
        else:
            self._sent(item, message)
        slots.release()

    def _sent(self, item: str | ExpiringMessage, message: Message) -> None:
        self._diagnosis.sent(message)
        self._observer.sent(1)
        if isinstance(item, str) and not message.payload:
            self._retained.deleted(item)
        self._in_flight.pop(id(item), None)

    def _refused(
        self, item: str | ExpiringMessage, message: Message, refusal: MessageRefused
    ) -> None:
        self._diagnosis.refused(message, refusal)
        self._observer.refused(1)
        self._in_flight.pop(id(item), None)


def _size(item: str | ExpiringMessage | None) -> int:
    return item.message.size if isinstance(item, ExpiringMessage) else 0


def _first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
