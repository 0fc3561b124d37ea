"""Cost of the features for feedback: CPU and memory of one channel, with and without them."""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from stream.analysis.pipeline import AnalysisSettings, StreamPipeline, analyse
from stream.analysis.windows import WindowSettings
from stream.backends.base import Embedder
from stream.backends.registry import load
from stream.types import SAMPLE_RATE, AudioFormat, FrameScores, Window
from training.data import decode

SPEECH = Path(__file__).parents[1] / "client" / "web" / "samples" / "emotions.flac"
RUNS = 7
CHUNK_S = 0.1
WAYS = {
    "scores": AnalysisSettings(),
    "feedback": AnalysisSettings(embeddings=True),
    "feedback.audio": AnalysisSettings(embeddings=True, audio=True),
}


def run(backend: Embedder, data: bytes, way: AnalysisSettings) -> float:
    """Return the CPU seconds of the analysis of `data`, f32le at 16 kHz."""
    info = backend.info
    windows = WindowSettings(info.preferred_lengths, min(SAMPLE_RATE, info.preferred_lengths[-1]))
    pipeline = StreamPipeline(AudioFormat("f32le"), [0], info, replace(way, windows=windows))

    def infer(window: Window) -> FrameScores:
        if not way.embeddings:
            return FrameScores(window, backend.infer(window.audio[None])[0])
        logits, features = backend.embed(window.audio[None])
        return FrameScores(window, logits[0], features[0])

    size = int(CHUNK_S * SAMPLE_RATE) * 4
    began = time.process_time()
    analyse(pipeline, [data[at : at + size] for at in range(0, len(data), size)], infer)
    return time.process_time() - began


def main() -> None:
    """Print a row per way: CPU per second of audio, its ratio to scores alone, memory."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    backend = load("embedded", "cpu", True)
    assert isinstance(backend, Embedder)
    samples = decode(SPEECH)
    seconds, data = len(samples) / SAMPLE_RATE, samples.astype("<f4").tobytes()
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    run(backend, data, WAYS["feedback"])
    for _ in range(RUNS):
        for name, way in WAYS.items():
            times[name].append(run(backend, data, way))
    base = statistics.median(times["scores"])
    table = Table("", "CPU, ms per s of audio", "ratio", "memory of a channel, MB")
    for name, way in WAYS.items():
        tracemalloc.start()
        run(backend, data, way)
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        median = statistics.median(times[name])
        table.add_row(name, f"{1000 * median / seconds:.2f}", f"{median / base:.2f}", f"{peak:.1f}")
    console = Console()
    console.print(f"{backend.info.id}, {backend.info.dim} features, {seconds:.0f} s of audio")
    console.print(table)


if __name__ == "__main__":
    main()
