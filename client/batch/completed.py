"""Record of the finished results in a folder, so that a batch can be resumed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import orjson

NAME = "analyze.jsonl"

Entry = dict[str, Any]


class CompletedInputs:
    """Finished results by key: one line of JSON each, in the file `NAME` beside the results."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._entries: dict[str, Entry] = {}
        try:
            lines = (out / NAME).read_bytes().splitlines()
        except OSError:
            return
        for line in lines:
            try:
                entry = orjson.loads(line)
                self._entries[entry["key"]] = entry
            except (ValueError, KeyError, TypeError):
                continue  # an incomplete line of an interrupted batch

    def find(self, key: str) -> Entry | None:
        """Return the entry of `key` if its result still exists, else None."""
        entry = self._entries.get(key)
        if entry is None or not (self._out / str(entry.get("folder")) / "result.json").is_file():
            return None
        return entry

    def add(self, key: str, entry: Entry) -> None:
        """Add a finished result. Raises `OSError`."""
        self._entries[key] = {"key": key, **entry}
        self._out.mkdir(parents=True, exist_ok=True)
        with (self._out / NAME).open("ab") as file:
            file.write(orjson.dumps(self._entries[key]) + b"\n")


def key_of(path: Path, options: Entry, model: str) -> str:
    """Return a SHA-256 of the file's bytes, the options and the model; the name does not count."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(orjson.dumps([options, model], option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()
