"""Export of a tenant's marks: the manifest that `training.adapt` reads, and a ZIP with it."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator

from stream.feedback.mark import AUDIO, FEATURES, Mark
from stream.feedback.store import FeedbackStore
from stream.types import SAMPLE_RATE, timestamp

MANIFEST = "manifest.csv"
COLUMNS = (
    "features",
    "path",
    "label",
    "speaker",
    "model",
    "revision",
    "channel",
    "utterance",
    "utterance_start_s",
    "utterance_end_s",
    "created",
    "key",
    "id",
)
PIECE = 65_536
"""Least number of bytes of a piece of a ZIP file, besides the last one."""


def manifest(marks: Iterable[Mark]) -> bytes:
    """Return the manifest as CSV: a row per mark; `features` and `path` name its files."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for mark in marks:
        writer.writerow(
            (
                mark.id + FEATURES,
                mark.id + AUDIO if mark.audio else "",
                mark.label,
                mark.speaker,
                mark.model,
                mark.revision,
                mark.channel,
                mark.utterance,
                f"{mark.start / SAMPLE_RATE:.2f}",
                f"{mark.end / SAMPLE_RATE:.2f}",
                timestamp(mark.created),
                mark.key,
                mark.id,
            )
        )
    return text.getvalue().encode()


class _Pipe(io.RawIOBase):
    """Target of `zipfile` that cannot be rewound: its bytes are taken as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = bytearray()

    def writable(self) -> bool:
        return True

    # zipfile writes these three; typeshed asks for any buffer, whose type exists from Python 3.12.
    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        self.waiting += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self.waiting)
        self.waiting.clear()
        return taken


def zipped(store: FeedbackStore, tenant: str) -> Iterator[bytes]:
    """Yield a ZIP file in pieces: the files of all marks, then the manifest.

    Marks that are deleted meanwhile are left out. Its memory does not grow with the features.
    Raises `OSError`.
    """
    pipe = _Pipe()
    written: list[Mark] = []
    # Features do not compress.
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for mark in store.marks(tenant):
            names = [mark.id + FEATURES, *([mark.id + AUDIO] if mark.audio else [])]
            files = [(name, store.read(tenant, name)) for name in names]
            if any(content is None for _, content in files):
                continue
            for name, content in files:
                assert content is not None
                archive.writestr(name, content)
            written.append(mark)
            if len(pipe.waiting) >= PIECE:
                yield pipe.take()
        archive.writestr(MANIFEST, manifest(written))
    yield pipe.take()
