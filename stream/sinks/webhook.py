"""Sink of alerts to webhooks: signed, at least once, in order, across restarts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stream.config import WebhookConfig
from stream.delivery.live_stream import LiveStream
from stream.protocol.events import EncodedEvent
from stream.sinks.webhook_message import (
    Delivery,
    delivery,
    headers,
    outcome,
    serves,
)
from stream.sinks.webhook_outbox import Committed, DiskOutbox, NewMessage
from stream.sinks.webhook_post import Poster, Unreachable
from stream.types import timestamp

log = logging.getLogger(__name__)

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 300.0
"""Shortest and longest wait after a failed attempt; each is twice the one before, with jitter."""

MAX_UNWRITTEN = 1_000
"""Messages that may wait for the disk; beyond it new ones are dropped."""

MAX_COMMIT = 64
"""Messages that are written together; all that came while those before were written."""

LOG_INTERVAL_S = 60.0

Count = Callable[[str, str, int], None]
"""Receives a webhook's name, an outcome, and a number of messages."""


class WebhookSink:
    """A `Sink` of the events `alert`; each webhook has its own outbox, task and threads."""

    def __init__(
        self, webhooks: Mapping[str, WebhookConfig], folder: Path, node: str, count: Count
    ) -> None:
        self._node = node
        self._webhooks = [
            Webhook(name, config, folder / name, count) for name, config in webhooks.items()
        ]

    def opened(self, stream: LiveStream) -> None:
        pass

    def event(self, stream: LiveStream, event: EncodedEvent) -> None:
        if event.type != "alert":
            return
        body = event.body
        for webhook in self._webhooks:
            if serves(webhook.tenant, stream):
                webhook.add(delivery(stream, body, self._node), body["id"], body["state"])

    def changed(self, stream: LiveStream) -> None:
        pass

    def closed(self, stream: LiveStream) -> None:
        pass

    async def run(self) -> None:
        """Deliver until cancelled or stopped."""
        async with asyncio.TaskGroup() as group:
            for webhook in self._webhooks:
                group.create_task(webhook.run(), name="webhook")

    async def stop(self, timeout_s: float) -> None:
        """Write what waits, and deliver for at most `timeout_s` seconds; the rest stays on disk."""
        await asyncio.gather(*(webhook.stop(timeout_s) for webhook in self._webhooks))


