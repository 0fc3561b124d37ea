"""Sink of the history: a collector for each live stream, and copies of them in case of a crash."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from stream.config import HistoryConfig
from stream.delivery.live_stream import LiveStream
from stream.history.storage.identity import Identities
from stream.history.writing.collector import TYPES, Collector
from stream.history.writing.writer import Writer
from stream.protocol.events import EncodedEvent

SLICE: Final = 20
"""Streams that are copied at a time; other streams are served between."""


def new_uid() -> str:
    """Return the id of a session: random, so that none can be guessed."""
    return secrets.token_hex(16)


class HistorySink:
    """A `Sink` that writes each stream when it ends. Only the writer's thread waits."""

    def __init__(
        self, writer: Writer, config: HistoryConfig, node: str, identities: Identities
    ) -> None:
        self._writer = writer
        self._config = config
        self._node = node
        self._identities = identities
        self._collectors: dict[LiveStream, Collector] = {}
        self._bytes = 0
        """Of all collectors."""
        self._stopping = asyncio.Event()

    def opened(self, stream: LiveStream) -> None:
        collector = Collector(stream, new_uid(), self._node, self._identities)
        self._collectors[stream] = collector

    def event(self, stream: LiveStream, event: EncodedEvent) -> None:
        if event.type not in TYPES:
            return
        collector = self._collectors.get(stream)
        if collector is None:
            return
        before = collector.size
        collector.add(event.body, round(self._config.live_mb * 1e6) - self._bytes)
        self._bytes += collector.size - before

    def changed(self, stream: LiveStream) -> None:
        pass

    def closed(self, stream: LiveStream) -> None:
        collector = self._collectors.pop(stream, None)
        if collector is None:
            return
        self._bytes -= collector.size
        session = collector.record()
        if session is not None:
            self._writer.put(session)

    async def run(self) -> None:
        """Copy the live streams to the disk every `history.checkpoint_s` seconds, until stopped."""
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(self._config.checkpoint_s):
                    await self._stopping.wait()
            except TimeoutError:
                await self.checkpoint()

    async def checkpoint(self) -> None:
        """Copy the live streams, for the case that the process is killed."""
        collectors = [*self._collectors.items()]
        copies = []
        for begin in range(0, len(collectors), SLICE):
            for stream, collector in collectors[begin : begin + SLICE]:
                # One that ended meanwhile is in the queue by now.
                copy = collector.record() if stream in self._collectors else None
                if copy is not None:
                    copies.append(copy)
            await asyncio.sleep(0)
        self._writer.checkpoint(copies)

    async def stop(self, timeout_s: float) -> None:
        """Write what waits to the database, or at least to the spool."""
        self._stopping.set()
        await self.checkpoint()
        await asyncio.to_thread(self._writer.close, timeout_s * 0.9)
