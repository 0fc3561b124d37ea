"""The recordings that bench.vad and bench.nonspeech measure on: a folder with `sounds.csv`.

`sounds.csv` has the columns path and kind (and any others); frame labels lie in `sounds/labels/`,
one line of a name and start, end, 0 or 1 in turn, in seconds. `emotion.csv` has path and corpus.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soxr
from numpy.typing import NDArray

from client.audio.encoders import ENCODERS
from stream.audio.codecs import PcmDecoder
from stream.types import FRAME, SAMPLE_RATE, AudioFormat, Samples

Pcm16 = NDArray[np.int16]

NON_SPEECH = {
    "infant cries (non-speech)": "infant cries",
    "noises, IRs": "noises",
    "music/birds": "music",
    "tones": "tones",
    "DTMF, hold music": "tones",
    "speech/music": "music",
}
"""Kinds of `sounds.csv` that hold no speech, by the name they get in tables."""

SPEECH_AMONG_THEM = re.compile("p286|ready|signed_24bit|stereo_16bit|0021|lamartine")
"""Files of those kinds in which somebody speaks."""

MUSIC_UNTIL_S = {"musanmix": 22.4}
"""Recordings that begin with music, and when speech follows."""

SNR_DB = 10.0
NOISES = ("white", "pink", "office", "street")


@dataclass(frozen=True, slots=True)
class Recording:
    name: str
    category: str
    audio: Pcm16

    @property
    def seconds(self) -> float:
        return len(self.audio) / SAMPLE_RATE


def data_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder with sounds.csv"
    )


def read(path: Path) -> Pcm16:
    """A recording as int16 mono at 16 kHz."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    with av.open(str(path)) as container:
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
    frames += resampler.resample(None)
    pieces = [frame.to_ndarray().ravel() for frame in frames]
    return np.asarray(np.concatenate(pieces), np.int16) if pieces else np.zeros(0, np.int16)


def rows(data: Path, name: str) -> list[dict[str, str]]:
    with (data / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def labelled(data: Path) -> Iterator[tuple[Recording, NDArray[np.bool_]]]:
    """Recordings with frame labels: which of the 20 ms frames are speech."""
    for row in rows(data, "sounds.csv"):
        if "frame labels" not in row["kind"]:
            continue
        path = data / row["path"]
        number = path.stem.rpartition("-")[2]
        (scv,) = (path.parent / "labels").glob(f"*-{number}.scv")
        fields = scv.read_text(encoding="utf-8").strip().split(",")[1:]
        audio = read(path)
        middle = (np.arange(len(audio) // FRAME) + 0.5) * FRAME / SAMPLE_RATE
        speech = np.zeros(len(middle), np.bool_)
        for start, end, voice in zip(fields[::3], fields[1::3], fields[2::3], strict=True):
            if voice == "1":
                speech |= (middle >= float(start)) & (middle < float(end))
        yield Recording(path.stem, row["kind"], audio), speech


def non_speech(data: Path) -> Iterator[Recording]:
    """Every recording without speech, the speech in it cut off."""
    for row in rows(data, "sounds.csv"):
        path = row["path"]
        if row["kind"] not in NON_SPEECH or SPEECH_AMONG_THEM.search(path):
            continue
        category = NON_SPEECH[row["kind"]]
        if "office-ambience" in path:
            category = "office"
        elif "acoustic_guitar" in path:
            category = "music"
        elif re.search("silen", path):
            category = "silence"
        audio = read(data / path)
        for part, seconds in MUSIC_UNTIL_S.items():
            if part in path:
                audio = audio[: int(seconds * SAMPLE_RATE)]
        yield Recording(Path(path).stem, category, audio)


def telephone(audio: Pcm16) -> Pcm16:
    """There and back through 8 kHz mu-law."""
    narrow = soxr.resample(audio, SAMPLE_RATE, 8_000)
    heard = PcmDecoder(AudioFormat("mulaw", 8_000)).decode(ENCODERS["mulaw"](narrow[:, None]))[0]
    return int16(soxr.resample(heard, 8_000, SAMPLE_RATE))


class Noises:
    """White and pink noise, an office and a street, to be laid under speech."""

    def __init__(self, data: Path) -> None:
        random = np.random.default_rng(0).standard_normal(60 * SAMPLE_RATE)
        spectrum = np.fft.rfft(random)
        spectrum /= np.sqrt(np.maximum(1, np.arange(len(spectrum))))
        sounds = data / "sounds"
        self._noises = {
            "white": random,
            "pink": np.fft.irfft(spectrum),
            "office": read(next(sounds.glob("*office-ambience*"))).astype(np.float64),
            "street": read(next(sounds.glob("*perfect-alley*"))).astype(np.float64),
        }

    def under(self, audio: Pcm16, speech: NDArray[np.bool_], name: str, turn: int = 0) -> Pcm16:
        """`audio` at an SNR of 10 dB, measured over its speech frames; `turn` moves the noise."""
        noise = np.resize(np.roll(self._noises[name], -turn * SAMPLE_RATE), len(audio))
        voiced = audio[: len(speech) * FRAME].reshape(-1, FRAME)[speech].astype(np.float64)
        gain = np.sqrt((voiced**2).mean() / (noise**2).mean() / 10 ** (SNR_DB / 10))
        return int16((audio + gain * noise) / 32768)


def int16(audio: Samples | NDArray[np.float64]) -> Pcm16:
    limited = np.clip(audio, -1, 32767 / 32768)
    return np.asarray(np.rint(limited * 32768), np.int16)