class Webhook:
    """One receiver: messages to the disk in one thread, from there to the network in another."""

    def __init__(self, name: str, config: WebhookConfig, folder: Path, count: Count) -> None:
        self.tenant = config.tenant
        self._name = name
        self._config = config
        self._key = config.key
        self._outbox = DiskOutbox(folder)
        self._count = count
        self._disk = ThreadPoolExecutor(1, f"webhook-disk-{name}")
        self._network = ThreadPoolExecutor(1, f"webhook-{name}")
        self._poster = Poster(config.url, config.timeout_s, config.allow_private)
        self._loading: asyncio.Future[int] | None = None
        self._unwritten: deque[NewMessage] = deque()
        self._writing = 0
        """Messages that are being written."""
        self._commit: asyncio.Future[Committed] | None = None
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._next_log = 0.0

    def add(self, message: Delivery, alert_id: str, state: str) -> None:
        """Queue a message for the disk; the disk's thread keeps the order."""
        if len(self._unwritten) + self._writing >= MAX_UNWRITTEN:
            self._count(self._name, "dropped", 1)
            return
        self._unwritten.append(NewMessage(message, alert_id, state))
        self._write()

    def _write(self) -> None:
        """Write what waits for the disk, unless that is being done."""
        if self._commit is not None:
            return
        self._load()
        messages = self._next_messages()
        self._writing = len(messages)
        self._commit = asyncio.get_running_loop().run_in_executor(
            self._disk, self._outbox.commit, messages
        )
        self._commit.add_done_callback(self._written)

    def _next_messages(self) -> list[NewMessage]:
        count = min(MAX_COMMIT, len(self._unwritten))
        return [self._unwritten.popleft() for _ in range(count)]

    def _load(self) -> asyncio.Future[int]:
        """Queue the loading of what an earlier process left, before the first message."""
        if self._loading is None:
            self._loading = asyncio.get_running_loop().run_in_executor(
                self._disk, self._outbox.load, timestamp(time.time())
            )
        return self._loading

    def _written(self, commit: asyncio.Future[Committed]) -> None:
        self._commit, count = None, self._writing
        self._writing = 0
        if commit.cancelled():
            return
        error = commit.exception()
        done = Committed(0, count, None) if error else commit.result()
        if done.unwritten:
            self._count(self._name, "dropped", done.unwritten)
            reason = str(error or done.error)
            log.error("alert not written", extra={"webhook": self._name, "reason": reason})
        if done.dropped:
            self._count(self._name, "dropped", done.dropped)
        if (self._unwritten or self._outbox.is_stale) and not self._ended.is_set():
            self._write()
        self._changed.set()

    async def run(self) -> None:
        """Deliver the oldest message until it is taken, then the next."""
        try:
            waiting = await self._load()
        except OSError:
            self._loading = None  # `keep_running` tries again
            raise
        if waiting:
            log.info("alerts of an earlier process found", extra={"alerts": waiting})
        loop, retry_s = asyncio.get_running_loop(), FIRST_RETRY_S
        try:
            while True:
                self._changed.clear()
                message = self._outbox.peek()
                if message is None and len(self._outbox):
                    message = await loop.run_in_executor(self._disk, self._outbox.first)
                if message is None:
                    if self._stopping.is_set() and not (self._unwritten or self._writing):
                        return
                    await self._changed.wait()
                    continue
                result, wait_s = await self._attempt(message)
                self._count(self._name, result, 1)
                if result != "failed":
                    self._outbox.pop(message)
                    self._write()  # deletes its file
                    retry_s = FIRST_RETRY_S
                    continue
                pause_s = min(LAST_RETRY_S, max(wait_s or 0.0, retry_s))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s * random.uniform(0.75, 1.0)):
                        await self._stopping.wait()
                if self._stopping.is_set():
                    return
                retry_s = min(2 * retry_s, LAST_RETRY_S)
        finally:
            self._poster.abort()
            self._network.submit(self._poster.close)
            self._ended.set()

    async def _attempt(self, message: Delivery) -> tuple[str, float | None]:
        signed = headers(message, self._key, int(time.time()))
        sending = asyncio.get_running_loop().run_in_executor(
            self._network, self._poster.post, message.body, signed
        )
        # The timeout of the socket restarts with every byte.
        deadline = asyncio.get_running_loop().call_later(
            3 * self._config.timeout_s, self._poster.abort
        )
        try:
            status, wait_s = await sending
        except Unreachable as error:
            self._report("webhook not reached", str(error))
            return "failed", None
        finally:
            deadline.cancel()
        result = outcome(status)
        if result != "delivered":
            self._report("webhook did not take an alert", f"HTTP status {status}")
        return result, wait_s

    def _report(self, message: str, reason: str) -> None:
        """Log a failure, at most once a minute for each webhook."""
        now = time.monotonic()
        if now >= self._next_log:
            self._next_log = now + LOG_INTERVAL_S
            log.warning(message, extra={"webhook": self._name, "reason": reason})

    async def stop(self, timeout_s: float) -> None:
        """End `run` once nothing waits, at the next failure, or after `timeout_s` seconds."""
        self._stopping.set()
        self._changed.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ended.wait()
        self._poster.abort()
        # What is still to be written is written before the process exits.
        while messages := self._next_messages():
            self._disk.submit(self._outbox.commit, messages)
        self._disk.submit(self._outbox.commit)
        self._disk.shutdown(wait=False)
        self._network.shutdown(wait=False)
