"""Store of marks: a folder per tenant, with a bound in bytes. Blocking."""

from __future__ import annotations

import logging
import os
import re
import secrets
import wave
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from stream.feedback.mark import AUDIO, FEATURES, RECORD, Mark
from stream.feedback.utterance import MarkableUtterance, Source
from stream.types import SAMPLE_RATE

log = logging.getLogger(__name__)

ID = re.compile(r"fb_[0-9a-f]{24}")
SALT = ".salt"
"""File with the key of the hashes of ids. It is never exported, so a hash in an export does not
reveal a telephone number."""

BLOCK = 4_096
"""Bytes in which a disk stores files; every file counts as whole blocks."""


class StoreFull(Exception):
    """Refusal of a mark, because those of the tenant take too many bytes."""


class FeedbackStore:
    """Marks in one folder; each tenant's may take `max_bytes` on disk.

    For use in one thread at a time, and by one process. A mark's id follows from its utterance, so
    marking an utterance again replaces its label. Every method may raise `OSError`.
    """

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root = root
        self._max_bytes = max_bytes
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError), _private(root / SALT, os.O_EXCL) as file:
            file.write(secrets.token_bytes(32))
        self._salt = (root / SALT).read_bytes()
        self._used: dict[str, int] = {}
        """Bytes on disk by tenant, once they were counted."""

    def source(self, tenant: str, source: Source) -> str:
        """Return the hash of a stream's or recording's id."""
        return self._hash(8, tenant, source.kind, source.id)

    def add(
        self,
        tenant: str,
        source: Source,
        found: MarkableUtterance,
        label: str,
        speaker: str,
        key: str,
        now: float,
    ) -> tuple[Mark, bool]:
        """Store a mark; return it, and whether it replaced another label of the utterance.

        Without a `speaker`, the stream or recording counts as one. Raises `StoreFull`.
        """
        place = (source.session or source.id, str(found.channel), str(found.utterance))
        hashed = self.source(tenant, source)
        mark = Mark(
            id="fb_" + self._hash(12, tenant, source.kind, *place),
            label=label,
            speaker=speaker or f"{source.kind}-{hashed}",
            kind=source.kind,
            source=hashed,
            channel=found.channel,
            utterance=found.utterance,
            start=max(0, found.start),
            end=found.end,
            model=found.model[0],
            revision=found.model[1],
            key=key,
            created=now,
            audio=found.audio is not None,
        )
        content = {FEATURES: _npy(found.features)}
        if found.audio is not None:
            content[AUDIO] = _wav(found.audio)
        # Last, because the mark exists once its record does.
        content[RECORD] = mark.record()
        before = self._size(tenant, mark.id)
        used = self._bytes(tenant) - before + sum(map(_on_disk, map(len, content.values())))
        if used > self._max_bytes:
            raise StoreFull(f"the marks of this tenant take {self._max_bytes / 1e6:g} MB")
        folder = self._folder(tenant)
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            for suffix, data in content.items():
                _write(folder / (mark.id + suffix), data)
            if not mark.audio:
                (folder / (mark.id + AUDIO)).unlink(missing_ok=True)
        finally:
            self._recount(tenant, before, mark.id)
        return mark, before > 0

    def delete(self, tenant: str, mark_id: str) -> bool:
        """Delete a mark with its features and audio; return False if the tenant has no such one."""
        if ID.fullmatch(mark_id) is None:
            return False
        before, paths = self._size(tenant, mark_id), self._paths(tenant, mark_id)
        exists = paths[0].exists()
        for path in paths:
            path.unlink(missing_ok=True)
        self._recount(tenant, before, mark_id)
        return exists

    def delete_of(self, tenant: str, source: Source) -> int:
        """Delete all marks of a stream or recording of the tenant; return their number."""
        hashed = self.source(tenant, source)
        found = [
            mark.id
            for mark in self.marks(tenant)
            if mark.kind == source.kind and mark.source == hashed
        ]
        return sum(self.delete(tenant, mark_id) for mark_id in found)

    def delete_all(self, tenant: str) -> int:
        """Delete all marks of the tenant, and what else is in its folder; return their number."""
        deleted = 0
        with suppress(FileNotFoundError):
            for path in list(self._folder(tenant).iterdir()):
                deleted += path.suffix == RECORD
                path.unlink(missing_ok=True)
        self._used.pop(tenant, None)
        return deleted

    def marks(self, tenant: str) -> Iterator[Mark]:
        """Yield the marks of the tenant, in the order of their ids."""
        for path in sorted(self._folder(tenant).glob("fb_*" + RECORD)):
            try:
                yield Mark.parse(path.read_bytes())
            except FileNotFoundError:
                continue  # deleted meanwhile
            except ValueError as error:
                log.warning("mark not readable", extra={"file": path.name, "reason": str(error)})

    def read(self, tenant: str, name: str) -> bytes | None:
        """Return a file of a mark; None if it was deleted."""
        try:
            return (self._folder(tenant) / name).read_bytes()
        except FileNotFoundError:
            return None

    def _folder(self, tenant: str) -> Path:
        return self._root / tenant

    def _paths(self, tenant: str, mark_id: str) -> list[Path]:
        """Return the paths of a mark's files, that of its record first."""
        return [self._folder(tenant) / (mark_id + suffix) for suffix in (RECORD, FEATURES, AUDIO)]

    def _size(self, tenant: str, mark_id: str) -> int:
        return sum(_on_disk(_length(path)) for path in self._paths(tenant, mark_id))

    def _bytes(self, tenant: str) -> int:
        """Return the bytes on disk of all files of the tenant."""
        if tenant not in self._used:
            with suppress(FileNotFoundError):
                entries = list(os.scandir(self._folder(tenant)))
                self._used[tenant] = sum(_on_disk(_length(Path(entry))) for entry in entries)
        return self._used.setdefault(tenant, 0)

    def _recount(self, tenant: str, before: int, mark_id: str) -> None:
        """Correct the bytes of the tenant after the files of a mark changed."""
        if tenant in self._used:
            self._used[tenant] += self._size(tenant, mark_id) - before

    def _hash(self, size: int, *parts: str) -> str:
        text = "\0".join(parts).encode("utf-8", "surrogatepass")
        return blake2b(text, key=self._salt, digest_size=size).hexdigest()


def _private(path: Path, flags: int) -> BinaryIO:
    """Create a file that only the server's user can read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600), "wb")


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    unfinished = path.with_name(path.name + ".new")
    try:
        with _private(unfinished, os.O_TRUNC) as file:
            file.write(data)
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _on_disk(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _npy(features: NDArray[np.float32]) -> bytes:
    file = BytesIO()
    np.save(file, features.astype("<f4"), allow_pickle=False)
    return file.getvalue()


def _wav(audio: NDArray[np.int16]) -> bytes:
    file = BytesIO()
    with wave.open(file, "wb") as clip:
        clip.setparams((1, 2, SAMPLE_RATE, 0, "NONE", "not compressed"))
        clip.writeframes(audio.astype("<i2").tobytes())
    return file.getvalue()
