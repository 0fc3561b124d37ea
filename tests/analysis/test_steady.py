"""Steady sounds behind speech: when one is recognised, and what ends it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.analysis.highpass import HighPass
from stream.analysis.levels import frame_power
from stream.analysis.steady import LENGTH, PERIOD, SteadyLevel
from stream.types import FRAME, Samples
from tests.support.signals import clip_audio, clips, noise, sine


def power(audio: Samples) -> list[float]:
    steps = HighPass().push(audio[: len(audio) // FRAME * FRAME] * np.float32(32768))
    return frame_power(steps)


def ceilings(levels_db: Sequence[float]) -> list[float]:
    """Return the ceilings in dB of frames with these levels in dB."""
    found = SteadyLevel().ceilings([10 ** (level / 10) for level in levels_db])
    return [-np.inf if ceiling == 0 else float(10 * np.log10(ceiling)) for ceiling in found]


def first(ceilings: Sequence[float]) -> int:
    """Return the number of frames before the first one with a ceiling."""
    return next((n for n, ceiling in enumerate(ceilings) if ceiling > 0), len(ceilings))


def test_a_constant_level_is_steady_after_half_a_second() -> None:
    found = ceilings([-30.0] * 60)
    assert found[: LENGTH + PERIOD - 2] == [-np.inf] * (LENGTH + PERIOD - 2)
    assert found[LENGTH + PERIOD - 2 :] == pytest.approx([-28.0] * (62 - LENGTH - PERIOD), abs=0.01)


def test_a_louder_sound_does_not_end_it_and_a_fainter_one_does() -> None:
    found = ceilings([-30.0] * 40 + [-10.0] * 10 + [-30.0] * 10 + [-50.0] * 10 + [-30.0] * 10)
    assert all(ceiling == pytest.approx(-28, abs=0.1) for ceiling in found[40:60])
    assert found[64:] == [-np.inf] * (len(found) - 64)


@pytest.mark.parametrize("hz", [(100,), (150,), (60, 120, 180), (50, 150), (350, 440), (425,)])
def test_hum_and_dial_tones_are_steady(hz: tuple[float, ...]) -> None:
    """Frames of 20 ms hold 1.2 periods of 60 Hz, so that their level varies by more than 1 dB."""
    audio = np.sum([sine(2, f, -30) for f in hz], axis=0) + noise(2, -60)
    assert first(SteadyLevel().ceilings(power(audio.astype(np.float32)))) <= 2 * LENGTH


@pytest.mark.parametrize("clip", clips(), ids=lambda path: path.stem)
def test_speech_is_not_steady(clip: Path) -> None:
    levels = power(clip_audio(clip))
    found = SteadyLevel().ceilings(levels)
    below = sum(0 < level <= ceiling for level, ceiling in zip(levels, found, strict=True))
    loud = [level for level in levels if level > max(levels) / 1000]
    assert below <= 0.02 * len(loud)


@given(
    levels=st.lists(st.sampled_from([-60.0, -30.0, -30.2, -29.8, -27.0]), min_size=1, max_size=90),
    sizes=st.lists(st.integers(1, 16), min_size=1, max_size=5),
)
@settings(deadline=None, max_examples=60)
def test_any_block_size_gives_the_same_ceilings(levels: list[float], sizes: list[int]) -> None:
    values = [10 ** (level / 10) for level in levels]
    by_block = SteadyLevel()
    found: list[float] = []
    while len(found) < len(values):
        size = sizes[len(found) % len(sizes)]
        found += by_block.ceilings(values[len(found) : len(found) + size])
    assert found == SteadyLevel().ceilings(values)


def test_a_reset_forgets_the_steady_sound() -> None:
    line = SteadyLevel()
    assert line.ceilings([1e-3] * 40)[-1] > 0
    line.reset()
    assert line.ceilings([1e-3] * 40) == SteadyLevel().ceilings([1e-3] * 40)
