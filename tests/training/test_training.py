"""The training pipeline end to end on eight clips, with a tiny random encoder and no network."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from stream.backends.embedded import load
from training import fit as fit_module
from training.augment import change_voice, coded, degrade, line, telephone, tempo
from training.bank import fill_bank
from training.data import LENGTHS, cut, mirrored, read_manifest
from training.fit import Task, Trainer, fit
from training.measure import activation, activation_recall, confusion, fit_temperature, measure
from training.model import load_model
from training.recipe import Recipe
from training.sounds import KINDS, not_speech
from training.train import read_set
from training.views import CONDITIONS, windows
from training.whisper import Encoder, LogMel, Shape, save_encoder

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "tests" / "fixtures" / "emodb" / "manifest.csv"
LABELS = ("angry", "disgusted", "fearful", "happy", "neutral", "other", "sad", "unknown")
TINY = Recipe(copies=2, sounds=2, steps=12, warmup=4, batch=4, components=16)


def run(module: str, *arguments: str | Path) -> str:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "encoder.npz"
    save_encoder(path, Encoder(Shape(width=32, heads=2, layers=2)))
    return path


@pytest.mark.timeout(240)
def test_trains_exports_and_evaluates_a_model_that_the_server_loads(
    tmp_path: Path, encoder: Path
) -> None:
    trained, model = tmp_path / "trained", tmp_path / "model"
    arguments = ("--manifest", MANIFEST, "--encoder", encoder, "--out", trained, "--folds", "2")
    few = (
        *("--copies", "2", "--sounds", "4", "--steps", "20", "--batch", "4", "--threads", "1"),
        *("--settle-steps", "10"),
    )
    run("training.train", *arguments, *few)
    run("training.export", "--trained", trained, "--out", model)

    backend = load(model)
    assert backend.info.labels == LABELS
    assert backend.info.missing_labels == ("surprised",)
    about = json.loads((model / "model.json").read_text())
    assert about["figures"]
    assert about["dim"] == 64
    where = ("--manifest", MANIFEST, "--model", model, "--trained", trained)
    table = run("training.evaluate", *where, "--corpora", "emodb")
    assert table.count("| emodb | 10 dB noise |") == 2, "held-out speakers, and the model itself"

    # A second run finds every result: it writes the same model without training.
    before = (trained / "model.npz").read_bytes()
    folds = {path: path.stat().st_mtime_ns for path in (trained / "work").rglob("*.npz")}
    run("training.train", *arguments, *few)
    assert (trained / "model.npz").read_bytes() == before
    assert {p: p.stat().st_mtime_ns for p in (trained / "work").rglob("*.npz")} == folds


def trainer(folder: Path, encoder: Path) -> Trainer:
    clips = read_manifest(MANIFEST)
    bank = fill_bank(folder, clips, 80, TINY, seed=0)
    truth = np.array([LABELS.index(clip.emotion) for clip in clips])
    speakers = [clip.speaker for clip in clips]
    task = Task(bank, truth, np.arange(len(clips)), LABELS, speakers)
    return Trainer(task, encoder, TINY, seed=3)


def test_an_interrupted_training_resumes_to_the_same_weights(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_module, "CHECKPOINT_STEPS", 5)
    uninterrupted = fit(trainer(tmp_path / "bank", encoder), tmp_path / "full.npz", "full")

    interrupted = trainer(tmp_path / "bank", encoder)
    advance = interrupted.advance

    def until_eight() -> None:
        if interrupted.step == 8:
            raise KeyboardInterrupt
        advance()

    monkeypatch.setattr(interrupted, "advance", until_eight)
    with pytest.raises(KeyboardInterrupt):
        fit(interrupted, tmp_path / "resumed.npz", "interrupted")
    assert not (tmp_path / "resumed.npz").exists()

    resumed = trainer(tmp_path / "bank", encoder)
    result = fit(resumed, tmp_path / "resumed.npz", "resumed")
    for name, weights in uninterrupted.state_dict().items():
        torch.testing.assert_close(result.state_dict()[name], weights, rtol=0, atol=1e-6)
    stored = load_model(tmp_path / "resumed.npz").state_dict()
    assert all(torch.equal(stored[name], value) for name, value in result.state_dict().items())


def test_an_emotion_may_count_as_another_label() -> None:
    """Bored speech as a separate label attracted most of the neutral speech of other corpora."""
    data = read_set(MANIFEST, set(), sounds=True, counts={"other": "neutral"})
    assert data.labels == ["angry", "disgusted", "fearful", "happy", "neutral", "sad", "unknown"]
    bored = next(i for i, clip in enumerate(data.clips) if clip.path == "13a01Lb.flac")
    assert data.labels[data.truth[bored]] == "neutral"


def test_refuses_a_count_that_names_no_label(tmp_path: Path, encoder: Path) -> None:
    command = [sys.executable, "-m", "training.train", "--manifest", str(MANIFEST)]
    command += ["--out", str(tmp_path / "out"), "--encoder", str(encoder), "--count", "bored=calm"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "--count: expected EMOTION=LABEL" in done.stderr


def test_refuses_a_manifest_with_one_speaker(tmp_path: Path, encoder: Path) -> None:
    manifest = tmp_path / "one.csv"
    clip = MANIFEST.parent / "03a01Wa.flac"
    manifest.write_text(f"path,corpus,speaker,emotion\n{clip},mine,me,angry\n")
    command = [sys.executable, "-m", "training.train", "--manifest", str(manifest)]
    command += ["--out", str(tmp_path / "out"), "--encoder", str(encoder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "at least two emotions and two speakers" in done.stderr


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
        for changed in (
            degrade(rng, audio),
            line(rng, audio),
            *(f(audio) for f in CONDITIONS.values()),
        ):
            assert changed.shape == (length,)
            assert np.isfinite(changed).all()
            assert changed.dtype == np.float32
        assert mask.shape == (length // 320,)
        assert mask.any()


@pytest.mark.parametrize("kind", [make for make, _ in KINDS], ids=lambda make: make.__name__)
def test_sounds_are_finite_and_of_unit_power(
    kind: Callable[[np.random.Generator, int], np.ndarray],
) -> None:
    for seed in range(5):
        sound = kind(np.random.default_rng(seed), 32_000)
        assert sound.shape == (32_000,)
        assert sound.dtype == np.float32
        assert np.isfinite(sound).all()
        assert sound.std() == pytest.approx(1, abs=0.01)
    assert np.isfinite(not_speech(np.random.default_rng(0), 48_000)).all()


def test_tempo_keeps_pitch_and_change_voice_does_not() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000).astype(np.float32)

    def pitch(audio: np.ndarray) -> float:
        return float(np.abs(np.fft.rfft(audio)).argmax() * 16_000 / len(audio))

    faster = tempo(tone, 1.25)
    assert len(faster) == pytest.approx(32_000 / 1.25, rel=0.05)
    assert pitch(faster) == pytest.approx(440, rel=0.02)
    assert {round(pitch(change_voice(np.random.default_rng(s), tone))) for s in range(5)} != {440}


@pytest.mark.parametrize(("codec", "rate"), [("libopus", 16_000), ("libopencore_amrnb", 8_000)])
def test_codecs_return_similar_speech(codec: str, rate: int) -> None:
    speech = read_manifest(MANIFEST)[0].audio[:rate]
    decoded = coded(speech, rate, codec, 12_200)
    assert decoded.shape == speech.shape
    before, after = (np.abs(np.fft.rfft(x))[: len(speech) // 5] for x in (speech, decoded))
    assert np.corrcoef(before, after)[0, 1] > 0.7


def test_views_cover_a_clip_and_count_only_its_frames() -> None:
    audio = np.arange(80_000, dtype=np.float32)
    pieces = windows(audio, "clip")
    assert [(w[0], w[-1], n) for w, n in pieces] == [
        (0, 47_999, 150), (16_000, 63_999, 150), (32_000, 79_999, 150),
    ]  # fmt: skip
    ((short, counted),) = windows(audio[:16_000], "3 s")
    assert (len(short), counted) == (48_000, 50)
    assert mirrored(audio[:3], 5).tolist() == [2.0, 1.0, 0.0, 1.0, 2.0]


def test_telephone_removes_frequencies_outside_its_band() -> None:
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
    assert confusion(logits.argmax(axis=1), truth, 3).sum(axis=1) == pytest.approx([1, 1, 1])


def test_activation_sets_aroused_against_calm() -> None:
    names = ("angry", "fearful", "happy", "neutral", "other", "sad")
    logits = np.log(
        np.array([[0.3, 0.2, 0.1, 0.1, 0.1, 0.2], [0.1, 0.0, 0.1, 0.5, 0.2, 0.1]]) + 1e-9
    )
    assert activation(logits, names) == pytest.approx([0.6 / 0.9, 0.25], abs=1e-6)
    assert activation_recall(logits, names, ["happy", "sad"]) == 1.0
