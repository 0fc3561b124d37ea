"""False emotions for sounds without speech, and false alarms of their detector on speech."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import arguments, as_json, machine, print_text
from bench.sounds import (
    Noises,
    Pcm16,
    data_argument,
    labelled,
    non_speech,
    read,
    rows,
    telephone,
)
from bench.stand_ins import NullBackend
from bench.tables import table
from stream.admission import analysis_settings
from stream.analysis.levels import frame_power
from stream.analysis.nonspeech import measure
from stream.analysis.pipeline import AnalysisSettings, StreamPipeline, analyse
from stream.backends import registry
from stream.backends.base import Backend
from stream.config import Config
from stream.types import FRAME, SAMPLE_RATE, AudioFormat, FrameScores, Segment, Window
from training.nonspeech import WARNINGS

EXAMPLES = """\
  python -m bench.nonspeech --data DIR                     all sounds, and speech in four conditions
  python -m bench.nonspeech --data DIR --detector silero   with another voice detector
  python -m bench.nonspeech --data DIR --quick             one clip of speech in twenty"""

EMOTIONS = frozenset({"angry", "disgusted", "fearful", "happy", "sad", "surprised"})
SOUNDS = frozenset({"music", "tone", "high_pitch"})
WORDLESS = frozenset({"emogator"})
"""Corpora of `emotion.csv` without speech: laughter, sighs and screams."""
CHUNK = SAMPLE_RATE // 10 * 2

Analyse = Callable[[Pcm16], list[Segment]]


def main() -> None:
    parser = arguments(__doc__ or "", EXAMPLES)
    data_argument(parser)
    parser.add_argument("--backend", default="embedded", help="the server's --model")
    parser.add_argument("--detector", default="webrtcvad", help="the setting vad.detector")
    options = parser.parse_args()
    print_text(options, machine(), "")
    backend = registry.load(options.backend)
    settings = analysis_settings(Config(), backend.info)
    vad = replace(settings.vad, detector=options.detector)
    after = segments_of(backend, replace(settings, vad=vad))
    before = segments_of(backend, replace(settings, vad=replace(vad, only_speech=False)))
    figures = {
        "sounds": sounds(options.data, before, after),
        # Hints and missing scores do not depend on the model.
        "speech": list(
            speech(
                options.data,
                segments_of(NullBackend(), replace(settings, vad=vad)),
                20 if options.quick else 2,
            )
        ),
    }
    if options.json:
        print(as_json(figures))
        return
    print(
        f"{backend.info.id}, {options.detector}. False emotions: utterances "
        f"whose top label is one of {', '.join(sorted(EMOTIONS))} and that carry none of the hints "
        f"{', '.join(sorted(WARNINGS))}.\n"
    )
    print(as_table(figures["sounds"]), "\n")
    print(
        f"The non-speech detector costs {cost_ms(options.data):.2f} ms CPU per second of speech.\n"
    )
    print("Utterances of real speech, in percent: not scored, and with a hint of another sound.\n")
    print(as_table(figures["speech"]))


def segments_of(backend: Backend, settings: AnalysisSettings) -> Analyse:
    """Return a function from int16 audio at 16 kHz to its segments."""

    def infer(window: Window) -> FrameScores:
        return FrameScores(window, backend.infer(window.audio[None])[0])

    def run(audio: Pcm16) -> list[Segment]:
        pipeline = StreamPipeline(AudioFormat(), (0,), backend.info, settings)
        data = audio.astype("<i2").tobytes()
        chunks = [data[i : i + CHUNK] for i in range(0, len(data), CHUNK)]
        events = analyse(pipeline, chunks, infer)
        return [event for event in events if isinstance(event, Segment)]

    return run


def cost_ms(data: Path) -> float:
    """Return the CPU ms of `nonspeech.measure` per second of speech, the best of five rounds."""
    audio = np.concatenate([recording.audio for recording, _ in labelled(data)])
    samples = audio.astype(np.float32) / np.float32(32768)
    pieces = [samples[i : i + SAMPLE_RATE] for i in range(0, len(samples), SAMPLE_RATE)]
    rounds = []
    for _ in range(5):
        began = time.process_time()
        for piece in pieces:
            measure(piece)
        rounds.append((time.process_time() - began) * 1000 / len(pieces))
    return min(rounds)


def false_emotion(segment: Segment) -> bool:
    """Return whether a segment of non-speech has an emotion on top and no hint of WARNINGS."""
    if not segment.scores:
        return False
    top = max(segment.scores, key=segment.scores.__getitem__)
    return top in EMOTIONS and not WARNINGS.intersection(segment.hints)


def sounds(data: Path, before: Analyse, after: Analyse) -> list[dict[str, Any]]:
    """Return the rows of non-speech by category, without and with the detector."""
    seconds: dict[str, float] = defaultdict(float)
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    for recording in non_speech(data):
        for name in (recording.category, "all"):
            seconds[name] += recording.seconds
        for when, run in (("before", before), ("after", after)):
            for segment in run(recording.audio):
                for name in (recording.category, "all"):
                    totals[name][f"{when}_utterances"] += 1
                    totals[name][f"{when}_unscored"] += not segment.scores
                    false = false_emotion(segment)
                    totals[name][when] += false
                    totals[name][f"{when}_long"] += false and "short_speech" not in segment.hints
    return [
        {
            "sound": name,
            "seconds": round(seconds[name]),
            "utterances": totals[name]["before_utterances"],
            "false_before": totals[name]["before"],
            "false_after": totals[name]["after"],
            "of_1_s_or_more": totals[name]["after_long"],
            "not_scored": totals[name]["after_unscored"],
            "per_10_min_before": totals[name]["before"] / seconds[name] * 600,
            "per_10_min_after": totals[name]["after"] / seconds[name] * 600,
        }
        for name in sorted(seconds, key=lambda name: (name == "all", name))
    ]


def speech(data: Path, run: Analyse, step: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each corpus and condition: every `step`th acted clip, and whole calls."""
    noises = Noises(data)
    corpora: dict[str, list[Pcm16]] = defaultdict(list)
    for row in rows(data, "emotion.csv")[::step]:
        if row["corpus"] not in WORDLESS:
            corpora[row["corpus"]].append(read(data / row["path"]))
    for row in rows(data, "sounds.csv"):
        if row["kind"].startswith(("call-centre", "telephone")):
            corpora["calls"].append(read(data / row["path"]))
    corpora["labelled"] = [recording.audio for recording, _ in labelled(data)]
    total: Counter[str] = Counter()
    for corpus, recordings in corpora.items():
        for condition, processed in conditions(recordings, noises):
            count = counts(segment for audio in processed for segment in run(audio))
            total += count
            yield {"speech": corpus, "condition": condition, **shares(count)}
    yield {"speech": "all", "condition": "all", **shares(total)}


