"""Report of a batch: a table for people, lines of JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stream.printable import printable, utf8
from stream.protocol.wire.result import Result


@dataclass(slots=True)
class Row:
    """State of one recording: not begun, stopped, done, skipped or failed."""

    path: Path
    status: str = "not begun"
    folder: str = ""
    summary: dict[str, Any] = field(default_factory=dict)
    code: str = ""
    message: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the file, for a terminal."""
        return printable(self.path.name)

    def body(self) -> dict[str, Any]:
        """Return the object that --json prints."""
        body: dict[str, Any] = {"file": utf8(str(self.path)), "status": self.status}
        if self.folder:
            body |= {"folder": self.folder, **self.summary}
        if self.code:
            body |= {"code": self.code, "message": self.message}
        return body | ({"warnings": list(self.warnings)} if self.warnings else {})


def text_of(text: str, style: str = "") -> Text:
    """Return text for a terminal as it is: brackets are no markup, control characters no orders."""
    return Text(printable(text), style)


def summary(result: Result) -> dict[str, Any]:
    """Return the parts of a result that the table and --json show."""
    return {
        "duration_s": result["file"]["duration_s"],
        "hints": result["hints"],
        "channels": [
            {"role": c["role"], "top": c["top"], "utterances": len(c["utterances"])}
            for c in result["channels"]
        ],
    }


def table(rows: Sequence[Row]) -> Table:
    """Return the table of all recordings."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (("recording", "left"), ("length", "right"), ("emotion", "left")):
        shown.add_column(name, justify="right" if justify == "right" else "left")
    shown.add_column("hints")
    shown.add_column("result", overflow="fold")
    for row in rows:
        if not row.folder:
            why = f"{row.code}: {row.message}" if row.code else row.status
            shown.add_row(
                text_of(row.path.name),
                "",
                "-",
                "",
                text_of(why),
                style="red" if row.code else "dim",
            )
            continue
        length = row.summary["duration_s"]
        verdicts = [
            (f"{c['role']}: " if len(row.summary["channels"]) > 1 else "")
            + (f"{c['top']['label']} {c['top']['score']:.0%}" if c["top"] else "no speech")
            for c in row.summary["channels"]
        ]
        shown.add_row(
            text_of(row.path.name),
            f"{int(length // 60)}:{length % 60:04.1f}",
            ", ".join(verdicts),
            ", ".join(row.summary["hints"]),
            text_of(row.folder + (" (existing)" if row.status == "skipped" else "")),
        )
    return shown


def print_report(console: Console, rows: Sequence[Row], as_json: bool) -> None:
    """Print the table on stdout unless `as_json`, and warnings and totals on `console`."""
    if not as_json:
        Console(width=None if console.is_terminal else 200).print(table(rows))
    for row in rows:
        for warning in row.warnings:
            console.print(text_of(f"{row.name}: {warning}", "yellow"))
    counts = {
        status: sum(row.status == status for row in rows)
        for status in ("done", "skipped", "failed")
    }
    remaining = len(rows) - sum(counts.values())
    text = f"{counts['done']} analysed, {counts['skipped']} skipped (result exists), "
    text += f"{counts['failed']} failed" + (f", {remaining} not analysed" if remaining else "")
    with suppress(BrokenPipeError):
        console.print(text)
