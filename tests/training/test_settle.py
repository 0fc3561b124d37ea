"""Fitting of the head: a logistic regression of emotions, calm speech and sounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.model import Emotion, Head
from training.recipe import Recipe
from training.settle import Examples, balanced, joined, milder, set_projection, settle
from training.whisper import Encoder, Shape

LABELS = ("angry", "neutral", "sad", "unknown")
CORNERS = {"angry": (3.0, 0.0), "neutral": (-2.0, -2.0), "sad": (0.0, 3.0), "unknown": (5.0, 5.0)}


def windows(label: str, count: int, corpus: str = "acted", at: tuple[float, ...] = ()) -> Examples:
    """Draw windows of a label around its corner."""
    rng = np.random.default_rng(len(label) + count)
    features = np.asarray(at or CORNERS[label]) + rng.normal(0, 0.7, (count, 2))
    names = np.full(count, label), np.full(count, corpus), np.full(count, "a")
    return Examples(features.astype(np.float32), *names)


ACTED = joined([windows("angry", 300), windows("neutral", 30), windows("sad", 30)])
NOTHING = windows("neutral", 0)
SOUNDS = [windows("unknown", 50).features]
SPEECH = [ACTED.features]


def tops(head: Head, examples: Examples) -> list[str]:
    logits = head(torch.from_numpy(examples.features))
    return [LABELS[i] for i in logits.argmax(dim=1)]


def test_rare_labels_weigh_as_much_as_frequent_labels() -> None:
    head = settle(ACTED, NOTHING, SPEECH, SOUNDS, LABELS, Recipe())
    for label in LABELS:
        guessed = tops(head, windows(label, 100))
        assert guessed.count(label) > 75, label


def test_corpora_weigh_the_same_and_so_do_the_labels_of_each() -> None:
    several = joined([ACTED, windows("angry", 5, "other"), windows("sad", 1000, "other")])
    weights = balanced(several)
    assert weights.sum() == pytest.approx(1)
    for corpus in ("acted", "other"):
        assert weights[several.corpora == corpus].sum() == pytest.approx(0.5)
    rows = (several.corpora == "other") & (several.labels == "angry")
    assert weights[rows].sum() == pytest.approx(0.25)
    assert len(balanced(NOTHING)) == 0


def test_a_milder_emotion_lies_between_the_acted_one_and_its_speakers_neutral() -> None:
    features = [[0.0, 1.0], [2.0, 1.0], [5.0, 3.0], [-1.0, 0.0], [-5.0, 0.0], [9.0, 9.0]]
    labels = np.array(["neutral", "neutral", "angry", "neutral", "sad", "sad"])
    speakers = np.array(["a", "a", "a", "b", "b", "c"])
    acted = Examples(np.array(features, np.float32), labels, np.full(6, "acted"), speakers)
    half = milder(acted, 0.5)
    assert half.features.tolist() == [[3.0, 2.0], [-3.0, 0.0]], "c has no neutral window"
    assert half.labels.tolist() == ["angry", "sad"]
    assert half.speakers.tolist() == ["a", "b"]
    assert acted.features[2].tolist() == [5.0, 3.0], "the argument is unchanged"


def test_calm_speech_unlike_the_actors_is_learnt_as_neutral() -> None:
    """A head of acted speech only called 47 % of calm read speech sad and 18 % neutral."""
    calm = windows("neutral", 100, "read", at=(-2.0, 3.0))
    recipe = Recipe(calm_weight=0.5)
    before = tops(settle(ACTED, NOTHING, SPEECH, SOUNDS, LABELS, recipe), calm)
    after = tops(settle(ACTED, calm, SPEECH, SOUNDS, LABELS, recipe), calm)
    assert after.count("neutral") > before.count("neutral") + 20


def test_sounds_do_not_take_speech_of_any_kind() -> None:
    """`unknown` was learnt against clean actors only and took half of the calls' utterances."""
    line = windows("neutral", 100, "line", at=(3.0, 4.0))
    before = tops(settle(ACTED, NOTHING, SPEECH, SOUNDS, LABELS, Recipe()), line)
    head = settle(ACTED, NOTHING, [*SPEECH, line.features], SOUNDS, LABELS, Recipe())
    assert tops(head, line).count("unknown") < before.count("unknown")
    assert tops(head, windows("unknown", 50)).count("unknown") > 25


def test_parts_of_sounds_weigh_the_same() -> None:
    """A few short sounds have as much weight as many long ones, or drums would be emotions."""
    many, drums = windows("unknown", 500), windows("unknown", 20, at=(3.0, -1.0))
    mixed = [np.concatenate([many.features, drums.features])]
    apart = [many.features, drums.features]
    together = settle(ACTED, NOTHING, SPEECH, mixed, LABELS, Recipe())
    head = settle(ACTED, NOTHING, SPEECH, apart, LABELS, Recipe())
    assert tops(head, drums).count("unknown") > tops(together, drums).count("unknown")


def test_sounds_change_no_emotion() -> None:
    """Their weight used to move the emotions' logits, so every new sound changed all figures."""
    head = settle(ACTED, NOTHING, SPEECH, SOUNDS, LABELS, Recipe())
    other = [windows("unknown", 50, at=(-4.0, 4.0)).features]
    changed = settle(ACTED, NOTHING, SPEECH, other, LABELS, Recipe())
    assert torch.equal(changed.out.weight[:-1], head.out.weight[:-1])
    assert not torch.equal(changed.out.weight[-1], head.out.weight[-1])


def test_without_sounds_there_is_no_label_unknown() -> None:
    head = settle(ACTED, NOTHING, [], [], LABELS[:-1], Recipe(components=1))
    assert len(head.out.bias) == 3
    assert head.project.out_features == 1


def test_the_projection_keeps_the_common_variance_of_standardised_features() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(500, 3)
    frames = hidden @ torch.randn(3, 12) * torch.logspace(-2, 2, 12) + 5
    head = Head(12, 2, components=3)
    set_projection(head, frames.numpy())
    with torch.no_grad():
        projected = head.project(frames)
    assert projected.mean(dim=0).abs().max() < 1e-3
    assert float(projected.var(dim=0).sum()) == pytest.approx(12, rel=1e-3), "no variance is lost"


def test_the_mean_of_frame_logits_is_the_logits_of_the_mean_features() -> None:
    torch.manual_seed(0)
    shape = Shape(width=32, heads=2, layers=2)
    model = Emotion(Encoder(shape), Head(shape.features, 4, 16)).eval()
    audio = torch.randn(2, 16_000) * 0.1
    with torch.no_grad():
        features = model.encoder(audio)
        assert features.shape == (2, 50, 96)
        torch.testing.assert_close(
            model(audio).mean(dim=1), model.head(features.mean(dim=1)), atol=1e-5, rtol=1e-5
        )
