"""Upload of one recording: its file on disk, and the check of its announced size."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from stream.protocol.errors import ProtocolError
from stream.protocol.messages import FileBegin
from stream.recordings.disk import DiskExecutor
from stream.recordings.store import PendingResult, ResultStore
from stream.recordings.writer import UPLOAD


class Upload:
    """One file on its way to the disk; create it with `Upload.open`. Its errors have its id."""

    def __init__(
        self,
        begin: FileBegin,
        disk: DiskExecutor,
        store: ResultStore,
        pending: PendingResult,
        file: BinaryIO,
    ) -> None:
        self.id = "file_" + secrets.token_hex(12)
        self.begin = begin
        self.pending = pending
        self.received = 0
        self._disk = disk
        self._store = store
        self._file = file

    @classmethod
    async def open(
        cls, begin: FileBegin, max_mb: float, disk: DiskExecutor, store: ResultStore
    ) -> Upload:
        """Create the file of an announced upload.

        Raises `ProtocolError` for a size that is 0 or too large, and `OSError`.
        """
        if not begin.size:
            raise ProtocolError(
                "empty_file",
                "the file is empty: choose the recording again",
                param="size",
                fatal=False,
            )
        if begin.size > max_mb * 1e6:
            raise ProtocolError(
                "file_too_large",
                f"the file has {begin.size / 1e6:.1f} MB, the maximum is {max_mb:g} MB "
                "(files.max_mb): compress or cut it",
                param="size",
                fatal=False,
                values={"mb": round(begin.size / 1e6, 1), "most_mb": max_mb},
            )
        pending = await disk.run(store.begin)
        try:
            file = await disk.run((pending.folder / UPLOAD).open, "wb")
        except OSError:
            await disk.run(store.discard, pending)
            raise
        return cls(begin, disk, store, pending, file)

    @property
    def path(self) -> Path:
        """The uploaded file."""
        return self.pending.folder / UPLOAD

    @property
    def share(self) -> float:
        """The share of the announced bytes that was received, 0 to 1."""
        return self.received / self.begin.size

    async def write(self, data: bytes) -> None:
        """Write the next bytes. Raises `ProtocolError` for too many, and `OSError`."""
        self.received += len(data)
        if self.received > self.begin.size:
            raise self._mismatch(f"received more than the {self.begin.size} bytes announced")
        await self._disk.run(self._file.write, data)

    def check_complete(self) -> None:
        """Raise `ProtocolError` if fewer bytes were received than announced."""
        if self.received != self.begin.size:
            raise self._mismatch(f"announced {self.begin.size} bytes, received {self.received}")

    async def close(self) -> None:
        """Close the file. Raises `OSError`, also if buffered bytes cannot be written."""
        await self._disk.run(self._file.close)

    async def drop(self) -> None:
        """Remove the file and its folder."""
        with suppress(OSError):
            await self.close()
        await self._disk.run(self._store.discard, self.pending)

    def tag(self, error: ProtocolError) -> ProtocolError:
        """Set the `file_id` of an error; return the error."""
        error.file_id = self.id
        return error

    def _mismatch(self, reason: str) -> ProtocolError:
        return self.tag(
            ProtocolError("invalid_message", f"size: {reason}", param="size", fatal=False)
        )
