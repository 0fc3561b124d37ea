"""Bytes that a connection received and has not parsed yet: bounded, and parsed in a fair order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from stream.server.connections.fair_queue import FairQueue, Usage

log = logging.getLogger(__name__)

PIECE = 4_096
"""Bytes that are parsed at a time: some 700 of the smallest frames, a few milliseconds of work."""


class Intake:
    """Input of one connection: calls `parse` with pieces of at most `PIECE` bytes.

    What one read of the socket returned (at most 256 KiB) is held until it is parsed, and the
    socket is not read meanwhile. `wait_s` returns the seconds until the connection may go on,
    `behind` whether it has not handled all of the last piece: then `parse` gets no bytes.
    """

    def __init__(
        self,
        queue: FairQueue,
        usage: Usage,
        transport: asyncio.Transport,
        parse: Callable[[bytes], None],
        wait_s: Callable[[], float] = lambda: 0.0,
        behind: Callable[[], bool] = lambda: False,
    ) -> None:
        self._queue = queue
        self._usage = usage
        self._transport = transport
        self._parse = parse
        self._wait_s = wait_s
        self._behind = behind
        self._held, self._at = b"", 0
        """Bytes received, and the number of them that are parsed."""
        self._is_queued = False
        self._is_reading = True
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.paused = False

    def feed(self, data: bytes) -> None:
        """Parse bytes that were received, now or later."""
        if self._is_idle and len(data) <= PIECE and self._wait_s() <= 0 and self._at_once(data):
            return
        self._held = self._held[self._at :] + data if self._at < len(self._held) else data
        self._at = 0
        self._continue()

    @property
    def _is_idle(self) -> bool:
        """True if nothing is held or waited for."""
        return (
            not (self._held or self._is_queued or self.paused or self._closed or self._behind())
            and self._timer is None
        )

    def _at_once(self, data: bytes) -> bool:
        """Parse a piece if the connection need not wait for others; return whether it was."""
        # As in `_step`: a message may pause and resume this connection.
        self._is_queued = True
        try:
            parsed = self._queue.run_at_once(self._usage, self._parse, data)
        except Exception:
            self._fail()
            return True
        finally:
            self._is_queued = False
        if parsed and (self.paused or self._behind()):
            self._continue()
        return parsed

    def pause(self) -> None:
        """Stop; a few messages of the piece that is being parsed may still arrive."""
        self.paused = True
        self._read(False)

    def resume(self) -> None:
        """Go on after `pause`."""
        if self.paused:
            self.paused = False
            self._continue()

    def close(self) -> None:
        """Drop what is not parsed; call when the connection is lost."""
        self._closed = True
        self._held = b""
        if self._timer is not None:
            self._timer.cancel()

    def _continue(self) -> None:
        """Parse the bytes held, or read more."""
        if self._closed or self._is_queued or self._timer is not None:
            return
        if not self._may_step():
            return
        self._is_queued = True
        self._queue.run(self._usage, self._step)
        if self._is_queued:
            self._read(False)

    def _may_step(self) -> bool:
        """Return whether a piece may be parsed; if not, prepare for what comes next."""
        if self._closed:
            return False
        if self._at >= len(self._held) and not self._behind():
            self._held, self._at = b"", 0
            self._read(not self.paused)
            return False
        if self.paused:
            self._read(False)
            return False
        wait_s = self._wait_s()
        if wait_s > 0:
            self._read(False)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._waited)
            return False
        return True

    def _step(self) -> bool:
        # Still counted as queued meanwhile: a message may pause and resume this connection.
        if self._may_step():
            piece = b"" if self._behind() else self._held[self._at : self._at + PIECE]
            self._at += len(piece)
            try:
                self._parse(piece)
            except Exception:
                self._fail()
            self._is_queued = self._may_step()
        else:
            self._is_queued = False
        return self._is_queued

    def _fail(self) -> None:
        """End the connection after a fault of ours."""
        log.exception("connection failed")
        self._transport.abort()
        self.close()

    def _waited(self) -> None:
        self._timer = None
        self._continue()

    def _read(self, wanted: bool) -> None:
        if wanted is self._is_reading or self._transport.is_closing():
            return
        self._is_reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()
