"""Decisions on frames: level, hysteresis, and detectors with their own chunk length."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stream.analysis.hysteresis import RELEASE, THRESHOLDS, FrameDecider, Rechunked
from stream.analysis.vad import DETECTORS, VadSettings, VoiceDetector
from stream.types import FRAME

LOUD = 1.0


class Scripted:
    """Detector that returns the given probabilities and keeps the chunks that it received."""

    def __init__(self, probabilities: list[float], frame: int = FRAME) -> None:
        self.frame = frame
        self.received: list[NDArray[np.int16]] = []
        self._next = iter(probabilities)

    def probability(self, samples: NDArray[np.int16]) -> float:
        self.received.append(samples.copy())
        return next(self._next)


def decider(detector: VoiceDetector, mode: int = 2, min_dbfs: float = -60) -> FrameDecider:
    DETECTORS["scripted"] = lambda mode: detector
    return FrameDecider.of(VadSettings("scripted", mode, min_dbfs=min_dbfs, only_speech=False))


@pytest.fixture(autouse=True)
def no_scripted_detector() -> Iterator[None]:
    yield
    DETECTORS.pop("scripted", None)


def frames(count: int) -> NDArray[np.int16]:
    return np.arange(count * FRAME).astype(np.int16)


def decisions(probabilities: list[float], mode: int = 2) -> str:
    """Return one `x` per voiced frame and one `.` per unvoiced one."""
    count = len(probabilities)
    decided = decider(Scripted(probabilities), mode).decide(frames(count), [LOUD] * count)
    return "".join("x" if voiced else "." for voiced in decided)


def test_a_frame_is_voiced_from_the_threshold_on_and_stays_so_within_the_margin() -> None:
    assert decisions([0.49, 0.5, 0.36, 0.351, 0.49, 0.34, 0.49, 0.4, 0.9, 0.0]) == ".xxxx...x."


@pytest.mark.parametrize("mode", range(4))
def test_a_detector_of_0_and_1_is_not_changed(mode: int) -> None:
    assert THRESHOLDS[mode] - RELEASE > 0
    assert decisions([0, 1, 1, 0, 1, 0, 0, 1], mode) == ".xx.x..x"


def test_a_higher_mode_has_a_higher_threshold() -> None:
    steps = [n / 20 for n in range(20)]
    voiced = [decisions(steps, mode).count("x") for mode in range(4)]
    assert voiced == sorted(set(voiced), reverse=True)


def test_a_faint_frame_is_not_voiced_and_the_detector_does_not_receive_it() -> None:
    detector = Scripted([0.9, 0.4, 0.4, 0.9])
    powers = [LOUD, 1e-7, LOUD, LOUD, 1e-5]
    decided = decider(detector, min_dbfs=-55).decide(frames(5), powers)
    assert decided == [True, False, False, False, True]
    # The detector received neither the second frame, nor was the margin kept across it.
    assert [chunk[0] for chunk in detector.received] == [0, 2 * FRAME, 3 * FRAME, 4 * FRAME]


@pytest.mark.parametrize("min_dbfs", [-60.0, -40.0])
def test_a_frame_at_the_minimum_level_is_heard(min_dbfs: float) -> None:
    least = 10 ** (min_dbfs / 10)
    decided = decider(Scripted([1.0] * 2), min_dbfs=min_dbfs).decide(
        frames(3), [least * 0.99, least, least * 1.01]
    )
    assert decided == [False, True, True]


def test_after_a_hole_a_sound_is_no_longer_steady() -> None:
    DETECTORS["scripted"] = lambda mode: Scripted([1.0] * 1_000)
    following = FrameDecider.of(VadSettings("scripted"))
    assert not following.decide(frames(200), [1e-2] * 200)[-1]
    following.reset()
    assert following.decide(frames(1), [1e-2]) == [True]


@given(
    probabilities=st.lists(st.floats(0, 1), min_size=1, max_size=60),
    sizes=st.lists(st.integers(1, 16), min_size=1, max_size=5),
)
@settings(deadline=None, max_examples=60)
def test_any_block_size_gives_the_same_decisions(
    probabilities: list[float], sizes: list[int]
) -> None:
    count = len(probabilities)
    at_once = decider(Scripted(probabilities)).decide(frames(count), [LOUD] * count)
    by_block = decider(Scripted(probabilities))
    decided: list[bool] = []
    while len(decided) < count:
        at, size = len(decided), sizes[len(decided) % len(sizes)]
        part = frames(count)[at * FRAME : (at + size) * FRAME]
        decided += by_block.decide(part, [LOUD] * (len(part) // FRAME))
    assert decided == at_once


@pytest.mark.parametrize("length", [160, 320, 512, 1000])
def test_a_detector_receives_chunks_of_its_own_length_without_a_gap(length: int) -> None:
    count = 25
    detector = Scripted([0.5] * 99, length)
    framed = Rechunked(detector)
    for frame in frames(count).reshape(-1, FRAME):
        framed.probability(frame)
    received = np.concatenate(detector.received)
    assert {len(chunk) for chunk in detector.received} == {length}
    assert received.tolist() == frames(count)[: len(received)].tolist()
    assert len(received) > count * FRAME - length


def test_a_frame_has_the_probability_of_the_newest_complete_chunk() -> None:
    framed = Rechunked(Scripted([0.1, 0.2, 0.3, 0.4, 0.5], 512))
    found = [framed.probability(frame) for frame in frames(8).reshape(-1, FRAME)]
    # Chunks end after 512, 1024, 1536, 2048 and 2560 samples, frames after multiples of 320.
    assert found == [0.0, 0.1, 0.1, 0.2, 0.3, 0.3, 0.4, 0.5]


def test_no_chunk_holds_audio_from_both_sides_of_a_hole() -> None:
    detector = Scripted([0.9, 0.9], 512)
    line = decider(detector)
    assert line.decide(frames(3), [LOUD] * 3) == [False, True, True]
    line.reset()
    assert line.decide(frames(2), [LOUD] * 2) == [False, True]
    assert [chunk[0] for chunk in detector.received] == [0, 0]
