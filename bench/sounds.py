"""Recordings for bench.vad and bench.nonspeech: a folder with `sounds.csv`.

`sounds.csv` has the columns path and kind (and any others). Frame labels are in `sounds/labels/`:
one line with a name and repeated start, end (seconds), 0 or 1. `emotion.csv` has path and corpus.
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
"""Kinds of `sounds.csv` without speech, and their names in tables."""

SPEECH_AMONG_THEM = re.compile("p286|ready|signed_24bit|stereo_16bit|0021|lamartine")
"""Files of those kinds that contain speech."""

MUSIC_UNTIL_S = {"musanmix": 22.4}
"""Recordings that begin with music, and the second at which speech begins."""

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
    """Return a recording as int16 mono at 16 kHz."""
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
    """Yield recordings with their frame labels: bool[frames] of 20 ms, True for speech."""
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
    """Yield the recordings without speech; speech at the end is cut off."""
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
    """Return the audio after 8 kHz mu-law coding and decoding, at 16 kHz again."""
    narrow = soxr.resample(audio, SAMPLE_RATE, 8_000)
    decoded = PcmDecoder(AudioFormat("mulaw", 8_000)).decode(ENCODERS["mulaw"](narrow[:, None]))[0]
    return int16(soxr.resample(decoded, 8_000, SAMPLE_RATE))


class Noises:
    """White noise, pink noise, an office and a street, to be mixed with speech."""

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

    def under(self, audio: Pcm16, speech: NDArray[np.bool_], name: str, offset_s: int = 0) -> Pcm16:
        """Return `audio` at an SNR of 10 dB over its speech frames; `offset_s` shifts the noise."""
        noise = np.resize(np.roll(self._noises[name], -offset_s * SAMPLE_RATE), len(audio))
        voiced = audio[: len(speech) * FRAME].reshape(-1, FRAME)[speech].astype(np.float64)
        gain = np.sqrt((voiced**2).mean() / (noise**2).mean() / 10 ** (SNR_DB / 10))
        return int16((audio + gain * noise) / 32768)


def int16(audio: Samples | NDArray[np.float64]) -> Pcm16:
    limited = np.clip(audio, -1, 32767 / 32768)
    return np.asarray(np.rint(limited * 32768), np.int16)
