"""Analysis of recorded speech, compared with results that an earlier version recorded.

`recorded.json` was written by the version that introduced the high-pass filter; a change that is
meant to change results records it anew. Positions and audio must be equal to the bit; scores and
levels are compared with a tolerance, because sums of floats differ between processors.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream.analysis.pipeline import AnalysisSettings, StreamPipeline
from stream.analysis.vad import VadSettings
from stream.types import AudioFormat, Samples, Score, Segment, SpeechStart, Window
from tests.support.signals import (
    ToneBackend,
    chunks,
    clip_audio,
    clips,
    conversation,
    linear16,
    noise,
    sine,
)

RECORDED = Path(__file__).with_name("recorded.json")


def sounds() -> dict[str, Samples]:
    """Return every clip between two pauses, and a conversation with a tone and a loud speaker."""
    alone = {
        path.stem: np.concatenate([noise(1, -70), clip_audio(path), noise(1, -65, seed=1)])
        for path in clips()
    }
    loud = np.clip(clip_audio(clips()[0]) * 8, -1, 1)
    tone = sine(2, 440)
    pieces = [conversation(4, 1.0), tone, noise(1, -70), loud, conversation(6, 0.7)]
    return {**alone, "conversation": np.concatenate(pieces).astype(np.float32)}


def analysed(audio: Samples, mode: int) -> dict[str, Any]:
    """Return starts and segments, windows, scores and levels as JSON."""
    backend = ToneBackend()
    settings = AnalysisSettings(vad=VadSettings("webrtcvad", mode))
    line = StreamPipeline(AudioFormat(), (0,), backend.info, settings)
    starts: list[int] = []
    segments: list[list[Any]] = []
    windows: list[list[Any]] = []
    scores: list[list[float]] = []
    levels: list[list[Any]] = []

    def add(event: object) -> None:
        if isinstance(event, SpeechStart):
            starts.append(event.at)
        elif isinstance(event, Segment):
            segments.append([event.start, event.end, event.trigger, event.covered, *event.hints])
        if isinstance(event, Score | Segment):
            scores.append(list(event.scores.values()))
            levels.append([event.quality.rms_dbfs, event.quality.snr_db, event.quality.clipped])

    for items in (*map(line.feed, chunks(linear16(audio), [3200])), line.finish()):
        for item in items:
            if not isinstance(item, Window):
                add(item)
                continue
            spans = [position for span in item.speech for position in span]
            crc = zlib.crc32(item.audio.tobytes())
            windows.append([item.start, item.end, item.heard, item.fresh, item.trigger, crc, spans])
            line.taken(item)
            for event in line.scored(backend.score(item)):
                add(event)
    return {
        "starts": starts,
        "segments": segments,
        "windows": windows,
        "scores": scores,
        "levels": levels,
    }


@pytest.mark.parametrize("mode", range(4))
def test_webrtcvad_gives_the_recorded_segments_windows_and_scores(mode: int) -> None:
    recorded = json.loads(RECORDED.read_text())[str(mode)]
    assert recorded.keys() == sounds().keys()
    for name, audio in sounds().items():
        now, before = analysed(audio, mode), recorded[name]
        for exact in ("starts", "segments", "windows"):
            assert now[exact] == before[exact], (name, exact)
        for scores, scores_before in zip(now["scores"], before["scores"], strict=True):
            assert scores == pytest.approx(scores_before, abs=5e-4)
        for level, level_before in zip(now["levels"], before["levels"], strict=True):
            assert level == pytest.approx(level_before, abs=0.11)
