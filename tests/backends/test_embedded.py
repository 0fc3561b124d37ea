"""The embedded backend: its contract, and its refusal of broken model directories.

The shipped model was trained on all of EmoDB, including the fixture clips. That it names their
emotions proves that decoding, windows, labels and pooling fit together; it proves nothing about
accuracy.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from stream.backends.base import Backend, Embedder
from stream.backends.embedded import SHIPPED, load
from stream.errors import ModelRefused
from stream.labels import LABELS

Audio = NDArray[np.float32]
CLIPS = Path(__file__).parents[1] / "fixtures" / "emodb"
LENGTHS = (16_000, 32_000, 48_000)


def decode(path: Path) -> Audio:
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray().ravel() for frame in container.decode(audio=0)]
    audio: Audio = np.concatenate(frames).astype(np.float32) / np.float32(32_768)
    return audio


def window(audio: Audio, length: int) -> Audio:
    """Return the last `length` samples, mirrored at the start if the clip is shorter."""
    return np.pad(audio, (max(0, length - len(audio)), 0), mode="reflect")[-length:]


def labelled() -> list[tuple[str, str]]:
    with (CLIPS / "manifest.csv").open(newline="") as lines:
        return [(row["path"], row["emotion"]) for row in csv.DictReader(lines)]


@pytest.fixture(scope="module")
def backend() -> Backend:
    return load()


@pytest.fixture(scope="module")
def speech() -> Audio:
    """Five windows of 3 s."""
    return np.stack([window(decode(CLIPS / path), 48_000) for path, _ in labelled()[:5]])


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("rows", [1, 2, 8])
def test_logits_have_the_declared_shape(backend: Backend, rows: int, length: int) -> None:
    audio = np.random.default_rng(0).normal(0, 0.1, (rows, length)).astype(np.float32)
    logits = backend.infer(audio)
    assert logits.shape == (rows, length // 320, len(backend.info.labels))
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


def test_info_matches_the_model_directory(backend: Backend) -> None:
    info = backend.info
    about = json.loads((SHIPPED / "model.json").read_text())
    assert info.lengths == LENGTHS
    assert info.frame_hop == 320
    assert sorted(info.labels + info.missing_labels) == sorted(LABELS)
    assert info.temperature == about["temperature"] > 0
    assert info.device == "cpu"
    assert load(why="asked for").info.why == "asked for"


def test_rows_never_influence_each_other(backend: Backend, speech: Audio) -> None:
    together = backend.infer(speech)
    alone = np.concatenate([backend.infer(row[None]) for row in speech])
    np.testing.assert_allclose(together, alone, atol=1e-4)
    order = np.array([3, 0, 4, 1, 2])
    np.testing.assert_allclose(backend.infer(speech[order]), together[order], atol=1e-4)
    poisoned = speech.copy()
    poisoned[1] = np.nan
    poisoned[3] = 1e6
    clean = [0, 2, 4]
    np.testing.assert_allclose(backend.infer(poisoned)[clean], together[clean], atol=1e-4)


@pytest.mark.parametrize("level", [0.0, 1e-9, 1e-5])
def test_logits_of_silence_are_finite_and_below_50(backend: Backend, level: float) -> None:
    rng = np.random.default_rng(0)
    audio = rng.normal(0, 1, (2, 32_000)).astype(np.float32) * np.float32(level)
    logits = backend.infer(audio)
    assert np.isfinite(logits).all()
    assert np.abs(logits).max() < 50


def test_gain_does_not_matter_between_whisper_and_shout(backend: Backend, speech: Audio) -> None:
    loud = speech / np.abs(speech).max(axis=1, keepdims=True)
    quiet = backend.infer(loud * np.float32(10 ** (-40 / 20))).mean(axis=1)
    np.testing.assert_allclose(quiet, backend.infer(loud).mean(axis=1), atol=0.05)


def test_names_the_emotion_of_most_clips_it_was_trained_on(backend: Backend) -> None:
    named = {}
    for path, emotion in labelled():
        audio = decode(CLIPS / path)
        frames = min(len(audio), 48_000) // backend.info.frame_hop
        logits = backend.infer(window(audio, 48_000)[None])[0, -frames:].mean(axis=0)
        named[path] = (emotion, backend.info.labels[int(logits.argmax())])
    known = {path: names for path, names in named.items() if names[0] in backend.info.labels}
    right = [path for path, (emotion, label) in known.items() if emotion == label]
    assert len(known) == 5
    assert len(right) >= 4, named


def test_shipped_model_is_small_and_documented() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 6_000_000
    about = json.loads((SHIPPED / "model.json").read_text())
    assert "EmoDB" in about["training_data"]
    assert about["figures"]
    notice = (SHIPPED / "NOTICE").read_text()
    assert "OpenAI" in notice
    for licence in ("CC0", "Apache License", "CC BY 4.0", "CC BY 3.0", "Microsoft"):
        assert licence in notice
    for source in ("RAVDESS", "nEMO"):
        assert source not in about["training_data"], "development sets must not be in the weights"


def test_windows_last_2_s_by_default_and_longer_ones_are_scored_as_well(backend: Backend) -> None:
    assert backend.info.preferred_lengths == (16_000, 32_000)
    assert backend.info.lengths == LENGTHS


def test_logits_are_the_same_with_and_without_features(backend: Backend, speech: Audio) -> None:
    """Only what leads to the logits is computed when no session asks for embeddings."""
    assert isinstance(backend, Embedder)
    logits, features = backend.embed(speech[:2])
    assert features.shape == (2, 150, backend.info.dim)
    np.testing.assert_array_equal(backend.infer(speech[:2]), logits)


def test_importing_the_module_does_not_import_onnxruntime() -> None:
    code = "import sys, stream.backends.embedded; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def alter(directory: Path, **changes: Any) -> None:
    """Change fields of model.json; None removes one."""
    path = directory / "model.json"
    about = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: x for name, x in about.items() if x is not None}))


def spoil_onnx(directory: Path) -> None:
    """Write a file with the sha256 of model.json that is not ONNX."""
    (directory / "model.onnx").write_bytes(b"not a model")
    alter(directory, sha256=hashlib.sha256(b"not a model").hexdigest())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "model.onnx").unlink(), "model.onnx"),
        (lambda d: (d / "model.onnx").write_bytes(b"not a model"), "sha256"),
        (spoil_onnx, "cannot be loaded"),
        (lambda d: (d / "model.json").unlink(), "missing"),
        (lambda d: (d / "model.json").write_text("{"), "cannot be read"),
        (lambda d: (d / "model.json").write_text("[]"), "JSON object"),
        (lambda d: alter(d, sha256=None), "sha256"),
        (lambda d: alter(d, frame_hop="320"), "frame_hop"),
        (lambda d: alter(d, labels=["angry", "happy"], reference=[]), "declares"),
        (lambda d: alter(d, reference=[0.0]), "one finite logit per label"),
        (lambda d: alter(d, reference=["calm"] * 5), "one finite logit per label"),
        (lambda d: alter(d, labels=["angry"] * 7), "labels"),
        (lambda d: alter(d, labels=["furious"]), "labels"),
        (lambda d: alter(d, labels=[]), "labels"),
        (lambda d: alter(d, lengths=[16_001]), "lengths"),
        (lambda d: alter(d, lengths=[480_000], default_lengths=[]), "cannot score"),
        (lambda d: alter(d, default_lengths=[8_000]), "default_lengths"),
        (lambda d: alter(d, temperature=0), "temperature"),
    ],
)
def test_refuses_a_broken_directory(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    directory = tmp_path / "model"
    shutil.copytree(SHIPPED, directory)
    damage(directory)
    with pytest.raises(ModelRefused, match=message) as refusal:
        load(directory)
    assert str(directory) in str(refusal.value)


def test_refuses_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match=r"model\.json is missing"):
        load(tmp_path / "nowhere")
