"""Options, output and machine description that all benchmarks share."""

from __future__ import annotations

import argparse
import contextlib
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson
import psutil

JSON = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def percentile(values: Sequence[float], share: float) -> float:
    """Return the percentile `share` (0 to 100); NaN without values."""
    return float(np.percentile(values, share)) if values else float("nan")


def arguments(doc: str, examples: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks share."""
    parser = argparse.ArgumentParser(
        description=doc,
        epilog=f"examples:\n{examples}\n\nRun from the root of the repository.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="run fewer or shorter measurements")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    return parser


def machine() -> str:
    """Describe date, processor, cores and Python version of the measurement."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        match = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
        name = match[1] if match else name
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{when}, {name}, {psutil.cpu_count()} cores, Python {platform.python_version()}"


def print_text(options: argparse.Namespace, *text: str) -> None:
    """Print lines of text, unless --json is set."""
    if not options.json:
        print(*text, sep="\n", flush=True)


def as_json(figures: object) -> str:
    """Return the figures as JSON; NaN becomes null."""
    return orjson.dumps({"machine": machine(), "figures": figures}, option=JSON).decode()
