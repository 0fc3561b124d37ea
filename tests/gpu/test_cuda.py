"""emotion2vec+ on a CUDA device. Runs with pytest alone: `python -m bench.gpu --tests`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench import random_models
from stream.backends import emotion2vec
from stream.backends.emotion2vec import Emotion2vec, Precision
from stream.backends.emotion2vec.backend import LENGTHS
from stream.backends.emotion2vec.signals import buzzes
from stream.errors import ModelRefused
from stream.inference.runner import BackendRunner

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="needs a CUDA device: CUDA graphs cannot be recorded without one",
)
TOLERANCE = 1e-4
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "float16")


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_models.build(tmp_path_factory.mktemp("model") / "tiny", "tiny")


@pytest.fixture(scope="session")
def cpu(directory: Path) -> Emotion2vec:
    return emotion2vec.load(str(directory), device="cpu", runtime="torch")


def load(directory: Path, precision: Precision = "float32") -> Emotion2vec:
    return emotion2vec.load(str(directory), device="cuda", precision=precision)


@pytest.fixture
def gpu(directory: Path) -> Iterator[Emotion2vec]:
    loaded = load(directory)
    yield loaded
    loaded.close()


@pytest.mark.parametrize("samples", LENGTHS)
@pytest.mark.parametrize("rows", [1, 4, 32])
def test_recorded_graphs_equal_the_cpu(
    cpu: Emotion2vec, gpu: Emotion2vec, samples: int, rows: int
) -> None:
    audio = buzzes(rows, samples)
    expected = np.concatenate([cpu.infer(row[None]) for row in audio])
    for _ in range(2):  # recorded, then replayed
        np.testing.assert_allclose(gpu.infer(audio), expected, atol=TOLERANCE, rtol=0)
    assert gpu.runner.graphs  # type: ignore[attr-defined]


def test_embeddings_equal_the_cpu(cpu: Emotion2vec, gpu: Emotion2vec) -> None:
    audio = buzzes(3, LENGTHS[1])
    for one, other in zip(gpu.embed(audio), cpu.embed(audio), strict=True):
        np.testing.assert_allclose(one, other, atol=TOLERANCE * np.abs(other).max(), rtol=0)


def test_a_replay_does_not_depend_on_the_previous_one(gpu: Emotion2vec) -> None:
    first, second = buzzes(2, LENGTHS[0])[:, None]
    result = gpu.infer(first)
    copy = result.copy()
    gpu.infer(second)
    np.testing.assert_array_equal(result, copy)
    np.testing.assert_array_equal(gpu.infer(first), copy)


def test_shapes_in_any_order_do_not_affect_each_other(gpu: Emotion2vec) -> None:
    """All graphs share one pool and one input buffer, which grows with a larger shape."""
    shapes = [(1, LENGTHS[0]), (4, LENGTHS[2]), (2, LENGTHS[1]), (8, LENGTHS[0])]
    batches = [buzzes(*shape) for shape in shapes]
    expected = [gpu.infer(batch) for batch in batches]
    for at in (3, 0, 2, 1, 1, 0, 3):
        np.testing.assert_array_equal(gpu.infer(batches[at]), expected[at])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_invalid_rows_do_not_affect_the_others(directory: Path, precision: Precision) -> None:
    gpu = load(directory, precision)
    audio = buzzes(8, LENGTHS[0])
    expected = gpu.infer(audio)
    invalid = audio.copy()
    invalid[1], invalid[4], invalid[6] = np.nan, np.inf, 1e30
    valid = [0, 2, 3, 5, 7]
    np.testing.assert_array_equal(gpu.infer(invalid)[valid], expected[valid])
    gpu.close()


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_half_precisions_are_close(cpu: Emotion2vec, directory: Path, precision: Precision) -> None:
    gpu = load(directory, precision)
    audio = buzzes(16, LENGTHS[2])
    exact = _scores(np.concatenate([cpu.infer(row[None]) for row in audio]))
    difference = np.abs(_scores(gpu.infer(audio)) - exact).max()
    assert 0 < difference < 0.05
    gpu.close()


def test_windows_in_the_staging_buffer_are_scored(gpu: Emotion2vec) -> None:
    audio = buzzes(4, LENGTHS[0])
    expected = gpu.infer(audio)
    staged = gpu.staging(4, LENGTHS[0])
    assert torch.from_numpy(staged).is_pinned()
    staged[:] = audio
    np.testing.assert_array_equal(gpu.infer(staged), expected)


def test_a_batch_without_memory_is_halved_and_all_windows_are_scored(directory: Path) -> None:
    gpu = load(directory)
    model = BackendRunner(gpu, 128)
    audio = buzzes(128, LENGTHS[2])
    expected = model.infer([audio[0]], embed=False)[0]
    assert expected is not None
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties("cuda").total_memory
    share = (torch.cuda.memory_reserved() + 200e6) / total
    torch.cuda.set_per_process_memory_fraction(share)
    try:
        results = model.infer(list(audio), embed=False)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert all(result is not None for result in results)
    assert model.sizes[-1] < 128
    assert results[0] is not None
    np.testing.assert_allclose(results[0][0], expected[0], atol=TOLERANCE, rtol=0)
    gpu.close()


def test_graphs_of_all_shapes_share_their_memory(directory: Path) -> None:
    gpu = load(directory)
    model = BackendRunner(gpu, 32)
    before = torch.cuda.memory_reserved()
    used = []
    for warm_up in model.warm_up(LENGTHS):
        used.append(torch.cuda.memory_reserved() - before)
        assert warm_up.shapes == 18
    # The first entry precedes any shape; the second follows the largest.
    assert used[-1] < 2 * used[1]
    gpu.close()


def test_a_device_that_does_not_exist_is_refused(directory: Path) -> None:
    with pytest.raises(ModelRefused, match="cannot be used"):
        emotion2vec.load(str(directory), device=f"cuda:{torch.cuda.device_count()}")


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_the_second_device_gives_the_scores_of_the_first(directory: Path) -> None:
    audio = buzzes(4, LENGTHS[0])
    first, second = (emotion2vec.load(str(directory), f"cuda:{n}") for n in range(2))
    np.testing.assert_allclose(second.infer(audio), first.infer(audio), atol=TOLERANCE, rtol=0)
    assert second.info.device == "cuda:1"


def test_a_network_that_cannot_be_captured_runs_without_graphs(
    directory: Path, gpu: Emotion2vec, caplog: pytest.LogCaptureFixture
) -> None:
    """A capture forbids waiting for the device. If it fails, the windows must still be scored, and
    one warning must be logged. This is the last test of the file: after a failed capture torch 2.11
    releases less memory for the rest of the process."""
    audio = buzzes(2, LENGTHS[0])
    expected = gpu.infer(audio)
    other = load(directory)
    scorer = other.runner.scorer  # type: ignore[attr-defined]

    def waits(audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert audio.sum().item() is not None
        logits, features = scorer(audio)
        return logits, features

    other.runner.scorer = waits  # type: ignore[attr-defined]
    with caplog.at_level(logging.WARNING):
        for samples in LENGTHS[:2]:
            other.infer(buzzes(2, samples))
        for _ in range(2):
            np.testing.assert_allclose(other.infer(audio), expected, atol=1e-5, rtol=0)
    assert [record.message for record in caplog.records] == [
        "CUDA graph capture failed: running without"
    ]
    other.close()


def _scores(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    mean = logits.mean(axis=1, dtype=np.float64)
    powers = np.exp(mean - mean.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
