"""Silero VAD as a voice detector: real weights, one state per stream, missing packages."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from stream.admission import analysis_settings, check_detector
from stream.analysis import silero
from stream.analysis.hysteresis import FrameDecider
from stream.analysis.pipeline import AnalysisSettings, StreamPipeline, analyse
from stream.analysis.silero import DetectorRefused, SileroDetector
from stream.analysis.vad import DETECTORS, VadSettings
from stream.config_file import load
from stream.errors import ConfigError
from stream.types import FRAME, AudioFormat, Samples, Segment
from tests.support.signals import (
    ToneBackend,
    as_tuples,
    chunks,
    clip_audio,
    clips,
    conversation,
    int16,
    linear16,
    model,
    noise,
    silence,
    sine,
)


def probabilities(detector: SileroDetector, audio: Samples) -> list[float]:
    return [detector.probability(chunk) for chunk in in_chunks(audio)]


def in_chunks(audio: Samples) -> NDArray[np.int16]:
    """Return int16[chunks, 512]."""
    pcm = int16(audio)
    length = SileroDetector.frame
    return pcm[: len(pcm) // length * length].reshape(-1, length)


@pytest.fixture
def empty_session_cache() -> Iterator[None]:
    """Process that has not loaded the network; the cache is cleared again after the test."""
    silero._session.cache_clear()
    yield
    silero._session.cache_clear()


def test_speech_is_voiced_and_silence_noise_and_tones_are_not() -> None:
    voiced = [np.mean(probabilities(SileroDetector(), clip_audio(path))) for path in clips()[:5]]
    assert min(voiced) > 0.5
    for quiet in (silence(2), noise(2, -30), sine(2, 440)):
        assert np.mean(probabilities(SileroDetector(), quiet)) < 0.1


def test_the_probability_is_between_the_thresholds_at_the_edges_of_speech() -> None:
    """Otherwise hysteresis and modes would have no effect."""
    found = probabilities(SileroDetector(), conversation(3))
    assert 0 <= min(found) < 0.05 < 0.95 < max(found) <= 1
    assert any(0.2 < probability < 0.8 for probability in found)


def test_a_higher_mode_is_stricter() -> None:
    audio = conversation(3)
    voiced = []
    for mode in range(4):
        decider = FrameDecider.of(VadSettings("silero", mode, only_speech=False))
        pcm = int16(audio)[: len(audio) // FRAME * FRAME]
        voiced.append(sum(decider.decide(pcm, [1.0] * (len(pcm) // FRAME))))
    assert voiced == sorted(voiced, reverse=True)
    assert voiced[0] > voiced[3]


def test_streams_share_the_weights_and_no_state() -> None:
    audio = conversation(2)
    alone = probabilities(SileroDetector(), audio)
    one, other = SileroDetector(), SileroDetector()
    interleaved = []
    louder = in_chunks(noise(len(audio) / 16_000, -10))
    for chunk, other_chunk in zip(in_chunks(audio), louder, strict=True):
        interleaved.append(one.probability(chunk))
        other.probability(other_chunk)
    assert interleaved == alone
    assert one._run.__self__ is other._run.__self__


@pytest.mark.parametrize("sizes", [(320,), (2, 4000, 6), (99_998,)])
def test_any_chunking_gives_the_same_events(sizes: tuple[int, ...]) -> None:
    backend = ToneBackend()

    def run(sizes: tuple[int, ...]) -> list[object]:
        settings = AnalysisSettings(vad=VadSettings("silero"))
        pipeline = StreamPipeline(AudioFormat(), (0,), backend.info, settings)
        data = linear16(conversation(2))
        return list(analyse(pipeline, list(chunks(data, sizes)), backend.score))

    assert as_tuples(run(sizes)) == as_tuples(run((3200,)))
    assert sum(isinstance(event, Segment) for event in run((3200,))) == 2


def test_the_detector_can_be_configured() -> None:
    config = load(overrides={"vad.detector": "silero", "vad.mode": "1"}, environ={})
    assert analysis_settings(config, model()).vad.detector == "silero"
    assert isinstance(DETECTORS["silero"](1), SileroDetector)


@pytest.mark.usefixtures("empty_session_cache")
def test_without_the_package_the_start_fails_and_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If it were detected at the first stream instead, it would end a customer's session."""
    monkeypatch.setattr(silero, "PACKAGE", "silero_vad_that_is_not_installed")
    with pytest.raises(ConfigError, match=r"pip install '\.\[silero\]'"):
        check_detector(load(overrides={"vad.detector": "silero"}, environ={}).vad)
    check_detector(load(environ={}).vad)


@pytest.mark.usefixtures("empty_session_cache")
def test_a_damaged_network_is_refused_with_its_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    from importlib.machinery import ModuleSpec
    from pathlib import Path

    folder = Path(str(tmp_path))
    (folder / "data").mkdir()
    (folder / "data" / "silero_vad.onnx").write_bytes(b"half a download")
    spec = ModuleSpec(silero.PACKAGE, None)
    spec.submodule_search_locations = [str(folder)]
    monkeypatch.setattr(silero, "find_spec", lambda name: spec)
    with pytest.raises(DetectorRefused, match=r"silero_vad\.onnx.*--force-reinstall"):
        SileroDetector()
