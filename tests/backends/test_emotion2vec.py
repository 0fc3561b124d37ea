"""The emotion2vec backend against FunASR itself.

With a small model of random weights, because the tests only compare our results with FunASR's.
"""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stream.backends import emotion2vec
from stream.backends.emotion2vec import Emotion2vec, eager, oracle
from stream.labels import LABELS
from tests.support import small_emotion2vec
from tests.support.emotion2vec import LENGTHS, TOLERANCE, features, load, softmax, speech_like

pytestmark = pytest.mark.timeout(120)


# --- FunASR as oracle: the head is linear, so the mean of our frames is its utterance. ---


@pytest.mark.parametrize(
    ("tokens", "published"),
    [
        (small_emotion2vec.NINE, False),
        (small_emotion2vec.NINE, True),
        (small_emotion2vec.FIVE, True),
    ],
    ids=["bare", "as published", "five classes"],
)
def test_scores_equal_funasr(tmp_path: Path, tokens: tuple[str, ...], published: bool) -> None:
    directory = small_emotion2vec.build(tmp_path / "model", tokens, published)
    ours, reference = load(directory), oracle.auto_model(directory)
    used = [i for i, token in enumerate(tokens) if not token.startswith("unuse")]
    for seed, samples in enumerate(LENGTHS):
        audio = speech_like(samples, seed)
        (expected,) = reference.generate(audio, granularity="frame")
        (logits,) = ours.infer(audio[None])

        named = [
            label.rpartition("/")[2].replace("<unk>", "unknown") for label in expected["labels"]
        ]
        assert list(ours.info.labels) == named
        np.testing.assert_allclose(
            softmax(logits.mean(axis=0)), expected["scores"], atol=TOLERANCE, rtol=0
        )

        feats = features(ours, audio[None])[0]
        np.testing.assert_allclose(feats, expected["feats"], atol=TOLERANCE, rtol=0)
        weight = reference.model.proj.weight.detach().numpy()[used]
        bias = reference.model.proj.bias.detach().numpy()[used]
        frames = expected["feats"] @ weight.T + bias
        np.testing.assert_allclose(logits, frames, atol=TOLERANCE, rtol=0)
        np.testing.assert_allclose(
            logits.mean(axis=0), expected["feats"].mean(axis=0) @ weight.T + bias, atol=TOLERANCE
        )


def test_full_size_equals_funasr(tmp_path: Path) -> None:
    """The shape of seed and base: 12 heads (not a power of two), 512 channels, 12 blocks."""
    config = small_emotion2vec.full_size(768, 12)
    directory = small_emotion2vec.build(tmp_path / "model", published=True, config=config)
    ours, reference = load(directory), oracle.auto_model(directory)
    audio = np.stack([speech_like(LENGTHS[0], seed) for seed in range(2)])
    logits, feats = ours.infer(audio), features(ours, audio)
    for row in range(2):
        (expected,) = reference.generate(audio[row], granularity="frame")
        np.testing.assert_allclose(feats[row], expected["feats"], atol=TOLERANCE, rtol=0)
        np.testing.assert_allclose(
            softmax(logits[row].mean(axis=0)), expected["scores"], atol=TOLERANCE, rtol=0
        )


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 12, 16])
def test_slopes_equal_funasr(heads: int) -> None:
    from funasr.models.emotion2vec.base import get_alibi

    from stream.backends.emotion2vec.model import alibi_slopes

    reference = -get_alibi(2, heads)[:, 0, 1].numpy()
    np.testing.assert_allclose(alibi_slopes(heads), reference, rtol=1e-6)


def test_info_of_nine_and_five_classes(backend: Emotion2vec, tmp_path: Path) -> None:
    assert backend.info.labels == LABELS
    assert backend.info.missing_labels == ()
    assert (backend.info.id, backend.info.device, backend.info.frame_hop) == ("small", "cpu", 320)
    assert backend.info.lengths == LENGTHS
    assert backend.info.batch_sizes == (1,)
    assert len(backend.info.revision) == 12
    five = load(small_emotion2vec.build(tmp_path / "five", small_emotion2vec.FIVE)).info
    assert five.labels == ("angry", "happy", "neutral", "sad", "unknown")
    assert five.missing_labels == ("disgusted", "fearful", "other", "surprised")


