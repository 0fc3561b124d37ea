"""Markdown tables with aligned columns. Imports only the standard library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; every column but the first is aligned to the right."""
    cells = [[shown(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    first, *rest = widths
    lines = [list(head), ["-" * first, *("-" * (w - 1) + ":" for w in rest)], *cells]
    return "\n".join(
        f"| {line[0]:<{first}} | "
        + " | ".join(f"{text:>{w}}" for text, w in zip(line[1:], rest, strict=True))
        + " |"
        for line in lines
    )


def shown(value: object) -> str:
    """Return a figure with three significant digits; "-" for NaN and None."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return "-" if value != value else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)
