"""Figures of two checkouts, measured turn by turn on the same machine, and their ratios.

The load generator is always this checkout's; only the server changes. Each round measures the old
checkout and then the new one, so that other load on the machine affects both. The table has the
median of the rounds; a ratio below 1 means that the new checkout needs less.

OLD_CHECKOUT needs its own `.venv` (`make .venv` there).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.process import ROOT
from bench.report import arguments, as_json, machine, print_text
from bench.tables import table

EXAMPLES = """\
  python -m bench.compare ../old                         CPU per second of audio at the socket
  python -m bench.compare ../old --bench capacity -- --streams 25 50 --seconds 20
  python -m bench.compare ../old --bench isolation --rounds 1
  python -m bench.compare ../old --bench churn -- --quick"""

BENCHES = ("streams", "capacity", "isolation", "churn", "fanout")

NAMES = ("audio", "streams", "fault", "case", "name", "kind", "encoding", "sessions", "subscribers")
"""Fields that name a row, in the order in which they are tried."""


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield the numbers of a benchmark's JSON with their paths; rows are named by their fields."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for number, row in enumerate(value):
            name = str(number)
            if isinstance(row, dict):
                name = ", ".join(f"{key} {row[key]}" for key in NAMES if key in row) or name
                row = {key: inner for key, inner in row.items() if key not in NAMES}
            yield from leaves(row, (*path, name))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)


def run(bench: str, checkout: Path, extra: Sequence[str]) -> dict[tuple[str, ...], float]:
    """Return the figures of one benchmark on the server of a checkout."""
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{bench}", "--json", *extra],
        cwd=ROOT,
        env={**os.environ, "BENCH_CHECKOUT": str(checkout)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"bench.{bench} failed with the server of {checkout}")
    return dict(leaves(json.loads(done.stdout)["figures"]))


def main(options: argparse.Namespace) -> None:
    old = Path(options.old).resolve()
    if not (old / ".venv" / "bin" / "python").exists():
        sys.exit(f"{old}: not a checkout with a .venv; run `make .venv` there first")
    extra = options.extra or (["--quick"] if options.quick else [])
    print_text(options, machine(), f"bench.{options.bench} {' '.join(extra)}", "")
    figures: dict[Path, dict[tuple[str, ...], list[float]]] = {old: {}, ROOT: {}}
    for number in range(options.rounds):
        for checkout in (old, ROOT):
            print(f"round {number + 1} of {options.rounds}: {checkout}", file=sys.stderr)
            for path, value in run(options.bench, checkout, extra).items():
                figures[checkout].setdefault(path, []).append(value)
    rows: list[list[object]] = []
    for path, values in figures[ROOT].items():
        before = figures[old].get(path)
        if before is None:
            continue
        was, now = statistics.median(before), statistics.median(values)
        rows.append([*_columns(path), was, now, now / was if was else float("nan")])
    if options.json:
        print(as_json([dict(zip(HEAD, row, strict=True)) for row in rows]))
        return
    print(table(HEAD, rows))


HEAD = ["row", "figure", "old", "new", "new/old"]


def _columns(path: tuple[str, ...]) -> tuple[str, str]:
    return " · ".join(path[:-1]), path[-1]


if __name__ == "__main__":
    parser = arguments(__doc__ or "", EXAMPLES)
    parser.add_argument("old", metavar="OLD_CHECKOUT", help="folder of the other checkout")
    parser.add_argument("--bench", choices=BENCHES, default="streams")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.epilog = f"{parser.epilog}\nOptions after -- go to the benchmark."
    own, _, extra = " ".join(sys.argv[1:]).partition(" -- ")
    options = parser.parse_args(own.split())
    options.extra = extra.split()
    main(options)
