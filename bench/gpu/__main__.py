"""Everything about emotion2vec+ on a GPU, measured and checked within some minutes.

Builds models of the published shapes with random weights, loads them as the server does, and
prints tables: the device, correctness, windows per second beside FunASR's way, live streams
through the real scheduler, the CUDA tests, torch.compile. Speed, memory and agreement do not
depend on what the weights are; accuracy is not measured here.
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
  python -m bench.gpu --device cpu --minutes 2         small models, to see that it works
  python -m bench.gpu --tests                          the CUDA tests only

Needs Python 3.11 or newer, numpy, PyTorch 2.11 or newer, PyYAML, for the tests pytest, and a
checkout; run it from the root of the repository.
"""

BEGIN = time.monotonic()
"""The time of the check includes the import of torch."""

GRACE_S = 10.0
"""A part that is still running this long after its time is killed."""

MODELS = {"cuda": ("seed", "base", "large"), "cpu": ("tiny", "tiny", "small")}
"""For the checks, and the first and the second model that is measured."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=6.0, help="time for all (default: 6)")
    parser.add_argument(
        "--out", type=Path, help="folder for gpu.md, gpu.json and gpu.log, kept up to date"
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
        parser.error("--minutes: expected 0.1 to 600")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts; 0 if all is well, 1 if a part or a check failed, 2 without the device."""
    options = parse(arguments)
    absent = _absent(options.device)
    if absent:
        print(absent, file=sys.stderr)
        return 2
    kind = options.device.partition(":")[0]
    checks, first, second = options.models or MODELS.get(kind, MODELS["cuda"])
    models = {"check": checks, "main": first, "second": second, "": checks}
    parts = [part for part in PARTS if not options.tests or part.module == "suite"]
    command = " ".join(["python3 -m bench.gpu", *(arguments or sys.argv[1:])])
    end = BEGIN + 60 * options.minutes
    # A parent that is told to end takes the part that runs with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    failed = 0
    with tempfile.TemporaryDirectory(prefix="emotide-gpu-") as folder:
        out = options.out or Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        rows = Path(folder) / "rows.jsonl"
        with (out / "gpu.log").open("w", encoding="utf-8") as log:
            for at, part in enumerate(parts):
                model = models[part.role]
                weights = sum(later.share for later in parts[at:])
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
    """Run one part in a process of its own; end it with its children when its time is over."""
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
        late = threading.Timer(seconds + GRACE_S, _kill, [child])
        late.start()
        try:
            assert child.stdout is not None
            for line in child.stdout:
                print(line, end="", flush=True)
                log.write(line)
                log.flush()
            ended = child.wait() == 0
        finally:
            late.cancel()
            _kill(child)
    if child.returncode == -signal.SIGKILL:
        print(f"  {part.name}: not done after {seconds + GRACE_S:.0f} s: ended", flush=True)
    return ended


def _kill(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)


def _absent(device: str) -> str:
    """Return what keeps the check from running, with the remedy; "" if nothing does."""
    try:
        import numpy  # noqa: F401  # only whether it can be imported
        import torch
        import yaml  # noqa: F401  # likewise
    except ImportError as error:
        return f"bench.gpu needs numpy, torch and pyyaml: pip install {error.name}"
    if device != "cpu" and not torch.cuda.is_available():
        return "no CUDA device here: use --device cpu to see that the check works"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        return f"--device {device} cannot be used: {str(error).splitlines()[0]}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