@pytest.mark.parametrize("samples", LENGTHS)
def test_shape_and_type(backend: Emotion2vec, samples: int) -> None:
    logits = backend.infer(np.stack([speech_like(samples)] * 2))
    assert logits.shape == (2, (samples - 400) // 320 + 1, 9)
    assert logits.dtype == np.float32


def test_accepts_a_read_only_batch_and_leaves_it_unchanged(backend: Emotion2vec) -> None:
    batch = speech_like(LENGTHS[0])[None]
    before = batch.copy()
    batch.flags.writeable = False
    backend.infer(batch)
    np.testing.assert_array_equal(batch, before)


# --- Rows do not influence each other. ---


@pytest.mark.parametrize("samples", LENGTHS)
def test_batch_equals_one_by_one(backend: Emotion2vec, samples: int) -> None:
    batch = np.stack(
        [speech_like(samples, seed, gain) for seed, gain in enumerate((0.9, 3e-3, 0, 0.1))]
    )
    alone = np.concatenate([backend.infer(row[None]) for row in batch])
    np.testing.assert_allclose(backend.infer(batch), alone, atol=TOLERANCE, rtol=0)


def test_order_does_not_matter(backend: Emotion2vec) -> None:
    batch = np.stack([speech_like(LENGTHS[1], seed) for seed in range(4)])
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(
        backend.infer(batch[order]), backend.infer(batch)[order], atol=TOLERANCE, rtol=0
    )


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e30])
def test_a_poisoned_row_affects_only_itself(backend: Emotion2vec, poison: float) -> None:
    batch = np.stack([speech_like(LENGTHS[1], seed) for seed in range(3)])
    clean = backend.infer(batch)
    batch[1, ::7] = poison
    dirty = backend.infer(batch)
    np.testing.assert_allclose(dirty[[0, 2]], clean[[0, 2]], atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(backend.infer(batch[[0, 2]]), clean[[0, 2]], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("gain", "tolerance"), [(8.0, 1e-6), (0.25, 1e-5), (0.03, 1e-3)])
def test_gain_does_not_matter(backend: Emotion2vec, gain: float, tolerance: float) -> None:
    """Scores differ only by the epsilon in FunASR's normalisation, which matters in faint audio."""
    audio = speech_like(LENGTHS[2], gain=1.0)[None]
    loud, changed = (softmax(backend.infer(a)[0].mean(axis=0)) for a in (audio, gain * audio))
    np.testing.assert_allclose(changed, loud, atol=tolerance, rtol=0)


# --- Memory per shape. ---


def test_no_shape_keeps_tensors_allocated(backend: Emotion2vec) -> None:
    """FunASR keeps a position bias of the largest shape it has run."""
    import torch

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    backend.infer(speech_like(LENGTHS[0])[None])
    before = tensors()
    for samples in LENGTHS:
        for rows in backend.info.batch_sizes:
            backend.infer(np.stack([speech_like(samples)] * rows))
    assert tensors() == before


@pytest.mark.parametrize("shape", [(1, LENGTHS[2] + 320), (1, 400), (129, LENGTHS[0])])
def test_undeclared_shapes_raise(backend: Emotion2vec, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at most 128 rows"):
        backend.infer(np.zeros(shape, np.float32))


# --- State of the process. ---


@pytest.fixture
def torch_threads() -> Iterator[int]:
    """The thread count of torch, set to 1 and restored afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield 1
    torch.set_num_threads(before)


def test_load_does_not_change_generators_and_threads(
    model_dir: Path, torch_threads: int, capfd: pytest.CaptureFixture[str]
) -> None:
    import torch

    random.seed(11)
    np.random.seed(12)
    torch.manual_seed(13)
    states = random.getstate(), repr(np.random.get_state()), torch.get_rng_state()

    emotion2vec.load(str(model_dir), device="cpu", threads=3)

    assert random.getstate() == states[0]
    assert repr(np.random.get_state()) == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert torch.get_num_threads() == torch_threads
    assert capfd.readouterr().out == ""
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cudnn.allow_tf32


def test_first_load_of_a_process_is_silent(model_dir: Path) -> None:
    """It does not import FunASR, which prints and changes logging and warnings."""
    program = (
        "import logging, sys, torch, warnings; from stream.backends import emotion2vec\n"
        "def state():\n"
        "    root = logging.getLogger()\n"
        "    return root.level, list(root.handlers), list(warnings.filters)\n"
        "before = state()\n"
        "emotion2vec.load(sys.argv[1], device='cpu')\n"
        "assert state() == before, state()\n"
        "assert 'funasr' not in sys.modules"
    )
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(model_dir)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


def test_thread_count_is_set_in_the_inference_thread(model_dir: Path, torch_threads: int) -> None:
    import torch

    loaded = emotion2vec.load(str(model_dir), device="cpu", threads=torch_threads + 1)
    seen: list[int] = []

    def work() -> None:
        loaded.infer(speech_like(LENGTHS[0])[None])
        seen.append(torch.get_num_threads())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [torch_threads + 1]


def test_close_releases_the_weights(model_dir: Path) -> None:
    loaded = load(model_dir)
    assert isinstance(loaded.runner, eager.EagerRunner)
    loaded.close()
    assert loaded.runner.scorer is None
