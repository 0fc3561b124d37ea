"""The training pipeline end to end on eight clips, with a tiny random encoder and no network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stream.backends.embedded import load
from training.data import LENGTHS, cut, degrade, mirrored, read_manifest, telephone
from training.encoder import Encoder, LogMel, Shape, save_encoder
from training.evaluate import fit_temperature, measure, windows

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "tests" / "fixtures" / "emodb" / "manifest.csv"


def run(module: str, *arguments: str | Path) -> str:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(180)
def test_trains_exports_and_evaluates_a_model_the_server_loads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_encoder(tmp_path / "encoder.npz", Encoder(Shape(width=32, heads=2, layers=2)))
    encoder = ("--encoder", tmp_path / "encoder.npz")
    trained, model = tmp_path / "trained", tmp_path / "model"
    few = ("--copies", "1", "--folds", "2", "--steps", "20")
    run("training.train", "--manifest", MANIFEST, *encoder, "--out", trained, *few)
    run("training.export", *encoder, "--trained", trained, "--out", model)

    backend = load(model)
    assert backend.info.labels == (
        "angry", "disgusted", "fearful", "happy", "neutral", "other", "sad",
    )  # fmt: skip
    assert backend.info.missing_labels == ("surprised", "unknown")
    assert json.loads((model / "model.json").read_text())["figures"]
    table = run("training.evaluate", "--manifest", MANIFEST, "--model", model, "--corpora", "emodb")
    assert "telephone" in table


def test_log_mel_ignores_gain_and_stays_finite_in_silence() -> None:
    mel = LogMel(80)
    speech = torch.from_numpy(read_manifest(MANIFEST)[0].audio[None, :16_000])
    assert mel(speech).shape == (1, 80, 100)
    torch.testing.assert_close(mel(speech), mel(speech * 0.05), atol=2e-3, rtol=0)
    assert torch.isfinite(mel(torch.zeros(1, 16_000))).all()


@pytest.mark.parametrize("length", LENGTHS)
def test_windows_are_cut_and_degraded_without_changing_their_length(length: int) -> None:
    rng = np.random.default_rng(1)
    clips = read_manifest(MANIFEST)
    for clip in clips:
        audio, mask = cut(rng, clip, clips[0], length)
        heard = degrade(rng, audio)
        assert heard.shape == (length,)
        assert mask.shape == (length // 320,)
        assert mask.any()
        assert np.isfinite(heard).all()
        assert heard.dtype == np.float32


def test_views_cover_a_clip_and_count_only_its_own_frames() -> None:
    audio = np.arange(80_000, dtype=np.float32)
    pieces = windows(audio, "clip")
    assert [(w[0], w[-1], n) for w, n in pieces] == [
        (0, 47_999, 150), (16_000, 63_999, 150), (32_000, 79_999, 150),
    ]  # fmt: skip
    ((short, counted),) = windows(audio[:16_000], "3 s")
    assert (len(short), counted) == (48_000, 50)
    assert mirrored(audio[:3], 5).tolist() == [2.0, 1.0, 0.0, 1.0, 2.0]


def test_telephone_removes_what_no_call_carries() -> None:
    time = np.arange(16_000) / 16_000
    low, middle, high = (
        np.sin(2 * np.pi * hz * time).astype(np.float32) for hz in (100, 1000, 5000)
    )
    assert telephone(low).std() < 0.05
    assert telephone(high).std() < 0.05
    assert telephone(middle).std() == pytest.approx(0.707, rel=0.05)


def test_temperature_is_found_and_figures_are_shares() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (4000, 3))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([rng.choice(3, p=share) for share in shares])
    assert fit_temperature(2 * logits, truth) == pytest.approx(2.0, rel=0.1)
    figures = measure(logits, truth)
    assert figures.ece < 0.04
    assert figures.uar == pytest.approx(figures.accuracy, abs=0.02)
