"""Adapting a head to an operator's own clips: end to end, refusals, comparison."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from stream.backends.base import Embedder
from stream.backends.registry import load
from stream.errors import ModelRefused
from stream.types import SAMPLE_RATE, Features, Samples
from tests.support import small_emotion2vec
from tests.support.emotion2vec import speech_like
from tests.support.signals import clip_audio, clips, int16
from training import adapt
from training.head import cross_validate, fit
from training.manifest import of_model, read_rows

SPEAKERS, PER_LABEL = 4, 4


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of four speakers, low voices that are "sad" and fast ones that are "angry"."""
    folder = tmp_path_factory.mktemp("clips")
    voices = [clip_audio(path) for path in clips()]
    lines = ["path,label,speaker"]
    for speaker in range(SPEAKERS):
        for number in range(PER_LABEL):
            for label in ("angry", "sad"):
                audio: Samples = voices[(speaker + number) % len(voices)][: 2 * SAMPLE_RATE]
                if label == "sad":
                    audio = np.repeat(audio, 2)[: len(audio)] / np.float32(4)
                name = f"{speaker}-{number}-{label}.wav"
                write_wav(folder / name, audio)
                lines.append(f"{name},{label},voice-{speaker}")
    path = folder / "clips.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapt, "MIN_CLIPS", PER_LABEL * SPEAKERS)


def write_wav(path: Path, audio: Samples) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes(int16(audio).tobytes())


def run(manifest: Path, out: Path, *more: str) -> int:
    return adapt.main(["--manifest", str(manifest), "--out", str(out), *more])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("base", ["embedded", "emotion2vec"])
def test_a_head_is_fitted_checked_written_and_served(
    base: str, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = "embedded"
    if base == "emotion2vec":
        model = str(small_emotion2vec.build(tmp_path / "base"))
    out = tmp_path / "adapted"
    assert run(manifest, out, "--model", model, "--id", "ours") == 0
    assert "new head" in capsys.readouterr().out
    backend = load(str(out), device="cpu")
    try:
        assert backend.info.id == "ours"
        assert backend.info.labels == ("angry", "sad")
        assert isinstance(backend, Embedder)
        batch = np.stack([speech_like(32_000, seed=n) for n in range(2)])
        logits, features = backend.embed(batch)
        assert logits.shape == (2, logits.shape[1], 2)
        np.testing.assert_allclose(backend.infer(batch), logits, atol=1e-6)
        # The contract of every backend: the mean of the frames is the utterance.
        with np.load(out / "head.npz") as head:
            utterance = features.mean(1) @ head["weight"] + head["bias"]
        np.testing.assert_allclose(logits.mean(1), utterance, atol=1e-3)
    finally:
        backend.close()
    card = (out / "card.md").read_text("utf-8")
    assert "32 clips of 4 speakers" in card
    assert "recall of the new head" in card


def test_too_little_data_is_refused_with_the_numbers_needed(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = manifest.with_name("few.csv")
    few.write_text("\n".join(manifest.read_text().splitlines()[:5]))
    assert run(few, tmp_path / "out") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "1 speakers (needed: 3)" in told
    assert "2 clips of angry (needed: 12)" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("a.wav,cheerful,s", "label: 'cheerful' is not one of angry"),
        ("a.wav,angry,", "speaker: name the speaker"),
        (",angry,s", "name a path or features"),
    ],
)
def test_a_bad_row_is_refused_by_line_and_column(tmp_path: Path, row: str, named: str) -> None:
    manifest = tmp_path / "clips.csv"
    manifest.write_text(f"path,label,speaker\n{row}\n")
    with pytest.raises(ValueError, match="line 2") as refusal:
        read_rows(manifest)
    assert named in str(refusal.value)


