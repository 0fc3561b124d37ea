"""Coverage-guided fuzzing of the targets in `targets.py`, with atheris (libFuzzer).

  python -m tests.fuzz                       every target for FUZZ_SECONDS each (default: 60)
  python -m tests.fuzz messages query        these targets
  FUZZ_SECONDS=3600 python -m tests.fuzz     an hour each

Inputs that reach new code go to the folder FUZZ_CORPUS (default: outputs/fuzz) and are used again
by the next run. An input that breaks a promise is written there as `crash-…`, printed, and makes
the command fail: copy it to tests/fuzz/corpus/TARGET/, where `make test` runs it ever after.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.tables import table

CORPUS = Path(__file__).parent / "corpus"
ROOT = Path(__file__).resolve().parents[2]
FOUND = Path(os.environ.get("FUZZ_CORPUS", ROOT / "outputs" / "fuzz"))

PACKAGES = ["stream", "client", "python_multipart", "websockets", "starlette", "tests.support"]
"""Packages whose branches and comparisons guide the mutations."""

HEAD = ("target", "inputs", "coverage", "new inputs", "result")

SEED, RUNS = os.environ.get("FUZZ_SEED"), 2000
"""With a seed, each target gets this number of inputs, the same ones in every run."""

LONGEST = 4_096
"""Bytes of the largest input."""


def fuzz(
    names: Sequence[str], seconds: float, found: Path, each: Callable[[str, int, str], None]
) -> None:
    """Fuzz targets in turn, each in a forked process; call `each` with name, status and output.

    The code under test is instrumented once, which takes longer than a short run. libFuzzer ends
    its process, so it needs one of its own.
    """
    import atheris

    with atheris.instrument_imports(include=PACKAGES):
        from tests.fuzz.targets import TARGETS
    for name in names:
        own = found / name
        own.mkdir(parents=True, exist_ok=True)
        log = own / "fuzz.log"
        pid = os.fork()
        if pid == 0:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(output, 1)
            os.dup2(output, 2)
            options = [
                *(f"-max_total_time={max(1, round(seconds))}", f"-max_len={LONGEST}"),
                *("-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"),
                *((f"-seed={SEED}", f"-runs={RUNS}") if SEED else ()),
                *(f"-artifact_prefix={own}/", str(own / "corpus"), str(CORPUS / name)),
            ]
            (own / "corpus").mkdir(exist_ok=True)
            atheris.Setup([f"fuzz-{name}", *options], TARGETS[name])
            atheris.Fuzz()
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        each(name, os.waitstatus_to_exitcode(status), log.read_text("utf-8", "replace"))


def figure(output: str, name: str) -> str:
    """Return a figure of libFuzzer's statistics; "-" if it printed none."""
    found = re.findall(rf"{re.escape(name)}:?\s+(\d+)", output)
    return found[-1] if found else "-"


def main(names: list[str]) -> int:
    """Fuzz the targets in turn, print a table, and return 1 if one broke a promise."""
    known = sorted(path.name for path in CORPUS.iterdir())
    if unknown := set(names) - set(known):
        sys.exit(f"unknown targets: {', '.join(unknown)}; known: {', '.join(known)}")
    rows: list[list[object]] = []

    def each(name: str, status: int, output: str) -> None:
        if status:
            print(f"--- {name}\n{output[-6000:]}", flush=True)
        runs = figure(output, "stat::number_of_executed_units")
        new, cover = figure(output, "stat::new_units_added"), figure(output, "cov")
        rows.append([name, runs, cover, new, "BROKEN" if status else "ok"])

    fuzz(names or known, float(os.environ.get("FUZZ_SECONDS", "60")), FOUND, each)
    print(table(HEAD, rows))
    return any(row[-1] != "ok" for row in rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
