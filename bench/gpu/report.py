"""Tables of the saved rows of all parts, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.tables import table

Row = Mapping[str, Any]
Tables = dict[str, list[Row]]


def read(rows: Path) -> Tables:
    """Return the saved rows by table, without a last line that a kill has cut off."""
    tables: Tables = {}
    if not rows.is_file():
        return tables
    for line in rows.read_text("utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        tables.setdefault(entry["table"], []).append(entry["row"])
    return tables


def markdown(tables: Tables, command: str) -> str:
    """Return all tables as Markdown, each with a heading."""
    lines = ["# emotion2vec+ on this device", "", f"`{command}`", ""]
    for name, rows in tables.items():
        head = list(_columns(rows))
        lines += [f"## {name}", "", table(head, ([row.get(c) for c in head] for row in rows)), ""]
    return "\n".join(lines)


def save(out: Path, tables: Tables, command: str) -> None:
    """Write gpu.json and gpu.md into the folder `out`, replacing each file atomically."""
    texts = {
        "gpu.json": json.dumps(
            {"command": command, "tables": tables}, ensure_ascii=False, indent=1
        ),
        "gpu.md": markdown(tables, command),
    }
    for name, text in texts.items():
        part = out / f"{name}.part"
        part.write_text(text, "utf-8")
        part.replace(out / name)


def _columns(rows: Iterable[Row]) -> dict[str, None]:
    """Return the columns of all rows, in the order of their first appearance."""
    return {column: None for row in rows for column in row}