@pytest.mark.usefixtures("small")
def test_a_broken_file_is_left_out_and_told(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One bad file of a thousand must not end an hour of work."""
    (manifest.parent / "broken.wav").write_bytes(b"RIFF no")
    more = manifest.with_name("more.csv")
    more.write_text(manifest.read_text() + "broken.wav,sad,voice-0\nabsent.wav,sad,voice-0\n")
    assert run(more, tmp_path / "out") == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "line 34 left out" in told
    assert "line 35 left out" in told


def separable(count: int = 120, noise: float = 1.0) -> tuple[Features, list[str], list[str]]:
    rng = np.random.default_rng(0)
    labels = [("angry", "neutral", "sad")[i % 3] for i in range(count)]
    centers = {"angry": 0, "neutral": 1, "sad": 2}
    features = rng.normal(0, noise, (count, 8)).astype(np.float32)
    for row, label in zip(features, labels, strict=True):
        row[centers[label]] += 2
    return features * 50 + 7, labels, [f"s{(i // 3) % 6}" for i in range(count)]


def test_no_voice_is_on_both_sides_of_a_fold() -> None:
    """A head that knows the voices would look better than it is."""
    rng = np.random.default_rng(1)
    labels = [("angry", "sad")[i % 2] for i in range(120)]
    speakers = [f"s{i % 6}" for i in range(120)]  # an even speaker is always angry
    features = rng.normal(0, 0.1, (120, 6)).astype(np.float32)
    features[np.arange(120), np.arange(120) % 6] += 1
    evaluation = cross_validate(features, labels, speakers, [None] * 120, ())
    assert evaluation.figures.uar < 0.75, "voices are all that can be learned here"


def test_the_base_is_measured_on_the_same_clips() -> None:
    features, labels, speakers = separable()
    names = ("angry", "neutral", "sad", "unknown")
    base = [np.log(np.full(4, 0.25, np.float32)) for _ in labels]
    for row, label in zip(base, labels, strict=True):
        row[names.index(label)] += 1
    evaluation = cross_validate(features, labels, speakers, base, names)
    assert evaluation.base is not None
    assert evaluation.base.uar == 1
    assert evaluation.better == pytest.approx(evaluation.figures.uar - 1)
    assert evaluation.figures.uar > 0.7
    assert evaluation.figures.ece < 0.15, "calibrated"


@pytest.mark.parametrize("labels", [2, 3])
def test_the_scale_of_features_does_not_matter(labels: int) -> None:
    features, names, speakers = separable()
    chosen = [i for i, name in enumerate(names) if labels == 3 or name != "sad"]
    rows, names = features[chosen], [names[i] for i in chosen]
    speakers = [speakers[i] for i in chosen]
    one, other = fit(rows, names, speakers, 0.1), fit(rows * 1000, names, speakers, 0.1)
    np.testing.assert_allclose(one.logits(rows), other.logits(rows * 1000), atol=0.05)
    guess = [one.labels[i] for i in one.logits(rows).argmax(1)]
    assert np.mean([a == b for a, b in zip(guess, names, strict=True)]) > 0.8


@pytest.mark.usefixtures("small")
def test_an_adapted_model_is_refused_with_another_base_or_a_damaged_head(
    manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "adapted"
    assert run(manifest, out) == 0
    about = json.loads((out / "model.json").read_text())
    for field, value, named in (
        ("base_revision", "older", "was fitted on"),
        ("sha256", "0" * 64, "does not match the sha256"),
        ("labels", ["angry"], "expected two or more"),
        ("temperature", 0, "temperature"),
    ):
        (out / "model.json").write_text(json.dumps(about | {field: value}))
        with pytest.raises(ModelRefused, match=named):
            load(str(out))
    (out / "model.json").write_text(json.dumps({k: v for k, v in about.items() if k != "base"}))
    with pytest.raises(ModelRefused, match='lacks a valid "base"'):
        load(str(out))


def feedback_rows(folder: Path, model: str, revision: str, dim: int, audio: str = "") -> Path:
    """Write the export of 32 marks of four speakers, whose features are of `model`."""
    rng = np.random.default_rng(0)
    lines = ["features,path,label,speaker,model,revision"]
    for number in range(2 * SPEAKERS * PER_LABEL):
        label = ("angry", "sad")[number % 2]
        features = rng.normal(number % 2, 0.5, dim).astype(np.float32)
        np.save(folder / f"{number}.npy", features)
        lines.append(
            f"{number}.npy,{audio},{label},voice-{number // 2 % SPEAKERS},{model},{revision}"
        )
    path = folder / "manifest.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.usefixtures("small")
def test_marks_of_an_adapted_model_serve_to_adapt_it_again(manifest: Path, tmp_path: Path) -> None:
    """Its features are those of its base, so listeners may go on marking with the new head."""
    assert run(manifest, tmp_path / "ours", "--id", "ours") == 0
    backend = load(str(tmp_path / "ours"), device="cpu")
    embedded = load("embedded", device="cpu")
    backend.close()
    embedded.close()
    assert backend.info.features == (embedded.info.id, embedded.info.revision)
    assert backend.info.id == "ours"
    marks = feedback_rows(tmp_path, *backend.info.features, backend.info.dim)
    for model in ("embedded", str(tmp_path / "ours")):
        assert run(marks, tmp_path / "again", "--model", model) == 0


@pytest.mark.usefixtures("small")
def test_features_of_another_model_are_left_out_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two models may have features of one size; a head on a mixture of both fits nothing."""
    backend = load("embedded", device="cpu")
    backend.close()
    marks = feedback_rows(tmp_path, backend.info.id, "older", backend.info.dim)
    assert run(marks, tmp_path / "out") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"32 rows left out: their features are of {backend.info.id} older" in told
    assert f"has those of {' '.join(backend.info.features)}" in told
    assert not (tmp_path / "out").exists()


def test_a_row_of_another_model_is_used_by_its_audio(tmp_path: Path) -> None:
    marks = feedback_rows(tmp_path, "base", "1", 4, audio="clip.wav")
    rows, others = of_model(read_rows(marks), ("large", "1"))
    assert not others
    assert {row.features for row in rows} == {None}
    assert {row.path for row in rows} == {tmp_path / "clip.wav"}
    rows, _ = of_model(read_rows(marks), ("base", "1"))
    assert all(row.features for row in rows)


def test_a_row_of_feedback_without_a_model_is_refused_by_line(tmp_path: Path) -> None:
    marks = feedback_rows(tmp_path, "", "", 4)
    with pytest.raises(ValueError, match="line 2, model: name the model"):
        read_rows(marks)
