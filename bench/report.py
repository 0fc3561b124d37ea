"""Figures and tables, options and the machine they were taken on."""

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
    return float(np.percentile(values, share)) if values else float("nan")


def arguments(doc: str, examples: str) -> argparse.ArgumentParser:
    """The command line that all benches share."""
    parser = argparse.ArgumentParser(
        description=doc,
        epilog=f"examples:\n{examples}\n\nRun from the root of the repository.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a short run, for a first look")
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object")
    return parser


def machine() -> str:
    """When and on what the figures were taken."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
        name = found[1] if found else name
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{when}, {name}, {psutil.cpu_count()} cores, Python {platform.python_version()}"


def say(options: argparse.Namespace, *text: str) -> None:
    """Text for people, unless a machine reads."""
    if not options.json:
        print(*text, sep="\n", flush=True)


def as_json(figures: object) -> str:
    """Figures that are not there (NaN) become null."""
    return orjson.dumps({"machine": machine(), "figures": figures}, option=JSON).decode()
