"""Every target holds its promises for the inputs of its corpus, and for some seconds of new ones.

FUZZ_SECONDS is the time of each target (default: 4, which is 40 s for all); `make fuzz` takes
longer. An input that once broke a promise stays in the corpus under a name that says why.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.__main__ import CORPUS
from tests.fuzz.targets import TARGETS
from tests.support.running import ROOT

SECONDS = os.environ.get("FUZZ_SECONDS", "4")
SEEDS = sorted(path for path in CORPUS.rglob("*") if path.is_file())


def test_every_target_has_a_corpus() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)


@pytest.mark.parametrize("seed", SEEDS, ids=[f"{p.parent.name}-{p.name}" for p in SEEDS])
def test_the_corpus_holds(seed: Path) -> None:
    TARGETS[seed.parent.name](seed.read_bytes())


@pytest.mark.timeout(60 + 4 * float(SECONDS) * len(TARGETS))
def test_new_inputs_hold(tmp_path: Path) -> None:
    """The same inputs in every run: a fault that is new belongs to the change under test.

    `make fuzz` looks for new ones.
    """
    environ = {
        **os.environ,
        "FUZZ_SECONDS": SECONDS,
        "FUZZ_CORPUS": str(tmp_path),
        "FUZZ_SEED": "1",
    }
    command = [sys.executable, "-m", "tests.fuzz"]
    limit_s = 60 + 3 * float(SECONDS) * len(TARGETS)
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=limit_s
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")]
    found = {name.strip(): (int(runs), int(cover)) for name, runs, cover, *_ in rows[2:]}
    assert found.keys() == TARGETS.keys()
    for name, (runs, cover) in found.items():
        assert runs > 20, (name, runs)
        assert cover > 20, f"no coverage guides the mutations of {name}"
