"""A file that is coming in: its place on disk, and whether it is what was announced."""

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
    """One file on its way to the disk; made by `Upload.open`. Errors name the file."""

    def __init__(
        self,
        begin: FileBegin,
        disk: DiskExecutor,
        store: ResultStore,
        draft: PendingResult,
        file: BinaryIO,
    ) -> None:
        self.id = "file_" + secrets.token_hex(12)
        self.begin = begin
        self.draft = draft
        self.received = 0
        self._disk = disk
        self._store = store
        self._file = file

    @classmethod
    async def open(
        cls, begin: FileBegin, max_mb: float, disk: DiskExecutor, store: ResultStore
    ) -> Upload:
        """Make room for an announced file. Raises `ProtocolError` for its size, and `OSError`."""
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
                f"the file has {begin.size / 1e6:.1f} MB, this server takes {max_mb:g} MB: "
                "compress or cut it (files.max_mb)",
                param="size",
                fatal=False,
                values={"mb": round(begin.size / 1e6, 1), "most_mb": max_mb},
            )
        draft = await disk.run(store.begin)
        try:
            file = await disk.run((draft.folder / UPLOAD).open, "wb")
        except OSError:
            await disk.run(store.discard, draft)
            raise
        return cls(begin, disk, store, draft, file)

    @property
    def path(self) -> Path:
        return self.draft.folder / UPLOAD

    @property
    def share(self) -> float:
        """How much of it is here."""
        return self.received / self.begin.size

    async def take(self, data: bytes) -> None:
        """Write the next bytes. Raises `ProtocolError` for too many, and `OSError`."""
        self.received += len(data)
        if self.received > self.begin.size:
            raise self._mismatch(f"more came than the {self.begin.size} bytes announced")
        await self._disk.run(self._file.write, data)

    def complete(self) -> None:
        """No more comes. Raises `ProtocolError` if something is missing."""
        if self.received != self.begin.size:
            raise self._mismatch(f"{self.begin.size} bytes were announced, {self.received} came")

    async def close(self) -> None:
        """Let what came reach the disk. Raises `OSError`."""
        await self._disk.run(self._file.close)

    async def drop(self) -> None:
        """Remove what there is of it."""
        with suppress(OSError):
            await self.close()
        await self._disk.run(self._store.discard, self.draft)

    def about(self, error: ProtocolError) -> ProtocolError:
        """The same error, which now says whose it is."""
        error.file_id = self.id
        return error

    def _mismatch(self, what: str) -> ProtocolError:
        return self.about(
            ProtocolError("invalid_message", f"size: {what}", param="size", fatal=False)
        )
