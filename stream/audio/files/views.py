"""File object that shows a decoder parts of a file, behind a corrected header."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol

Extent = tuple[int, int]
"""Half-open range of a file's bytes."""


class Reader(Protocol):
    """Binary file that can be read at any position."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to a position and return it."""
        ...


class View(io.RawIOBase):
    """Read-only file of `head` and then of the given extents of `file`.

    It has no name, so that FFmpeg knows only the contents.
    """

    def __init__(self, file: Reader, extents: Sequence[Extent], head: bytes = b"") -> None:
        self._file = file
        self._head = head
        self._extents = [extent for extent in extents if extent[1] > extent[0]]
        lengths = (end - start for start, end in self._extents)
        self._starts = list(accumulate(lengths, initial=len(head)))
        """Position in the view at which each extent begins; the last is the size."""
        self._at = 0

    @property
    def size(self) -> int:
        return self._starts[-1]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise OSError("negative position")
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Return `size` bytes; fewer only at the end."""
        left = self.size - self._at if size is None or size < 0 else size
        parts = []
        while left > 0 and self._at < self.size:
            part = self._piece(left)
            if not part:
                break
            parts.append(part)
            self._at += len(part)
            left -= len(part)
        return b"".join(parts)

    def _piece(self, size: int) -> bytes:
        if self._at < len(self._head):
            return self._head[self._at : self._at + size]
        number = bisect_right(self._starts, self._at) - 1
        start, end = self._extents[number]
        begin = start + self._at - self._starts[number]
        self._file.seek(begin)
        return self._file.read(min(size, end - begin))
