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
import time
from collections.abc import Sequence
from pathlib import Path

from bench import random_models
from bench.gpu import report
from bench.gpu.part import PARTS, Part
from bench.gpu.suite import ROOT

EXAMPLES = """examples:
  python -m bench.gpu                                  the first CUDA device, 6 minutes
  python -m bench.gpu --minutes 3 --out results        gpu.md and gpu.json in results/
  python -m bench.gpu --device cpu --minutes 2         small models, to see that it works
  python -m bench.gpu --tests                          the CUDA tests only

Needs Python 3.11 or newer, numpy, PyTorch 2.11 or newer, PyYAML, for the tests pytest, and a
checkout; run it from the root of the repository.
"""

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
    parser.add_argument("--out", type=Path, help="folder for gpu.md and gpu.json, kept up to date")
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
    """Run all parts; 0 if every part ran to its end, 1 if one failed, 2 without the device."""
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
    end = time.monotonic() + 60 * options.minutes
    failed = 0
    with tempfile.TemporaryDirectory(prefix="emotide-gpu-") as folder:
        out = options.out or Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        rows = Path(folder) / "rows.jsonl"
        for at, part in enumerate(parts):
            weights = sum(later.share for later in parts[at:])
            seconds = max(5.0, (end - time.monotonic()) * part.share / weights)
            print(f"\n{part.name} ({models[part.role]}), at most {seconds:.0f} s", flush=True)
            failed += not _run(part, models[part.role], options.device, Path(folder), rows, seconds)
            report.save(out, report.read(rows), command)
        print("\n" + report.markdown(report.read(rows), command), flush=True)
    if options.out:
        print(f"saved: {options.out / 'gpu.md'}, {options.out / 'gpu.json'}")
    return 1 if failed else 0


def _run(part: Part, model: str, device: str, work: Path, rows: Path, seconds: float) -> bool:
    """Run one part in a process of its own; end it with its children when its time is over."""
    command = [
        *(sys.executable, "-m", "bench.gpu.part", part.name),
        *("--device", device, "--model", model, "--work", str(work)),
        *("--rows", str(rows), "--seconds", f"{seconds:.1f}"),
    ]
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as child:
        try:
            return child.wait(seconds + GRACE_S) == 0
        except subprocess.TimeoutExpired:
            print(f"  {part.name}: not done after {seconds + GRACE_S:.0f} s: ended", flush=True)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
    return False


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
