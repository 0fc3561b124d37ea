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
from training.augment import change_voice, coded, degrade, line, telephone, tempo
from training.data import LENGTHS, Clip, cut, mirrored, read_manifest
from training.export import build_encoder
from training.features import FrameEncoder
from training.measure import activation, activation_recall, confusion, fit_temperature, measure
from training.sounds import EVENTS, not_speech, scene
from training.splits import folds_of, group, is_measured
from training.training_set import read_set
from training.views import CONDITIONS, windows
from training.whisper import Encoder, LogMel, Shape, load_encoder, save_encoder

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "tests" / "fixtures" / "emodb" / "manifest.csv"
LABELS = ("angry", "disgusted", "fearful", "happy", "neutral", "other", "sad", "unknown")


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
    few = [
        "--windows",
        "16",
        "--sounds",
        "4",
        "--scenes",
        "2",
        "--heard",
        "8",
        "--threads",
        "1",
        "--iterations",
        "10",
    ]
    run("training.train", *arguments, *few)
    run("training.export", "--trained", trained, "--out", model)

    backend = load(model)
    assert backend.info.labels == LABELS
    assert backend.info.missing_labels == ("surprised",)
    about = json.loads((model / "model.json").read_text())
    assert about["figures"]
    assert about["dim"] == 64, "the stem and one layer of 32"
    assert backend.info.preferred_lengths == LENGTHS
    assert backend.info.lengths == (*LENGTHS, 48_000)
    where = ("--manifest", MANIFEST, "--model", model, "--trained", trained)
    table = run("training.evaluate", *where, "--corpora", "emodb")
    assert table.count("| emodb | 10 dB noise |") == 2, "held-out speakers, and the model itself"

    # A second run finds every feature: it writes the same model without encoding a window.
    before = (trained / "model.npz").read_bytes()
    features = {path: path.stat().st_mtime_ns for path in (trained / "features").glob("*.npz")}
    run("training.train", *arguments, *few)
    assert (trained / "model.npz").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in features} == features


def test_calm_speech_sets_the_bias_of_neutral_and_half_of_it_is_kept_for_measurement(
    tmp_path: Path, encoder: Path
) -> None:
    manifest = tmp_path / "both.csv"
    lines = MANIFEST.read_text().splitlines()
    head = lines[0].split(",")
    row = dict(zip(head, lines[1].split(","), strict=True))
    row["path"] = str(MANIFEST.parent / row["path"])
    lines[1:] = [str(MANIFEST.parent / line) for line in lines[1:]]
    for number in range(8):
        calm = row | {"corpus": "read", "speaker": f"reader {number}", "emotion": "neutral"}
        lines.append(",".join(calm[name] for name in head))
    manifest.write_text("\n".join(lines) + "\n")
    trained = tmp_path / "trained"
    few = ["--windows", "8", "--sounds", "0", "--heard", "0", "--threads", "1", "--iterations", "5"]
    arguments = ("--manifest", manifest, "--encoder", encoder, "--out", trained, "--folds", "2")
    run("training.train", *arguments, *few, "--corpora", "emodb", "--calm", "read")
    facts = json.loads((trained / "training.json").read_text())
    assert 0 < facts["clips"]["read"] < 8
    assert "neutral" in facts["shifts"]
    assert set(facts["mean_logits"]) == {"acted", "calm"}


def test_a_voice_is_on_one_side_of_every_split() -> None:
    audio = np.zeros(16_000, np.float32)

    def clip(corpus: str, speaker: str, language: str = "en") -> Clip:
        return Clip(f"{corpus}{speaker}.flac", corpus, speaker, "neutral", audio, language)

    readers = [clip("librispeech", str(n)) for n in range(200)]
    kept = [is_measured(reader) for reader in readers]
    assert 70 < sum(kept) < 130
    assert all(is_measured(clip("orders", "unknown")) for _ in range(2)), "nobody is identified"
    assert group(clip("sentences", "a", "de")) == group(clip("sentences", "b", "de"))
    twice = folds_of(readers + readers, 5)
    assert (twice[:200] == twice[200:]).all()
    assert np.bincount(twice).tolist() == [80] * 5


def test_the_encoder_of_the_graph_returns_the_features_of_torch(encoder: Path) -> None:
    one = load_encoder(encoder, layers=1)
    session = FrameEncoder(build_encoder(one).SerializeToString())
    clip = read_manifest(MANIFEST)[0]
    window = mirrored(clip.audio, 32_000)
    counted = np.ones(100, np.bool_)
    mean = session.mean([(window, counted)])
    with torch.no_grad():
        expected = one(torch.from_numpy(window[None])).mean(dim=1)[0].numpy()
    assert mean.shape == (64,)
    assert np.corrcoef(mean, expected)[0, 1] > 0.99, "8 bits differ little"
    assert np.isnan(session.mean([(window, ~counted)])).all(), "no frame counts"


def test_an_emotion_may_count_as_another_label() -> None:
    """Bored speech as a separate label attracted most of the neutral speech of other corpora."""
    data = read_set(MANIFEST, set(), set(), LABELS, {"other": "neutral"}, sounds=True)
    assert data.labels == ["angry", "disgusted", "fearful", "happy", "neutral", "sad", "unknown"]
    bored = next(i for i, clip in enumerate(data.acted) if clip.path == "13a01Lb.flac")
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


@pytest.mark.parametrize("kind", [make for make, _ in EVENTS], ids=lambda make: make.__name__)
def test_sounds_are_finite_and_of_unit_power(
    kind: Callable[[np.random.Generator, int], np.ndarray],
) -> None:
    for seed, length in enumerate((32_000, 32_000, 32_000, 3_000, 1_280)):
        sound = kind(np.random.default_rng(seed), length)
        assert sound.shape == (length,)
        assert sound.dtype == np.float32
        assert np.isfinite(sound).all()
        # A short one may lie in a pause between two tones.
        assert sound.std() == pytest.approx(1, abs=0.01) or (length < 16_000 and not sound.any())
    assert np.isfinite(not_speech(np.random.default_rng(0), 48_000)).all()


def test_a_scene_has_sounds_and_pauses() -> None:
    silent = []
    for seed in range(10):
        sound = scene(np.random.default_rng(seed), 160_000)
        assert sound.shape == (160_000,)
        assert sound.std() == pytest.approx(1, abs=0.01)
        frames = np.abs(sound.reshape(-1, 320)).max(axis=1)
        silent.append(float((frames < 1e-3).mean()))
    assert all(0 < share < 0.98 for share in silent), silent


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


def test_windows_cover_a_clip_and_count_only_its_speech() -> None:
    audio = np.arange(80_000, dtype=np.float32)
    speech = np.ones(250, np.bool_)
    speech[120:130] = False
    pieces = windows(audio, speech)
    assert [(w[0], w[-1]) for w, _ in pieces] == [
        (0, 31_999), (16_000, 47_999), (32_000, 63_999), (48_000, 79_999),
    ]  # fmt: skip
    assert [int(counted.sum()) for _, counted in pieces] == [100, 90, 90, 100]
    ((short, counted),) = windows(audio[:16_000], speech[:50])
    assert (len(short), counted.tolist()) == (32_000, [False] * 50 + [True] * 50)
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
