"""Check and measurement of emotion2vec+ on a GPU within some minutes.

Builds models of the published shapes with random weights, loads them as the server does, and
prints tables: the device, correctness, windows per second compared with FunASR's way, live streams
through the server's scheduler, the CUDA tests, torch.compile. Speed, memory and agreement do not
depend on the weights; accuracy is not measured here.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from bench import random_models
from bench.gpu import report
from bench.gpu.part import PARTS, Part
from bench.gpu.suite import ROOT

EXAMPLES = """examples:
  python -m bench.gpu                                  the first CUDA device, 6 minutes
  python -m bench.gpu --minutes 3 --out results        gpu.md, gpu.json and gpu.log in results/
  python -m bench.gpu --device cpu --minutes 2         small models, to try the command
  python -m bench.gpu --tests                          the CUDA tests only

Requires Python 3.11 or newer, numpy, PyTorch 2.11 or newer and PyYAML, and pytest for the tests.
Run it from the root of a checkout of the repository.
"""

BEGIN = time.monotonic()
"""Start of the check; its time includes the import of torch."""

GRACE_S = 10.0
"""A part that still runs this long after its deadline is killed."""

MODELS = {"cuda": ("seed", "base", "large"), "cpu": ("tiny", "tiny", "small")}
"""Shapes for the checks, and for the first and the second measured model, by device."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=6.0, help="for all parts (default: 6)")
    parser.add_argument(
        "--out", type=Path, help="folder for gpu.md, gpu.json and gpu.log, updated after every part"
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu (default: cuda)")
    parser.add_argument(
        "--models",
        nargs=3,
        choices=random_models.CONFIGS,
        metavar=("CHECKS", "FIRST", "SECOND"),
        help="shapes to check and to measure (default: seed base large; on a CPU small ones)",
    )
    parser.add_argument("--tests", action="store_true", help="run the CUDA tests and nothing else")
    options = parser.parse_args(arguments)
    if not 0.1 <= options.minutes <= 600:
        parser.error("--minutes: must be between 0.1 and 600")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts; return 0, or 1 if a part or a check failed, or 2 without the device."""
    options = parse(arguments)
    missing = _missing(options.device)
    if missing:
        print(missing, file=sys.stderr)
        return 2
    kind = options.device.partition(":")[0]
    checks, first, second = options.models or MODELS.get(kind, MODELS["cuda"])
    models = {"check": checks, "main": first, "second": second, "": checks}
    parts = [part for part in PARTS if not options.tests or part.module == "suite"]
    command = " ".join(["python3 -m bench.gpu", *(arguments or sys.argv[1:])])
    end = BEGIN + 60 * options.minutes
    # SIGTERM must also end the part that runs: `sys.exit` unwinds to the `finally` in `_run`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    failed = 0
    with tempfile.TemporaryDirectory(prefix="emotide-gpu-") as folder:
        out = options.out or Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        rows = Path(folder) / "rows.jsonl"
        with (out / "gpu.log").open("w", encoding="utf-8") as log:
            for index, part in enumerate(parts):
                model = models[part.role]
                weights = sum(later.share for later in parts[index:])
                seconds = max(5.0, (end - time.monotonic()) * part.share / weights)
                print(f"\n{part.name} ({model}), at most {seconds:.0f} s", flush=True)
                failed += not _run(part, model, options.device, Path(folder), rows, seconds, log)
                report.save(out, report.read(rows), command)
        tables = report.read(rows)
        print("\n" + report.markdown(tables, command), flush=True)
    broken = [row["check"] for row in tables.get("Correctness", ()) if row.get("holds") == "NO"]
    for check in broken:
        print(f"NOT CORRECT: {check}")
    for row in tables.get("Failures", ()):
        print(f"FAILED: {row['part']}: {row['error']}")
    if options.out:
        print(f"saved: gpu.md, gpu.json and gpu.log in {options.out}")
    return 1 if failed or broken else 0


def _run(
    part: Part, model: str, device: str, work: Path, rows: Path, seconds: float, log: TextIO
) -> bool:
    """Run one part in a separate process; kill it and its children after its time."""
    command = [
        *(sys.executable, "-u", "-m", "bench.gpu.part", part.name),
        *("--device", device, "--model", model, "--work", str(work)),
        *("--rows", str(rows), "--seconds", f"{seconds:.1f}"),
    ]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as child:
        watchdog = threading.Timer(seconds + GRACE_S, _kill, [child])
        watchdog.start()
        try:
            assert child.stdout is not None
            for line in child.stdout:
                print(line, end="", flush=True)
                log.write(line)
                log.flush()
            succeeded = child.wait() == 0
        finally:
            watchdog.cancel()
            _kill(child)
    if child.returncode == -signal.SIGKILL:
        print(f"  {part.name}: killed after {seconds + GRACE_S:.0f} s", flush=True)
    return succeeded


def _kill(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)


def _missing(device: str) -> str:
    """Return the missing requirement with its remedy; "" if all are met."""
    try:
        import numpy  # noqa: F401  # only whether it is installed
        import torch
        import yaml  # noqa: F401  # only whether it is installed
    except ImportError as error:
        return f"bench.gpu requires numpy, torch and pyyaml: pip install {error.name}"
    if device != "cpu" and not torch.cuda.is_available():
        return "no CUDA device: use --device cpu to try the command"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        return f"--device {device} cannot be used: {str(error).splitlines()[0]}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
