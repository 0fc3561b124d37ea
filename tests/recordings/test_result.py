"""Hints and result.json of a recording, and the writer of its files."""

from __future__ import annotations

import csv
import errno
import tracemalloc
import wave
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from jsonschema import Draft7Validator

from stream.audio.files.decode import AudioInfo
from stream.protocol.file_options import FileOptions
from stream.protocol.wire.result import ResultHint
from stream.recordings.result import (
    ChannelResult,
    FileInfo,
    ResultBuilder,
    measured_languages,
)
from stream.recordings.writer import ResultWriter
from stream.result_files import AUDIO, EMBEDDING, FRAMES, NAMES, RESULT, UTTERANCES
from stream.terms import Hint
from stream.types import FramePosteriors, Gap, ModelInfo, Quality, Segment
from tests.support.contract import check_result

SCHEMA_FILE = Path(__file__).parents[2] / "docs/result.schema.json"
LABELS = ("angry", "happy", "neutral")
MODEL = ModelInfo("emotide-embedded-9", "1", LABELS, 320, (48_000,), (1,), 1.0, "x", "cpu")
QUALITY = Quality(-20.0, 0.0, None, "wide", 2.5)
ANY_RESULT: Any = {"schema": "x"}
SHARES = {"angry": 0.2, "happy": 0.1, "neutral": 0.7}


def segment(number: int, start_s: float, end_s: float, *hints: Hint, channel: int = 0) -> Segment:
    return Segment(
        channel,
        number,
        int(start_s * 16_000),
        int(end_s * 16_000),
        "speech_end",
        1.0,
        SHARES,
        {},
        QUALITY,
        hints,
        np.full(2, number, np.float32),
    )


def hints_of(
    speech_s: float,
    *segments: Segment,
    scores: dict[str, float] | None = None,
    faults: Sequence[ResultHint] = (),
    language: str = "",
    model: ModelInfo = MODEL,
) -> list[str]:
    builder = ResultBuilder(FileOptions(language=language), model)
    for one in segments:
        builder.add(one)
    if scores is None:
        scores = SHARES if speech_s else {}
    channels = [ChannelResult(0, "speaker", int(speech_s * 16_000), scores)]
    return [*builder.hints(channels, faults)]


def frames(start: int, count: int, dim: int = 0) -> FramePosteriors:
    shares = np.random.default_rng(start).dirichlet(np.ones(3), count).astype(np.float32)
    features = np.full((count, dim), start, np.float32) if dim else None
    return FramePosteriors(start, 320, shares, features)


# -- result.json -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hints", "expected"),
    [
        (hints_of(0), ["no_speech"]),
        (hints_of(0.5, segment(0, 0, 0.5)), ["too_short"]),
        (hints_of(500), ["too_long_for_one_verdict"]),
        (hints_of(5, segment(0, 0, 4, "noisy"), segment(1, 4, 5, "clipped")), ["noisy"]),
        (hints_of(5, segment(0, 0, 2, "noisy"), segment(1, 2, 5)), []),
        (hints_of(5, scores={"angry": 0.39, "happy": 0.31, "neutral": 0.3}), ["low_confidence"]),
        (hints_of(5, faults=["truncated"]), ["truncated"]),
        (hints_of(5, language="fr"), ["language"]),
        (hints_of(5, language="de-AT"), []),
        (
            hints_of(
                5,
                language="fr",
                model=replace(MODEL, id="mine"),
            ),
            [],
        ),
    ],
)
def test_hints_of_a_recording(hints: list[str], expected: list[str]) -> None:
    assert hints == expected


def test_tones_say_nothing_about_the_verdict_over_a_voice() -> None:
    """A caller keyed a number for 12 s and spoke for 8 s: the verdict over the voice was hinted as
    that of a tone."""
    tone = replace(segment(1, 8, 20, "tone"), scores={})
    assert hints_of(8, segment(0, 0, 8), tone) == []
    assert hints_of(0, tone) == ["no_speech", "tone"]


def test_a_raised_recording_is_hinted_although_its_utterances_have_a_usual_level() -> None:
    assert hints_of(5, segment(0, 0, 5), faults=["low_level"]) == ["low_level"]


def test_one_voice_is_hinted_once_for_the_recording() -> None:
    assert hints_of(5, segment(0, 0, 5, "one_voice")) == ["one_voice"]


def test_languages_are_found_by_the_prefix_of_the_model_id() -> None:
    assert measured_languages(MODEL) == ("de", "en", "pl")
    assert measured_languages(replace(MODEL, id="mine")) == ()


