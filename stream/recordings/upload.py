"""Upload of one recording: its file on disk, and the check of its size."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from stream.protocol.errors import ProtocolError
from stream.recordings.disk import DiskExecutor
from stream.recordings.store import PendingResult, ResultStore
from stream.recordings.writer import UPLOAD


class Upload:
    """One file on its way to the disk; create it with `Upload.open`. Its errors have its id."""

    def __init__(
        self,
        name: str,
        size: int | None,
        max_mb: float,
        disk: DiskExecutor,
        store: ResultStore,
        pending: PendingResult,
        file: BinaryIO,
    ) -> None:
        self.id = "file_" + secrets.token_hex(12)
        self.name = name
        self.size = size
        """Bytes that the client announced; None if it announced no size."""
        self.pending = pending
        self.received = 0
        self._max_mb = max_mb
        self._disk = disk
        self._store = store
        self._file = file

    @classmethod
    async def open(
        cls, name: str, size: int | None, max_mb: float, disk: DiskExecutor, store: ResultStore
    ) -> Upload:
        """Create the file of an upload of `size` bytes, None if that is not known.

        Raises `ProtocolError` for a size that is 0 or too large, and `OSError`.
        """
        if size is not None:
            check_size(size, max_mb)

        def create() -> tuple[PendingResult, BinaryIO]:
            pending = store.begin()
            try:
                return pending, (pending.folder / UPLOAD).open("wb")
            except OSError:
                store.discard(pending)
                raise

        def discard(created: tuple[PendingResult, BinaryIO]) -> None:
            pending, file = created
            file.close()
            store.discard(pending)

        pending, file = await disk.acquire(create, discard)
        return cls(name, size, max_mb, disk, store, pending, file)

    @property
    def log_id(self) -> str:
        """The first half of the id, for logs: over HTTP, the id gives access to the result."""
        return self.id[:17]

    @property
    def path(self) -> Path:
        """The uploaded file."""
        return self.pending.folder / UPLOAD

    @property
    def share(self) -> float:
        """The share of the announced bytes that was received, 0 to 1; 0 if none were announced."""
        return self.received / self.size if self.size else 0.0

    async def write(self, data: bytes) -> None:
        """Write the next bytes. Raises `ProtocolError` for too many, and `OSError`."""
        self.received += len(data)
        if self.size is None:
            if self.received > self._max_mb * 1e6:
                raise self.tag(too_large(self.received, self._max_mb))
        elif self.received > self.size:
            raise self._mismatch(f"received more than the {self.size} bytes announced")
        await self._disk.run(self._file.write, data)

    def check_complete(self) -> None:
        """Raise `ProtocolError` if fewer bytes were received than announced, or none at all."""
        if self.size is None:
            if not self.received:
                raise self.tag(_empty())
        elif self.received != self.size:
            raise self._mismatch(f"announced {self.size} bytes, received {self.received}")

    async def close(self) -> None:
        """Close the file. Raises `OSError`, also if buffered bytes cannot be written."""
        await self._disk.run(self._file.close)

    async def drop(self) -> None:
        """Remove the file and its folder."""

        def remove() -> None:
            with suppress(OSError):
                self._file.close()
            self._store.discard(self.pending)

        await self._disk.release(remove)

    def tag(self, error: ProtocolError) -> ProtocolError:
        """Set the `file_id` of an error; return the error."""
        error.file_id = self.id
        return error

    def _mismatch(self, reason: str) -> ProtocolError:
        return self.tag(
            ProtocolError("invalid_message", f"size: {reason}", param="size", fatal=False)
        )


def check_size(size: int, max_mb: float) -> None:
    """Raise `ProtocolError` for a size in bytes that is 0 or too large."""
    if not size:
        raise _empty()
    if size > max_mb * 1e6:
        raise too_large(size, max_mb)


def too_large(size: int, max_mb: float) -> ProtocolError:
    """Return the error for a file that has at least `size` bytes."""
    return ProtocolError(
        "file_too_large",
        f"the file has {size / 1e6:.1f} MB, the maximum is {max_mb:g} MB "
        "(files.max_mb): compress or cut it",
        param="size",
        fatal=False,
        values={"mb": round(size / 1e6, 1), "most_mb": max_mb},
    )


def _empty() -> ProtocolError:
    return ProtocolError(
        "empty_file", "the file is empty: choose the recording again", param="size", fatal=False
    )
