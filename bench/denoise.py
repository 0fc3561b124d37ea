"""Effect of noise suppression on the scores: noisy speech through each candidate, then the model.

Every clip follows a second of its noise, so that a suppressor can adapt, at each signal to noise
ratio; the last 3 s of the output are scored. UAR is the mean recall over the emotions; chance is
one over their number. Candidates that are not installed are left out:
`pip install pyrnnoise noisereduce` installs them. The corpus is a folder with `emotion.csv`
(columns path, corpus, emotion). The embedded model was trained on EmoDB, so only the differences
are meaningful, not the figures.
"""

from __future__ import annotations

import csv
import importlib
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import soxr
from numpy.typing import NDArray

from bench.report import arguments, as_json, machine, print_text
from bench.tables import table
from client.audio.files import blocks, probe
from stream.audio.denoise import Denoiser
from stream.backends.embedded import load
from stream.types import SAMPLE_RATE, Samples
from training.sounds import noise

EXAMPLES = """\
  python -m bench.denoise --data data                 60 clips of EmoDB at 0, 5 and 10 dB
  python -m bench.denoise --data data --corpus ravdess --clips 200"""

WINDOW = 3 * SAMPLE_RATE
Suppress = Callable[[Samples], Samples]


def shipped(audio: Samples) -> Samples:
    """Suppress noise as `files.denoise` does."""
    denoiser = Denoiser()
    parts = [denoiser.push(audio[n : n + 1600]) for n in range(0, len(audio), 1600)]
    return np.concatenate([*parts, denoiser.drain()])


def ffmpeg(name: str, settings: str) -> Suppress:
    """Return a filter of FFmpeg."""

    def run(audio: Samples) -> Samples:
        graph = av.filter.Graph()
        source = graph.add_abuffer(
            sample_rate=SAMPLE_RATE, format="flt", layout="mono", time_base=Fraction(1, SAMPLE_RATE)
        )
        effect, sink = graph.add(name, settings), graph.add("abuffersink")
        source.link_to(effect)
        effect.link_to(sink)
        graph.configure()
        frame = av.AudioFrame.from_ndarray(audio[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, 0
        graph.push(frame)
        graph.push(None)
        return np.concatenate(list(_pulled(graph)))[: len(audio)].astype(np.float32)

    return run


def _pulled(graph: Any) -> Iterator[NDArray[np.float32]]:
    while True:
        try:
            yield graph.pull().to_ndarray().reshape(-1)
        except (av.error.BlockingIOError, av.error.EOFError):
            return


def rnnoise(module: Any) -> Suppress:
    """Return RNNoise, which runs at 48 kHz."""

    def run(audio: Samples) -> Samples:
        wide = soxr.resample(audio, SAMPLE_RATE, 48_000)
        pcm = np.clip(np.rint(wide * 32767), -32768, 32767).astype(np.int16)
        suppressor = module.RNNoise(sample_rate=48_000)
        parts = [out for _, out in suppressor.denoise_chunk(pcm[None])]
        clean = np.concatenate([np.asarray(p, np.float32).reshape(-1) for p in parts]) / 32768
        return np.asarray(soxr.resample(clean, 48_000, SAMPLE_RATE), np.float32)

    return run


def reducer(module: Any) -> Suppress:
    """Return the spectral gate of noisereduce."""

    def run(audio: Samples) -> Samples:
        return np.asarray(module.reduce_noise(y=audio, sr=SAMPLE_RATE, stationary=True), np.float32)

    return run


def candidates() -> dict[str, Suppress]:
    """Return the available candidates by name."""
    available: dict[str, Suppress] = {
        "none": lambda audio: audio,
        "webrtc (ships)": shipped,
        "afftdn": ffmpeg("afftdn", "nr=12:nf=-40:tr=1"),
        "anlmdn": ffmpeg("anlmdn", "s=0.0005:p=0.004:r=0.012"),
    }
    others = {"pyrnnoise": rnnoise, "noisereduce": reducer}
    for name, make in others.items():
        try:
            available[name] = make(importlib.import_module(name))
        except ImportError:
            continue
    return available


def clips(
    data: Path, corpus: str, labels: tuple[str, ...], limit: int
) -> list[tuple[Samples, int]]:
    """Return at most `limit` clips with the index of their emotion, equally many of each."""
    rows: dict[str, list[Path]] = {label: [] for label in labels}
    with (data / "emotion.csv").open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if row["corpus"] == corpus and row["emotion"] in rows:
                rows[row["emotion"]].append(data / row["path"])
    rng = np.random.default_rng(1)
    each = min(limit // len(labels), *(len(paths) for paths in rows.values()))
    chosen = []
    for index, label in enumerate(labels):
        for nth in rng.permutation(len(rows[label]))[:each]:
            pcm = np.concatenate(list(blocks(probe(rows[label][nth]), SAMPLE_RATE, 1)))
            chosen.append((pcm[:, 0].astype(np.float32) / np.float32(32768), index))
    return chosen


def main() -> None:
    parser = arguments(__doc__ or "", EXAMPLES)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="with emotion.csv")
    parser.add_argument("--corpus", default="emodb-4")
    parser.add_argument("--clips", type=int, default=60, metavar="N")
    parser.add_argument("--snr", type=float, nargs="+", default=[0.0, 5.0, 10.0], metavar="DB")
    options = parser.parse_args()
    labels = ("angry", "happy", "neutral", "sad")
    backend = load()
    columns = [backend.info.labels.index(label) for label in labels]
    chosen = clips(options.data, options.corpus, labels, options.clips)
    print_text(
        options, machine(), f"{len(chosen)} clips of {options.corpus}, {', '.join(labels)}", ""
    )

    def correct(audio: Samples, truth: int) -> bool:
        missing = max(0, WINDOW - len(audio))
        window = np.pad(audio, (missing, 0), "symmetric")[-WINDOW:].astype(np.float32)
        logits = backend.infer(window[None])[0].mean(axis=0)
        return int(np.argmax(logits[columns])) == truth

    rows = []
    for name, suppress in candidates().items():
        row: dict[str, Any] = {"candidate": name}
        cpu_s, audio_s = 0.0, 0.0
        for snr in (None, *options.snr):
            hits: list[list[bool]] = [[] for _ in labels]
            for nth, (speech, truth) in enumerate(chosen):
                rng = np.random.default_rng([nth, 0 if snr is None else int(snr) + 100])
                lead = SAMPLE_RATE
                audio = np.pad(speech, (lead, 0)).astype(np.float32)
                level = float(speech.std()) * 10 ** (-(60.0 if snr is None else snr) / 20)
                audio = audio + np.float32(level) * noise(rng, len(audio))
                began = time.process_time()
                clean = suppress(audio.astype(np.float32))
                cpu_s += time.process_time() - began
                audio_s += len(audio) / SAMPLE_RATE
                hits[truth].append(correct(clean[lead:], truth))
            uar = float(np.mean([np.mean(h) for h in hits]))
            row["clean" if snr is None else f"{snr:g} dB"] = 100 * uar
        row["cpu_ms_per_s"] = 1000 * cpu_s / audio_s
        rows.append(row)
        print_text(options, f"{name}: measured")
    if options.json:
        print(as_json(rows))
        return
    keys = list(rows[0])
    print("\nUAR in percent:\n")
    print(table(keys, [[row[key] for key in keys] for row in rows]))


if __name__ == "__main__":
    main()