def test_the_result_matches_its_schema() -> None:
    builder = ResultBuilder(FileOptions(language="de"), MODEL)
    for event in (segment(0, 0.5, 2), segment(1, 3, 4), Gap(0, 16_000, 32_000, 8_000, "overload")):
        builder.add(event)
    result = builder.build(
        FileInfo("a.wav", 1000, "0" * 64),
        AudioInfo("wav", "pcm_s16le", 8000, 1, 4.0),
        [ChannelResult(0, "speaker", 40_000, SHARES)],
        duration_s=4.0,
        created=1.7e9,
        faults=(),
        gain_db=0.0,
        timings={"decode_s": 0.1, "analysis_s": 0.2, "total_s": 0.3, "speed": 13.3},
    )
    check_result(result)
    schema = orjson.loads(SCHEMA_FILE.read_bytes())
    Draft7Validator.check_schema(schema)
    Draft7Validator(schema).validate({**result, "later": 1})
    assert not Draft7Validator(schema).is_valid({**result, "hints": ["later"]})
    assert [u["start_s"] for u in result["channels"][0]["utterances"]] == [0.5, 3.0]
    assert result["channels"][0]["gaps"] == [
        {"start_s": 1.0, "end_s": 2.0, "missing_s": 0.5, "reason": "overload"}
    ]
    assert [e[0] for e in builder.embeddings()] == [0, 1]
    assert "disclosed" not in result["options"]


# -- the files ---------------------------------------------------------------------------------


def test_all_files_contain_the_same_frames(tmp_path: Path) -> None:
    output = ResultWriter(tmp_path, 2, LABELS, dim=4)
    pcm = np.arange(64_000, dtype="<i2").reshape(-1, 2)
    output.write_audio(pcm[:1000].tobytes())
    output.write_audio(pcm[1000:].tobytes())
    written = [(0, frames(0, 5000, 4)), (1, frames(640, 7, 4)), (0, frames(1_600_000, 3, 4))]
    for channel, some in written:
        output.write_frames(channel, some)
    body: Any = {"schema": "x", "n": [1]}
    names = output.finish(body, True, None, [np.ones(4, np.float32)])
    assert names == [RESULT, FRAMES, EMBEDDING, UTTERANCES, AUDIO] == list(NAMES)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)
    with wave.open(str(tmp_path / AUDIO)) as wav:
        assert (wav.getnchannels(), wav.getframerate()) == (2, 16_000)
        assert wav.readframes(10**6) == pcm.tobytes()
    with (tmp_path / FRAMES).open(newline="") as lines:
        rows = list(csv.reader(lines))
    assert rows[0] == ["channel", "start_s", *LABELS]
    assert len(rows) == 1 + 5010
    result = orjson.loads((tmp_path / RESULT).read_bytes())
    assert (result["schema"], result["n"]) == ("x", [1])
    assert result["frames"]["hop_s"] == 0.02
    first, second = result["frames"]["channels"]
    assert [len(first["start_s"]), len(second["start_s"])] == [5003, 7]
    assert first["start_s"][-1] == 100.04
    assert np.allclose(second["posteriors"], written[1][1].posteriors, atol=1e-4)
    features = np.load(tmp_path / EMBEDDING)
    assert (features.shape, features.dtype) == ((5010, 4), np.float32)
    assert features[5000].tolist() == [640.0] * 4


def test_a_result_without_frames_is_complete(tmp_path: Path) -> None:
    output = ResultWriter(tmp_path, 1, LABELS)
    assert output.finish(ANY_RESULT, True) == [RESULT, FRAMES, AUDIO]
    assert orjson.loads((tmp_path / RESULT).read_bytes())["frames"]["channels"] == []


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    def peak(hours: float, folder: Path) -> int:
        folder.mkdir()
        output = ResultWriter(folder, 1, LABELS, dim=16)
        tracemalloc.start()
        for n in range(int(hours * 1200)):
            output.write_audio(bytes(3 * 32_000))
            output.write_frames(0, frames(n * 48_000, 150, 16))
        output.finish(ANY_RESULT, True)
        maximum = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return maximum

    small = peak(0.1, tmp_path / "a")
    assert peak(0.4, tmp_path / "b") < 1.3 * small + 200_000


def test_a_full_disk_raises_an_error_instead_of_a_shorter_file(tmp_path: Path) -> None:
    (tmp_path / FRAMES).symlink_to("/dev/full")
    output = ResultWriter(tmp_path, 1, LABELS)
    with pytest.raises(OSError, match="No space") as full:
        output.write_frames(0, frames(0, 10_000))
    assert full.value.errno == errno.ENOSPC
    with suppress(OSError):
        output.close()
