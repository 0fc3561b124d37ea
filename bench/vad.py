"""Accuracy and cost of voice activity detection: webrtcvad compared with Silero."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.report import arguments, as_json, machine, print_text
from bench.sounds import (
    NOISES,
    Noises,
    Pcm16,
    data_argument,
    labelled,
    non_speech,
    read,
    rows,
    telephone,
)
from bench.tables import table
from stream.analysis.highpass import HighPass
from stream.analysis.hysteresis import RELEASE, FrameDecider, Rechunked
from stream.analysis.levels import frame_power
from stream.analysis.steady import SteadyLevel
from stream.analysis.vad import DETECTORS, Segmenter, VadSettings
from stream.types import FRAME, SAMPLE_RATE

EXAMPLES = """\
  python -m bench.vad --data DIR           all detectors, conditions and rules, some minutes
  python -m bench.vad --data DIR --quick   clean speech and one noise"""

Mask = NDArray[np.bool_]
Labelled = list[tuple[Pcm16, Mask]]

STARTS = ((3, 5), (4, 6), (5, 8), (8, 10))
HANGOVERS = (15, 20, 30, 40, 50)
GATES = (-96.0, -60.0, -50.0)
THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8)

SENTENCES = frozenset({"emodb", "nemo", "ravdess"})
"""Corpora of `emotion.csv` with acted sentences, one per clip."""


def main() -> None:
    parser = arguments(__doc__ or "", EXAMPLES)
    data_argument(parser)
    options = parser.parse_args()
    print_text(options, machine(), "")
    noises = Noises(options.data)
    clean = [(recording.audio, speech) for recording, speech in labelled(options.data)]
    others = [recording.audio for recording in non_speech(options.data)]
    clips = [read(options.data / path) for path in speech_clips(options.data, options.quick)]
    conditions: dict[str, Labelled] = {"clean": clean}
    if not options.quick:
        conditions["telephone"] = [(telephone(audio), speech) for audio, speech in clean]
    for name in ("office",) if options.quick else NOISES:
        conditions[f"{name}, 10 dB"] = [
            (noises.under(audio, speech, name, number), speech)
            for number, (audio, speech) in enumerate(clean)
        ]
    default = VadSettings()
    speech = np.concatenate([speech for _, speech in clean])
    labels = [
        row
        for condition, recordings in conditions.items()
        for row in detectors(condition, recordings, default)
    ]
    print_text(
        options,
        f"{len(clean)} labelled recordings, {len(speech) * FRAME / SAMPLE_RATE:.0f} s, "
        f"{speech.mean():.0%} speech. Percent of wrong frames, of missed speech, and of non-speech "
        "detected as speech (false alarms): for the detector alone, and for its utterances.\n",
        as_table(labels),
        "",
    )
    unlabelled = [without_labels(settings, others, clips) for settings in settings_of(default)]
    print_text(
        options,
        f"Percent of {sum(map(len, others)) / SAMPLE_RATE:.0f} s without speech that are detected "
        f"as speech, and of {len(clips)} clips of speech in which none is detected; CPU "
        "milliseconds per second of audio.\n",
        as_table(unlabelled),
        "",
    )
    thresholds = list(hysteresis(conditions, others, clips, default))
    print_text(
        options,
        "silero with other thresholds, without and with hysteresis (a frame stays voiced down to "
        "threshold - margin); mean over the conditions above.\n",
        as_table(thresholds),
        "",
    )
    tried = list(rules(conditions, others, clips, default))
    print_text(options, "Other rules, mean over the conditions above.\n", as_table(tried))
    if options.json:
        figures = {"labels": labels, "elsewhere": unlabelled}
        print(as_json({**figures, "hysteresis": thresholds, "rules": tried}))


def speech_clips(data: Path, quick: bool) -> list[str]:
    """Return the paths of clips of acted emotions, one sentence each."""
    paths = [row["path"] for row in rows(data, "emotion.csv") if row["corpus"] in SENTENCES]
    return paths[:: 20 if quick else 8]


def settings_of(default: VadSettings) -> Iterator[VadSettings]:
    """Yield the default settings with each detector and mode."""
    for detector in ("webrtcvad", "silero"):
        for mode in range(4):
            yield replace(default, detector=detector, mode=mode)


def name_of(settings: VadSettings) -> str:
    return f"{settings.detector} {settings.mode}"


def detectors(
    condition: str, recordings: Labelled, default: VadSettings
) -> Iterator[dict[str, Any]]:
    """Yield the errors of each detector and mode on labelled recordings."""
    truth = np.concatenate([speech for _, speech in recordings])
    for settings in settings_of(default):
        voiced = [decisions(settings, audio) for audio, _ in recordings]
        in_utterance = [utterances(settings, frames) for frames in voiced]
        yield {
            "condition": condition,
            "detector": name_of(settings),
            **errors("", truth, np.concatenate(voiced)),
            **errors("utt_", truth, np.concatenate(in_utterance)),
        }


def without_labels(
    settings: VadSettings, others: Sequence[Pcm16], clips: Sequence[Pcm16]
) -> dict[str, Any]:
    """Return the detected share of non-speech, the missed clips of speech, and the CPU time."""
    began = time.process_time()
    voiced = [decisions(settings, audio) for audio in others]
    cpu_ms = (time.process_time() - began) * 1000 / (sum(map(len, others)) / SAMPLE_RATE)
    in_utterance = [utterances(settings, frames) for frames in voiced]
    missed = [not utterances(settings, decisions(settings, clip)).any() for clip in clips]
    return {
        "detector": name_of(settings),
        "frames_%": 100 * float(np.concatenate(voiced).mean()),
        "utterances_%": 100 * float(np.concatenate(in_utterance).mean()),
        "clips_missed_%": 100 * float(np.mean(missed)),
        "cpu_ms_per_s": cpu_ms,
    }


def hysteresis(
    conditions: dict[str, Labelled],
    others: Sequence[Pcm16],
    clips: Sequence[Pcm16],
    default: VadSettings,
) -> Iterator[dict[str, Any]]:
    """Yield the errors of silero with each threshold, without and with a margin."""
    every = [r for recordings in conditions.values() for r in recordings]
    truth = np.concatenate([speech for _, speech in every])
    silero = replace(default, detector="silero")
    groups = ([audio for audio, _ in every], others, clips)
    kept = [[probabilities(silero, audio) for audio in group] for group in groups]
    for threshold in THRESHOLDS:
        for margin in (0.0, RELEASE):
            decided = [
                [
                    replayed(found, threshold, threshold - margin, least_power(silero))
                    for found in group
                ]
                for group in kept
            ]
            yield {
                "threshold": threshold,
                "margin": margin,
                **errors("", truth, np.concatenate(decided[0])),
                **summary(default, truth, decided),
            }


def rules(
    conditions: dict[str, Labelled],
    others: Sequence[Pcm16],
    clips: Sequence[Pcm16],
    default: VadSettings,
) -> Iterator[dict[str, Any]]:
    """Yield the errors of start rules, hangovers and level gates, each alone."""
    tried: list[tuple[str, VadSettings]] = [
        *((f"start {n} of {m}", replace(default, start_voiced=n, start_of=m)) for n, m in STARTS),
        *((f"hangover {20 * n} ms", replace(default, hangover=n)) for n in HANGOVERS),
        *((f"min_dbfs {gate:g}", replace(default, min_dbfs=gate)) for gate in GATES),
    ]
    every = [r for recordings in conditions.values() for r in recordings]
    truth = np.concatenate([speech for _, speech in every])
    groups = ([audio for audio, _ in every], others, clips)
    voiced: dict[float, list[list[Mask]]] = {}
    for gate in GATES:
        gated = replace(default, min_dbfs=gate)
        voiced[gate] = [[decisions(gated, audio) for audio in group] for group in groups]
    for rule, settings in tried:
        yield {
            "rule": f"{name_of(settings)}, {rule}",
            **summary(settings, truth, voiced[settings.min_dbfs]),
        }


def summary(
    settings: VadSettings, truth: Mask, voiced: Sequence[Sequence[Mask]]
) -> dict[str, float]:
    """Return the errors of utterances from the decisions on labelled speech, others and clips."""
    labelled_speech, non_speech, clip_speech = (
        [utterances(settings, frames) for frames in group] for group in voiced
    )
    return {
        **errors("utt_", truth, np.concatenate(labelled_speech)),
        "non_speech_%": 100 * float(np.concatenate(non_speech).mean()),
        "clips_missed_%": 100 * float(np.mean([not clip.any() for clip in clip_speech])),
    }


def decisions(settings: VadSettings, audio: Pcm16) -> Mask:
    """Return the decision on every whole frame, as in a channel."""
    pcm, power = filtered(audio)
    return np.array(FrameDecider.of(settings).decide(pcm, power), np.bool_)


def filtered(audio: Pcm16) -> tuple[Pcm16, list[float]]:
    """Return the whole frames after the high-pass filter, as in a channel, and their power."""
    whole = audio[: len(audio) // FRAME * FRAME].astype(np.float32)
    steps = np.rint(HighPass().push(whole))
    power = frame_power(steps)
    return steps.astype(np.int16), power


class Replay:
    """Detector that returns given probabilities, one per frame."""

    frame = FRAME

    def __init__(self, probabilities: Sequence[float]) -> None:
        self._next = iter(probabilities).__next__

    def probability(self, samples: Pcm16) -> float:
        return self._next()


def probabilities(settings: VadSettings, audio: Pcm16) -> tuple[list[float], list[float]]:
    """Return the probability of every whole frame above the minimum level, and every power."""
    detector = Rechunked(DETECTORS[settings.detector](settings.mode))
    pcm, power = filtered(audio)
    least = least_power(settings)
    loud = zip(pcm.reshape(-1, FRAME), power, strict=True)
    return [detector.probability(frame) for frame, level in loud if level >= least], power


def least_power(settings: VadSettings) -> float:
    return float(10 ** (settings.min_dbfs / 10))


def replayed(
    found: tuple[list[float], list[float]], start: float, stay: float, least: float
) -> Mask:
    """Return the decisions on frames with these probabilities and powers."""
    replay, power = Replay(found[0]), found[1]
    pcm = np.zeros(len(power) * FRAME, np.int16)
    decider = FrameDecider(replay, start, stay, least, SteadyLevel())
    return np.array(decider.decide(pcm, power), np.bool_)


def utterances(settings: VadSettings, voiced: Mask) -> Mask:
    """Return bool[frames]: True in an utterance, including pre-roll and bridged pauses."""
    segmenter = Segmenter(settings)
    inside = np.zeros(len(voiced), np.bool_)
    ended = [*map(segmenter.step, voiced.tolist()), segmenter.close("flush")]
    for utterance in filter(None, ended):
        inside[utterance.start // FRAME : utterance.end // FRAME] = True
    return inside


def errors(prefix: str, truth: Mask, detected: Mask) -> dict[str, float]:
    """Return error, miss and false alarm rates in percent, with `prefix` before their names."""
    return {
        f"{prefix}error_%": 100 * float((truth != detected).mean()),
        f"{prefix}miss_%": 100 * float((~detected)[truth].mean()),
        f"{prefix}false_%": 100 * float(detected[~truth].mean()),
    }


def as_table(figures: Sequence[dict[str, Any]]) -> str:
    return table(list(figures[0]), [list(row.values()) for row in figures])


if __name__ == "__main__":
    main()