def conditions(
    recordings: Sequence[Pcm16], noises: Noises
) -> Iterator[tuple[str, Iterable[Pcm16]]]:
    """Yield the recordings clean, through a telephone, and with two noises."""
    yield "clean", recordings
    yield "telephone", map(telephone, recordings)
    for name in ("pink", "office"):
        yield (
            f"{name}, 10 dB",
            (noises.under(audio, audible(audio), name, i) for i, audio in enumerate(recordings)),
        )


def audible(audio: Pcm16) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return bool[frames]: True within 30 dB of the loudest frame."""
    whole = audio[: len(audio) // FRAME * FRAME].astype(np.float32)
    power = np.array(frame_power(whole))
    return np.asarray(power > power.max() / 1000, np.bool_)


def counts(segments: Iterable[Segment]) -> Counter[str]:
    """Count utterances, missing scores and hints."""
    count: Counter[str] = Counter()
    for segment in segments:
        count["utterances"] += 1
        count["not_scored"] += not segment.scores
        count["hinted"] += bool(SOUNDS.intersection(segment.hints))
        count["noise"] += segment.quality.sound == "noise"
        for sound in ("music", "high_pitch"):
            count[sound] += segment.quality.sound == sound
    return count


def shares(count: Counter[str]) -> dict[str, float]:
    """Return the number of utterances and the other counts in percent of it."""
    total = max(1, count["utterances"])
    names = ("not_scored", "hinted", "music", "high_pitch", "noise")
    return {"utterances": count["utterances"], **{n: 100 * count[n] / total for n in names}}


def as_table(figures: Sequence[dict[str, Any]]) -> str:
    return table(list(figures[0]), [list(row.values()) for row in figures])


if __name__ == "__main__":
    main()
