"""Mutation testing: change a module a little, run its own tests, and count who notices.

  make mutants                                          every module, 25 mutants each
  make mutants MODULES="stream/delivery/hub.py"         some
  python -m tests.mutants --count 100 stream/admission.py
  python -m tests.mutants --seed 2 …                    another sample

It works in a copy of the checkout, so nothing here is changed. A sample is the same for the same
seed and source. A mutant that makes the tests hang counts as noticed.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from bench.tables import table
from tests.mutants.modules import EQUIVALENT, TESTS
from tests.mutants.operators import Mutant, mutants

ROOT = Path(__file__).resolve().parents[2]
SURVIVED, ALL_FAILED = 0, 1


def copy(into: Path) -> None:
    """Copy what git knows or does not ignore, and link the environment."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout.split(b"\0")
    for name in filter(None, map(os.fsdecode, names)):
        source, target = ROOT / name, into / name
        if source.is_file() and source.name != ".venv":
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def _child(tests: Sequence[str], folder: Path, log: Path) -> NoReturn:
    """Run tests in this forked process, and end it without the cleanup of its parent."""
    status = 70
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", "--timeout", "60", "--no-header"]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of preloaded libraries
        for plugin in ("xdist", "cov", "anyio", "benchmark", "jsonschema"):
            options += ["-p", f"no:{plugin}"]
        status = pytest.main([*options, *tests])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def run(tests: Sequence[str], folder: Path, timeout: float) -> tuple[int, float, str]:
    """Run tests in a forked process; return its status (-1 after the timeout), time and output."""
    began = time.monotonic()
    log = folder / "pytest.log"
    pid = os.fork()
    if pid == 0:
        _child(tests, folder, log)
    while time.monotonic() < began + timeout:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            text = log.read_text("utf-8", "replace")
            return os.waitstatus_to_exitcode(status), time.monotonic() - began, text
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1, time.monotonic() - began, ""


def measure(
    module: str, folder: Path, count: int, seed: int
) -> tuple[list[object], list[tuple[str, Mutant]]]:
    """Return the row of a module, and the mutants that survived."""
    tests, path = TESTS[module], folder / module
    source = (ROOT / module).read_text("utf-8")
    status, normal_s, output = run(tests, folder, 300)
    if status != 0:
        sys.exit(f"{' '.join(tests)} fail without a change:\n{output[-4000:]}")
    known = EQUIVALENT.get(module, {})
    equivalent, noticed, survivors = 0, 0, []
    for mutant in mutants(source, count, seed):
        if mutant.after in known:
            equivalent += 1
            continue
        path.write_text(mutant.source, "utf-8")
        status, _, _ = run(tests, folder, 10 + 4 * normal_s)
        if status == SURVIVED:
            survivors.append((module, mutant))
            print(shown(module, mutant), file=sys.stderr, flush=True)
        else:
            noticed += 1
    path.write_text(source, "utf-8")
    total = noticed + len(survivors)
    share = f"{100 * noticed / total:.0f} %" if total else "-"
    return [module, total, noticed, len(survivors), equivalent, share], survivors


def shown(module: str, mutant: Mutant) -> str:
    """Return a mutant as lines of a difference."""
    return f"{module}:{mutant.line} ({mutant.kind})\n  - {mutant.before}\n  + {mutant.after}"


def preload() -> None:
    """Import the libraries that tests need once, before processes are forked."""
    for name in ("pytest", "pytest_asyncio", "hypothesis", "numpy", "pydantic", "orjson", "av"):
        __import__(name)
    for name in ("websockets.asyncio.client", "starlette.testclient", "prometheus_client", "soxr"):
        __import__(name)
    gc.freeze()


def main(options: argparse.Namespace) -> int:
    """Print the table and the survivors; return 1 below the threshold."""
    modules = options.modules or list(TESTS)
    if unknown := [module for module in modules if module not in TESTS]:
        sys.exit(f"no tests are listed for {', '.join(unknown)}: see tests/mutants/modules.py")
    rows, survivors = [], []
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name)
        copy(folder)
        sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
        sys.path.insert(0, name)
        sys.dont_write_bytecode = True
        preload()
        for module in modules:
            row, left = measure(module, folder, options.count, options.seed)
            rows.append(row)
            survivors += left
            print(f"{row[0]}: {row[-1]}", file=sys.stderr, flush=True)
    head = ["module", "mutants", "noticed", "survived", "equivalent", "share"]
    total = sum(int(str(row[1])) for row in rows)
    noticed = sum(int(str(row[2])) for row in rows)
    rows.append(
        ["all", total, noticed, total - noticed, "", f"{100 * noticed / max(1, total):.0f} %"]
    )
    print(table(head, rows))
    for module, mutant in survivors:
        print(f"\n{shown(module, mutant)}")
    return 0 if noticed >= options.threshold / 100 * total else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", help="paths; all of tests/mutants/modules.py")
    parser.add_argument("--count", type=int, default=25, help="mutants of a module (default: 25)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    parser.add_argument("--threshold", type=float, default=90, help="percent noticed (default: 90)")
    sys.exit(main(parser.parse_args()))
