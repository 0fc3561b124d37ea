"""Messages to a broker that may be slow, away, or forget everything."""

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
    BrokerGone,
    BrokerRefused,
    MqttConnection,
    connect,
)
from stream.sinks.mqtt_retained import Dated, Retained
from stream.sinks.mqtt_topics import Message

RETRY_S, RETRY_MAX_S = 0.2, 30.0
STABLE_S = 10.0
"""A connection that held this long is no reason to wait before the next."""

log = logging.getLogger(__name__)


def _ignore(_: Any) -> None:
    pass


@dataclass(frozen=True, slots=True)
class MqttObserver:
    """What metrics want to know: True at every connect and False at every loss, and counts.

    `dropped` were pushed out of the outbox or too old, `failed` had no answer and are sent again.
    """

    connected: Callable[[bool], None] = _ignore
    sent: Callable[[int], None] = _ignore
    dropped: Callable[[int], None] = _ignore
    failed: Callable[[int], None] = _ignore


class Publisher:
    """Says everything to one broker, at once for who calls, in `run` for the broker.

    What is posted waits in a queue of `mqtt.outbox` places and is sent until it is answered; what
    is to be retained waits as the newest per topic and is told again after every connect. `births`
    are the messages each connection begins with, `will` its last one when it breaks.
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
        self._identifier = identifier
        self._will = will
        self._births = births
        self._observer = observer
        self._retained = Retained()
        # A topic to bring up to date, a message to send once, or None: nothing comes after.
        self._outbox: ConflatingQueue[str | Dated | None] = ConflatingQueue(config.outbox)
        self._first: deque[str | Dated] = deque()
        self._in_flight: dict[int, Dated] = {}
        self._link: MqttConnection | None = None
        self._up_since = math.inf
        self._broker_expires = True
        self._running = False
        self._stopping = asyncio.Event()
        self._finished = asyncio.Event()

    @property
    def waiting(self) -> int:
        """What is not yet with the broker: messages, and topics to bring up to date."""
        return len(self._first) + len(self._outbox) + len(self._in_flight)

    def post(self, message: Message) -> None:
        """Send once, in order; of too many that wait the oldest is dropped."""
        before = self._outbox.dropped
        self._outbox.put(Dated.at(message, time.monotonic()))
        if self._outbox.dropped > before:
            self._observer.dropped(self._outbox.dropped - before)

    def retain(self, message: Message) -> None:
        """Let the broker retain this under its topic."""
        self._retained.want(message, time.monotonic())
        self._look_at(message.topic)

    def clear(self, topic: str) -> None:
        """Let the broker retain nothing under `topic`."""
        self._retained.unwant(topic)
        self._look_at(topic)

    def expire(self) -> None:
        """Forget what is out of date; delete it where the broker does not by itself."""
        for topic in self._retained.expire(time.monotonic(), self._broker_expires):
            self._look_at(topic)

    def retained(self) -> list[str]:
        """The topics under which something is retained."""
        return self._retained.topics()

    def _look_at(self, topic: str) -> None:
        # While the broker is away nothing is queued here: connecting looks at every topic anyway,
        # and the queue would grow with every topic that comes and goes meanwhile.
        if self._link is not None:
            self._outbox.put(topic, key=topic)

    async def run(self) -> None:
        """Deliver until cancelled or stopped; outlives every failure of the broker."""
        self._running = True
        try:
            await self._stay_connected()
        finally:
            self._running = False
            self._finished.set()

    async def stop(self, timeout_s: float) -> None:
        """End `run` once all that waits is said and the broker was told goodbye.

        A broker that is away gets one more chance. Returns after `timeout_s` in any case.
        """
        if not self._running:
            return
        self._stopping.set()
        self._outbox.put(None)
        try:
            await asyncio.wait_for(self._finished.wait(), timeout_s)
        except TimeoutError:
            log.warning("MQTT: gave up after %g s with %d undelivered", timeout_s, self.waiting)

    async def _stay_connected(self) -> None:
        delay, said = RETRY_S, ""
        while True:
            problem: BaseException | None = None
            self._up_since = math.inf
            try:
                await self._session()
            except* BrokerGone as group:
                problem = _first(group)
            if problem is None or self._stopping.is_set():
                return
            was_up = self._up_since < math.inf
            if isinstance(problem, BrokerRefused):
                delay, what = RETRY_MAX_S, "refused us"
            else:
                what = "was lost" if was_up else "is not reachable"
                if time.monotonic() - self._up_since > STABLE_S:
                    delay = RETRY_S
            # Once per outage and reason; the rest is for who looks for it.
            known = str(problem) == said and not was_up
            log.log(
                logging.DEBUG if known else logging.WARNING,
                "MQTT: %s:%d %s: %s; trying again",
                self._config.host,
                self._config.port,
                what,
                problem,
            )
            said = str(problem)
            try:
                await asyncio.wait_for(self._stopping.wait(), delay * random.uniform(0.5, 1.0))
            except TimeoutError:
                delay = min(delay * 2, RETRY_MAX_S)

    async def _session(self) -> None:
        """One connection, until it is lost (`BrokerGone`) or all is said after `stop`."""
        link = await connect(self._config, self._identifier, self._will)
        try:
            self._begin(link)
            await self._deliver(link)
            await link.close()
        finally:
            self._link = None
            link.abort()
            self._observer.connected(False)
            self._observer.failed(len(self._in_flight))

    def _begin(self, link: MqttConnection) -> None:
        """Births first, then all that is retained, then what the last link left unanswered."""
        births = self._births()
        for message in births:
            self._retained.want(message, time.monotonic())
        topics = [message.topic for message in births] + self._retained.reconnected()
        left = [item for item in self._first if isinstance(item, Dated)]
        self._first = deque([*topics, *self._in_flight.values(), *left])
        self._in_flight.clear()
        self._link = link
        self._up_since = time.monotonic()
        self._broker_expires = link.expires
        self._observer.connected(True)
        log.info("MQTT: %s:%d by %s", self._config.host, self._config.port, link.protocol)

    async def _deliver(self, link: MqttConnection) -> None:
        free = asyncio.Semaphore(IN_FLIGHT)
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(link.lost(), name="mqtt-watch")
            while True:
                await free.acquire()
                item = self._first.popleft() if self._first else await self._outbox.get()
                if item is None:
                    break
                message = self._message(item)
                if message is None:
                    free.release()
                    continue
                if isinstance(item, Dated):
                    self._in_flight[id(item)] = item
                group.create_task(self._send(link, item, message, free), name="mqtt-publish")
            for _ in range(IN_FLIGHT - 1):
                await free.acquire()
            watch.cancel()

    def _message(self, item: str | Dated) -> Message | None:
        now = time.monotonic()
        if isinstance(item, str):
            return self._retained.next(item, now)
        message = item.left(now)
        if message is None:
            self._observer.dropped(1)
        return message

    async def _send(
        self, link: MqttConnection, item: str | Dated, message: Message, free: asyncio.Semaphore
    ) -> None:
        await link.publish(message)
        self._observer.sent(1)
        if isinstance(item, Dated):
            del self._in_flight[id(item)]
        elif not message.payload:
            self._retained.deleted(item)
        free.release()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
