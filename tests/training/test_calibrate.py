"""Biases, temperature and the average voice from logits of what was left out of training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.calibrate import (
    LeftOut,
    balanced_means,
    joint_temperature,
    neutral_shift,
    reference,
)
from training.model import Head

NEUTRAL = 1


def identity() -> Head:
    head = Head(3, 3, 1)
    with torch.no_grad():
        head.out.weight.copy_(torch.eye(3))
        head.out.bias.zero_()
    return head


def left_out(logits: np.ndarray, name: str = "clean") -> LeftOut:
    held = LeftOut(3)
    held.score(identity(), {name: logits.astype(np.float32)}, np.ones(len(logits), np.bool_))
    return held


def test_rows_are_scored_by_the_head_that_left_them_out() -> None:
    held, means = LeftOut(3), np.ones((4, 3), np.float32)
    first = np.array([True, True, False, False])
    held.score(identity(), {"clean": means}, first)
    assert np.isnan(held.logits["clean"][2:]).all()
    held.score(identity(), {"clean": 2 * means}, ~first)
    held.shift(0, 1.0)
    assert held.logits["clean"].tolist() == [[2, 1, 1]] * 2 + [[3, 2, 2]] * 2


def test_neutral_wins_its_share_of_calm_speech_and_corpora_weigh_the_same() -> None:
    """A corpus of 4000 clips alone set the bias; the others had no say."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (4400, 3))
    logits[4000:, 0] += 6
    corpora = np.array(["large"] * 4000 + ["small"] * 400)
    calm = left_out(logits)
    calm.shift(NEUTRAL, neutral_shift(calm, corpora, NEUTRAL, 0.75))
    wins = calm.logits["clean"].argmax(axis=1) == NEUTRAL
    shares = [wins[corpora == name].mean() for name in ("large", "small")]
    assert np.mean(shares) == pytest.approx(0.75, abs=0.01)
    assert shares[1] > 0.4


def test_clips_without_speech_do_not_count() -> None:
    logits = np.random.default_rng(2).normal(0, 1, (100, 3))
    logits[::2] = np.nan
    corpora = np.full(100, "read")
    assert np.isfinite(neutral_shift(left_out(logits), corpora, NEUTRAL, 0.75))


def test_the_temperature_weighs_a_small_part_like_a_large_one() -> None:
    rng = np.random.default_rng(3)

    def part(count: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
        logits = rng.normal(0, 1, (count, 3))
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return scale * logits, np.array([rng.choice(3, p=share) for share in shares])

    sharp, fair = part(500, 4.0), part(4000, 1.0)
    assert joint_temperature([fair]) == pytest.approx(1.0, rel=0.15)
    assert joint_temperature([sharp]) == pytest.approx(4.0, rel=0.25)
    assert 1.3 < joint_temperature([sharp, fair]) < 4.0


def test_labels_weigh_the_same_in_the_mean_logits_of_a_corpus() -> None:
    logits = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]])
    means = balanced_means([(logits, np.array([0, 0, 1])), (2 * logits[2:], np.array([1]))])
    assert means.tolist() == [[2, 0], [0, 5], [0, 10]]


def test_the_average_voice_is_three_quarters_acted_with_mean_0_over_the_emotions() -> None:
    labels = ("angry", "neutral", "unknown")
    assert reference(labels, [4.0, 0.0, 9.0], [0.0, 4.0, 9.0]) == [1.0, -1.0, 0.0]
