"""Fitting of the head as a logistic regression, also on milder emotions than were acted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.bank import Bank
from training.fit import Task
from training.model import Emotion, Head
from training.recipe import Recipe
from training.settle import (
    EncodedBank,
    Means,
    mean_frames,
    milder,
    regress,
    set_projection,
    training_windows,
)
from training.whisper import Encoder, Shape

LABELS = ["angry", "neutral", "sad", "unknown"]


def means(rows: list[tuple[str, str, list[float]]]) -> Means:
    """Build windows from (speaker, label, mean frame)."""
    speakers, labels, frames = zip(*rows, strict=True)
    truth = np.array([LABELS.index(label) for label in labels])
    return Means(torch.tensor(frames), truth, np.array(speakers))


def test_a_milder_emotion_lies_between_the_acted_one_and_its_speakers_neutral() -> None:
    acted = means(
        [
            ("a", "neutral", [0.0, 1.0]),
            ("a", "neutral", [2.0, 1.0]),
            ("a", "angry", [5.0, 3.0]),
            ("b", "neutral", [-1.0, 0.0]),
            ("b", "sad", [-5.0, 0.0]),
            ("c", "sad", [9.0, 9.0]),
            ("", "unknown", [7.0, 7.0]),
        ]
    )
    half = milder(acted, LABELS, 0.5)
    assert half.frames.tolist() == [[3.0, 2.0], [-3.0, 0.0]], "c has no neutral window"
    assert [LABELS[label] for label in half.truth] == ["angry", "sad"]
    assert list(half.speakers) == ["a", "b"]
    assert milder(acted, LABELS, 1.0).frames.tolist() == [[5.0, 3.0], [-5.0, 0.0]]
    assert acted.frames[2].tolist() == [5.0, 3.0], "the argument is unchanged"


def test_without_the_label_neutral_no_window_is_made_milder() -> None:
    acted = Means(torch.ones(2, 2), np.array([0, 1]), np.array(["a", "a"]))
    assert len(milder(acted, ["angry", "sad"], 0.5).frames) == 0


def test_a_window_of_a_pause_only_is_not_learnt() -> None:
    """Recordings with pauses of 1 s produced means over no frames, and a head of NaN."""
    speech = torch.ones(3, 1, 2, 4)
    speech[0, 0, 1] = torch.nan
    empty = np.zeros((0, 80, 300), np.float16)
    bank = Bank(empty[None], np.zeros((1, 0, 150), np.bool_), empty)
    task = Task(bank, np.array([0, 1]), np.arange(2), LABELS, ["a", "b"])
    windows = training_windows(EncodedBank(speech, torch.zeros(3, 0, 4)), task)
    assert windows.frames.isfinite().all()
    assert windows.truth.tolist() == [0, 0, 1, 0, 1]
    assert list(windows.speakers) == ["a", "a", "b", "a", "b"]


def test_rare_labels_weigh_as_much_as_frequent_labels() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([0] * 300 + [1] * 30 + [2] * 30 + [3] * 30)
    corners = np.array([[2.0, 0], [-2.0, 0], [0, 2.0], [0, -2.0]])
    inputs = torch.from_numpy(corners[truth] + rng.normal(0, 0.8, (len(truth), 2))).float()
    out = torch.nn.Linear(2, 4)
    regress(out, inputs, truth, LABELS, Recipe(ridge=0.01))
    with torch.no_grad():
        guess = out(inputs).argmax(dim=1).numpy()
    assert all((guess[truth == label] == label).mean() > 0.75 for label in range(4))


def test_the_projection_keeps_the_common_variance_of_standardised_frames() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(500, 3)
    frames = hidden @ torch.randn(3, 12) * torch.logspace(-2, 2, 12) + 5
    head = Head(12, 2, components=3)
    set_projection(head, frames)
    with torch.no_grad():
        projected = head.project(frames)
    assert projected.mean(dim=0).abs().max() < 1e-3
    assert float(projected.var(dim=0).sum()) == pytest.approx(12, rel=1e-3), "no variance is lost"


def test_mean_frames_cover_the_counting_frames_at_the_end_of_a_window() -> None:
    torch.manual_seed(0)
    encoder = Encoder(Shape(width=32, heads=2, layers=2)).requires_grad_(False).eval()
    levels = np.random.default_rng(0).normal(-3, 1, (3, 80, 300)).astype(np.float16)
    counted = np.zeros((3, 150), np.bool_)
    counted[:, 120:] = True
    result = mean_frames(encoder, levels, counted, "")
    second = torch.from_numpy(levels[..., -100:].astype(np.float32))
    with torch.no_grad():
        frames = encoder.encode(encoder.mel.normalised(second))
    torch.testing.assert_close(result[0], frames[:, -30:].mean(dim=1))


def test_the_mean_of_frame_logits_is_the_logits_of_the_mean_frame() -> None:
    torch.manual_seed(0)
    model = Emotion(Encoder(Shape(width=32, heads=2, layers=2)), Head(64, 4, 16)).eval()
    audio = torch.randn(2, 16_000) * 0.1
    with torch.no_grad():
        frames = model.encoder(audio)
        torch.testing.assert_close(
            model(audio).mean(dim=1), model.head(frames.mean(dim=1)), atol=1e-5, rtol=1e-5
        )
