"""CUDA tests of the project, run with pytest only."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from bench.gpu.part import Context

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests" / "gpu"
TABLE = "Tests"


def run(context: Context) -> None:
    """Emit the numbers of passed, failed and skipped tests; print the output of pytest."""
    if find_spec("pytest") is None:
        context.emit(TABLE, tests="not run: pip install pytest", passed=None)
        return
    report = context.work / "pytest.txt"
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(TESTS / "pytest.ini"), str(TESTS)]
    with (
        report.open("w", encoding="utf-8") as file,
        subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT) as child,
    ):
        try:
            status = str(child.wait(max(10, context.left())))
        except subprocess.TimeoutExpired:
            child.kill()
            status = "killed: out of time"
    text = report.read_text("utf-8")
    print(text, flush=True)
    last = (text.strip().splitlines() or [""])[-1]
    counts = {
        word: int(match[1]) if (match := re.search(rf"(\d+) {word}", last)) else 0
        for word in ("passed", "failed", "skipped", "error")
    }
    context.emit(TABLE, tests=str(TESTS.relative_to(ROOT)), **counts)
    if status != "0":
        raise RuntimeError(f"pytest failed ({status}): {last}")
