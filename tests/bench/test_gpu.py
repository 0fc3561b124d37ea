"""GPU check: complete on a CPU with three packages, and a correct reference of FunASR."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bench import random_models
from bench.gpu import report
from bench.gpu.funasr_way import FunasrWay
from bench.gpu.work import flops
from stream.backends import emotion2vec
from stream.backends.emotion2vec import oracle
from stream.backends.emotion2vec.config import read_shape
from stream.backends.emotion2vec.signals import buzzes
from tests.support import clean_environment

ROOT = Path(__file__).parents[2]
FOREIGN = ("websockets", "soxr", "pydantic", "orjson", "funasr", "psutil", "pytest", "onnxruntime")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter with numpy, torch and PyYAML only."""
    return clean_environment.make(tmp_path_factory.mktemp("clean"), ("numpy", "torch", "PyYAML"))


@pytest.mark.parametrize("package", FOREIGN)
def test_the_clean_environment_is_clean(python: Path, package: str) -> None:
    finished = subprocess.run(
        [python, "-c", f"import {package}"], capture_output=True, text=True, check=False
    )
    assert f"No module named '{package}'" in finished.stderr


@pytest.mark.timeout(300)
def test_the_check_runs_to_its_end_with_three_packages(python: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    finished = subprocess.run(
        [python, "-m", "bench.gpu", "--device", "cpu", "--minutes", "1", "--out", out],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    told = finished.stdout + finished.stderr
    # The compiler of torch.compile takes seconds alone and minutes beside other tests. The part is
    # bounded, which is all that is promised for it.
    slow = "torch.compile: killed after" in told
    assert finished.returncode == int(slow), told
    tables = json.loads((out / "gpu.json").read_text("utf-8"))["tables"]
    assert "Failures" not in tables
    facts = {row["fact"] for row in tables["Device"]}
    assert {"torch", "device", "bf16 matrix peak, TFLOP/s"} <= facts
    assert len(tables["Correctness"]) > 5
    assert not [row for row in tables["Correctness"] if row.get("holds") == "NO"]
    for model in ("tiny", "small"):
        rows = tables[f"Windows per second, {model}"]
        assert {(row["window"], row["engine"]) for row in rows} >= {
            (window, engine)
            for window in ("1 s", "2 s", "3 s")
            for engine in ("ours", "FunASR's way")
        }
        assert all(row["windows/s"] > 0 for row in rows)
    streams = tables["Live streams, hop 1 s, window 3 s"]
    assert all(row["lost"] == 0 and row["windows/s"] > 0 for row in streams)
    assert tables["Tests"][0]["tests"].startswith("not run: pip install pytest")
    text = (out / "gpu.md").read_text("utf-8")
    assert all(f"## {name}" in text for name in tables)


def test_a_part_that_fails_is_reported_as_a_row(python: Path, tmp_path: Path) -> None:
    """A failing part must not stop the others. Here the folder for the models is not writable."""
    rows = tmp_path / "rows.jsonl"
    (tmp_path / "work").write_text("a file, not a folder")
    command: list[str | Path] = [
        *(python, "-m", "bench.gpu.part", "streams", "--device", "cpu", "--model", "tiny"),
        *("--work", tmp_path / "work", "--rows", rows, "--seconds", "20"),
    ]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 1
    assert "Traceback" in finished.stderr
    (failure,) = report.read(rows)["Failures"]
    assert failure["part"] == "streams"
    assert "NotADirectoryError" in failure["error"]


def test_without_a_device_the_error_names_the_remedy(python: Path) -> None:
    finished = subprocess.run(
        [python, "-m", "bench.gpu"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 2
    assert "--device cpu" in finished.stderr


def test_a_row_that_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"table": "A", "row": {"x": 1}}\n{"table": "A", "row": {"y"')
    assert report.read(rows) == {"A": [{"x": 1}]}


def test_tables_have_the_columns_of_all_their_rows() -> None:
    text = report.markdown({"A": [{"x": 1}, {"x": 2.0, "y": None}]}, "python3 -m bench.gpu")
    assert "| x | y |" in text
    assert "| 1 | - |" in text


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_models.build(tmp_path_factory.mktemp("model") / "tiny", "tiny")


def test_funasr_s_way_gives_funasr_s_scores(directory: Path) -> None:
    """Ratios to the reference are valid only if it computes the same as FunASR."""
    funasr = oracle.auto_model(directory)
    loaded = emotion2vec.load(str(directory), "cpu", runtime="torch")
    way = FunasrWay.of(loaded, "cpu")
    windows = buzzes(3, 32_000)
    expected = np.array([funasr.generate(row)[0]["scores"] for row in windows])
    np.testing.assert_allclose(way.run(windows), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_flops_equal_those_that_torch_counts(tmp_path: Path, name: str) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    directory = random_models.build(tmp_path / name, name)
    loaded = emotion2vec.load(str(directory), "cpu", runtime="torch")
    way = FunasrWay.of(loaded, "cpu")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        way.run(buzzes(1, 48_000))
    counted = counter.get_total_flops()
    assert flops(read_shape(directory / "config.yaml"), 48_000) == pytest.approx(counted, rel=0.01)
