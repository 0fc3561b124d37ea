"""Equal scores from every runtime: torch, an exported graph, int8, half precision."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emotide import models
from stream.backends import emotion2vec
from stream.backends.emotion2vec import eager, exported, oracle
from stream.backends.emotion2vec.locate import EXPORT
from stream.errors import ModelRefused
from tests.support import small_emotion2vec
from tests.support.emotion2vec import LENGTHS, TOLERANCE, softmax, speech_like

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def exported_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = small_emotion2vec.build(
        tmp_path_factory.mktemp("model") / "small", small_emotion2vec.FIVE
    )
    assert models.main(["export", str(directory)]) == 0
    return directory


@pytest.fixture
def copied(exported_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported_dir, tmp_path / "copied"))


def windows(samples: int, rows: int) -> NDArray[np.float32]:
    return np.stack([speech_like(samples, seed, gain=0.1**seed) for seed in range(rows)])


@pytest.mark.parametrize("samples", LENGTHS)
@pytest.mark.parametrize("rows", [1, 4])
def test_export_equals_torch(exported_dir: Path, samples: int, rows: int) -> None:
    onnx = emotion2vec.load(str(exported_dir), device="cpu")
    torch = emotion2vec.load(str(exported_dir), device="cpu", runtime="torch")
    assert isinstance(onnx.runner, exported.ExportedRunner)
    assert isinstance(torch.runner, eager.EagerRunner)
    assert onnx.info == torch.info
    audio = windows(samples, rows)
    np.testing.assert_allclose(onnx.infer(audio), torch.infer(audio), atol=TOLERANCE, rtol=0)


def test_embeddings_are_funasr_s_features(exported_dir: Path) -> None:
    """`embed` returns the logits of `infer`, and what FunASR calls feats, in both runtimes."""
    model = oracle.auto_model(exported_dir)
    audio = windows(LENGTHS[1], 3)
    reference = [model.generate(row, granularity="frame")[0]["feats"] for row in audio]
    for runtime in ("torch", "onnx"):
        backend = emotion2vec.load(str(exported_dir), device="cpu", runtime=runtime)
        logits, features = backend.embed(audio)
        np.testing.assert_array_equal(logits, backend.infer(audio))
        assert features.dtype == np.float32
        assert features.shape == (3, logits.shape[1], backend.info.dim)
        np.testing.assert_allclose(features, reference, atol=TOLERANCE, rtol=0)


def test_export_needs_no_torch(exported_dir: Path) -> None:
    program = (
        "import sys, numpy as np; from stream.backends import emotion2vec\n"
        "model = emotion2vec.load(sys.argv[1], device='cpu')\n"
        "assert model.infer(np.zeros((2, 16_000), np.float32)).shape == (2, 49, 5)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(exported_dir)], cwd=ROOT, check=True)


def test_export_of_other_weights_is_refused(copied: Path) -> None:
    with (copied / "model.pt").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelRefused, match=rf"{EXPORT} was exported from checkpoint .* again"):
        emotion2vec.load(str(copied), device="cpu")


def test_damaged_export_is_refused(copied: Path) -> None:
    (copied / EXPORT).write_bytes((copied / EXPORT).read_bytes()[:1000])
    with pytest.raises(ModelRefused, match=rf"{EXPORT} is not an export of Emotide .* again"):
        emotion2vec.load(str(copied), device="cpu")


def test_requested_export_must_exist(copied: Path) -> None:
    (copied / EXPORT).unlink()
    with pytest.raises(ModelRefused, match=rf"{EXPORT} is missing: export it again"):
        emotion2vec.load(str(copied), device="cpu", runtime="onnx")
    assert isinstance(emotion2vec.load(str(copied), device="cpu").runner, eager.EagerRunner)


@pytest.mark.parametrize(
    ("device", "precision", "runtime"), [("cuda", "float32", "onnx"), ("cpu", "bfloat16", "auto")]
)
def test_export_refuses_other_devices_and_precisions(
    exported_dir: Path, device: str, precision: emotion2vec.Precision, runtime: emotion2vec.Runtime
) -> None:
    with pytest.raises(ModelRefused, match=r'on the CPU in float32 or int8.*runtime = "torch"'):
        emotion2vec.load(str(exported_dir), device, runtime=runtime, precision=precision)


def test_int8_is_close_and_rows_do_not_influence_each_other(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """int8 inputs are scaled by their range: a loud row in the batch must not affect others."""
    assert models.main(["export", str(copied), "--int8"]) == 0
    assert "times the speed of float32 here" in capsys.readouterr().out
    exact = emotion2vec.load(str(copied), device="cpu")
    close = emotion2vec.load(str(copied), device="cpu", precision="int8")
    assert isinstance(close.runner, exported.ExportedRunner)
    assert close.info == exact.info
    audio = windows(LENGTHS[2], 4)
    alone = np.concatenate([close.infer(row[None]) for row in audio])
    np.testing.assert_array_equal(close.infer(audio), alone)
    for one, other in zip(exact.infer(audio), alone, strict=True):
        difference = np.abs(softmax(one.mean(axis=0)) - softmax(other.mean(axis=0)))
        assert 0 < difference.max() < 0.05
    logits, features = close.embed(audio)
    np.testing.assert_array_equal(logits, alone)
    assert features.shape == (*logits.shape[:2], close.info.dim)


def test_missing_int8_export_is_refused_with_the_command(exported_dir: Path) -> None:
    with pytest.raises(ModelRefused, match=r"int8\.onnx is missing: export it again .* export.*"):
        emotion2vec.load(str(exported_dir), device="cpu", precision="int8")
    with pytest.raises(ModelRefused, match=r'"int8" needs an export: set runtime = "auto"'):
        emotion2vec.load(str(exported_dir), device="cpu", precision="int8", runtime="torch")


def test_export_command(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "elsewhere.onnx"
    assert models.main(["export", str(copied), str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    assert models.main(["export", "/no/such/model"]) == 1
    assert "/no/such/model is not a directory" in capsys.readouterr().err


def test_bfloat16_is_close(exported_dir: Path) -> None:
    """Scores are close, not equal; the product with the waveform and the head stay float32."""
    import torch

    exact = emotion2vec.load(str(exported_dir), device="cpu", runtime="torch")
    close = emotion2vec.load(str(exported_dir), device="cpu", runtime="torch", precision="bfloat16")
    assert isinstance(close.runner, eager.EagerRunner)
    assert close.runner.scorer is not None
    network = close.runner.scorer.network
    assert isinstance(exact.runner, eager.EagerRunner)
    assert exact.runner.scorer is not None
    full = exact.runner.scorer.network
    for name in ("frontend.0.weight", "head.weight", "alibi_scale"):
        assert torch.equal(network.state_dict()[name], full.state_dict()[name])
    assert network.frontend[1].weight.dtype == network.blocks[0].qkv.weight.dtype == torch.bfloat16
    audio = windows(LENGTHS[2], 3)
    for one, other in zip(exact.infer(audio), close.infer(audio), strict=True):
        difference = np.abs(softmax(one.mean(axis=0)) - softmax(other.mean(axis=0)))
        assert 0 < difference.max() < 0.02
