"""TCP proxy that delays, slows, slices, stalls, half-closes and resets the connections through it.

Each direction is a `Link` with its own faults, which a test may change at any time. At most
`Link.LIMIT` bytes wait in a direction; then the proxy stops reading, as a full TCP window would.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections import deque

from tests.support.tcp_server import TcpServer

READ = 65_536
TICK_S = 0.005


class Link:
    """Faults of one direction; they apply to all connections."""

    LIMIT = 1_048_576
    """Bytes that may wait in this direction of one connection."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        """Seconds that every byte waits; the throughput stays the same."""
        self.bytes_per_s = 0.0
        """Throughput; 0 for no limit."""
        self.piece = 0
        """Largest number of bytes that are written at a time; 0 for no limit."""
        self.stalled = False
        """True if bytes are kept instead of forwarded, as on a path that lost its packets."""
        self.forwarded = 0
        """Bytes that were written so far."""


class _Pipe:
    """One direction of one connection: a task reads, another writes what is due."""

    def __init__(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._link = link
        self._reader = reader
        self._writer = writer
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._ended = False

    async def run(self) -> None:
        """Forward until the sender ends its side; then end the other side likewise."""
        reading = asyncio.create_task(self._read())
        try:
            await self._write()
            if self._writer.can_write_eof() and not self._writer.is_closing():
                self._writer.write_eof()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(READ):
                self._waiting.append((time.monotonic(), data))
                self._size += len(data)
                while self._size >= self._link.LIMIT:  # noqa: ASYNC110
                    await asyncio.sleep(TICK_S)
        finally:
            self._ended = True

    async def _write(self) -> None:
        link = self._link
        while self._waiting or not self._ended:
            if link.stalled or not self._waiting:
                await asyncio.sleep(TICK_S)
                continue
            came, data = self._waiting[0]
            wait = came + link.delay_s - time.monotonic()
            if wait > 0:
                await asyncio.sleep(min(wait, TICK_S))
                continue
            size = min(len(data), link.piece or len(data))
            if link.bytes_per_s:
                size = min(size, max(1, round(link.bytes_per_s * TICK_S)))
            self._waiting[0] = (came, data[size:])
            if size == len(data):
                self._waiting.popleft()
            self._size -= size
            self._writer.write(data[:size])
            await self._writer.drain()
            link.forwarded += size
            if link.bytes_per_s:
                await asyncio.sleep(size / link.bytes_per_s)
            elif link.piece:
                await asyncio.sleep(0)


class TcpProxy(TcpServer):
    """Proxy in front of `host`:`port`.

    `up` is the direction from the clients to the target, `down` the other one.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        super().__init__()
        self.up, self.down = Link(), Link()
        self.refusing = False
        """True if new connections are reset at once."""
        self._target = (host, port)
        self._targets: set[asyncio.StreamWriter] = set()

    @property
    def open(self) -> int:
        """Number of connections that have both of their sockets."""
        return len(self._targets)

    def stall(self) -> None:
        """Keep all bytes of both directions: each side sees a peer that went silent."""
        self.up.stalled = self.down.stalled = True

    def release(self) -> None:
        """Forward again, first what was kept."""
        self.up.stalled = self.down.stalled = False

    def reset(self) -> None:
        """Reset all connections (RST) on both sides, and drop what waits."""
        for writer in (*self._clients, *self._targets):
            _reset(writer)

    def end_clients(self) -> None:
        """End the direction to the clients (FIN); the clients may still send."""
        _half_close(self._clients)

    def end_targets(self) -> None:
        """End the direction to the target (FIN); the target may still send."""
        _half_close(self._targets)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            _reset(writer)
            return
        await self.forward(reader, writer)

    async def forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes = b""
    ) -> None:
        """Forward a connection to the target, after what was read of it already."""
        from_target, to_target = await asyncio.open_connection(*self._target)
        self._targets.add(to_target)
        to_target.write(head)
        pipes = [
            asyncio.create_task(_Pipe(self.up, reader, to_target).run()),
            asyncio.create_task(_Pipe(self.down, from_target, writer).run()),
        ]
        try:
            await asyncio.gather(*pipes)
        finally:
            for pipe in pipes:
                pipe.cancel()
            await asyncio.gather(*pipes, return_exceptions=True)
            self._targets.discard(to_target)
            to_target.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close at once with RST instead of FIN (SO_LINGER with a time of 0)."""
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _half_close(writers: set[asyncio.StreamWriter]) -> None:
    for writer in writers:
        with contextlib.suppress(OSError):
            if writer.can_write_eof() and not writer.is_closing():
                writer.write_eof()
