"""Emotide's emotion2vec compared with FunASR's, on the same random weights, in one run.

`python -m bench.engine [--quick] [--models base large]` builds models of full size in a temporary
directory (2 GB), prints Markdown tables and asserts nothing. On a CPU the figure is process CPU
time on one thread, the minimum of several interleaved runs, so that other load on the machine slows
all engines alike and the ratios stay valid; on a GPU it is wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from bench import random_models
from stream.backends import emotion2vec
from stream.backends.emotion2vec.locate import Files
from stream.backends.emotion2vec.signals import buzzes
from stream.types import SAMPLE_RATE

ROOT = Path(__file__).resolve().parent.parent
SHAPES = ("base", "large")
Windows = NDArray[np.float32]
Engine = Callable[[Windows], object]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="base only, fewer runs")
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=SHAPES)
    parser.add_argument("--runs", type=int, help="rounds of the speed table (default: 3, quick 2)")
    options = parser.parse_args()
    names = ["base"] if options.quick else options.models
    runs = options.runs or (2 if options.quick else 3)
    with tempfile.TemporaryDirectory(prefix="emotide-bench-") as folder:
        for name in names:
            model = _build(Path(folder) / name, name)
            print(f"\n## {name}\n", flush=True)
            _print_table(_speed(model, runs, options.quick))
            _print_table(_agreement(model, 8 if options.quick else 32))
            _print_table(_start(model))


# -- speed ---------------------------------------------------------------------------------------


def _speed(model: Path, runs: int, quick: bool) -> list[list[str]]:
    import torch

    torch.set_num_threads(1)
    rows = [["device", "window", "batch", "engine", "windows/s", "× FunASR"]]
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        engines = _engines(model, device)
        clock = time.process_time if device == "cpu" else time.perf_counter
        batches = (1, 8) if device == "cpu" else (1, 8, 32)
        for seconds in (1, 3):
            for batch in batches:
                if quick and (seconds, batch) == (3, 8):
                    continue
                best = _best_times(engines, buzzes(batch, seconds * SAMPLE_RATE), clock, runs)
                for engine, elapsed in best.items():
                    ratio = f"{best['FunASR'] / elapsed:.2f}"
                    rows.append(
                        [
                            device,
                            f"{seconds} s",
                            str(batch),
                            engine,
                            f"{batch / elapsed:.2f}",
                            ratio,
                        ]
                    )
    return rows


def _engines(model: Path, device: str) -> dict[str, Engine]:
    from stream.backends.emotion2vec import oracle

    funasr = oracle.auto_model(model, device=device)
    torch32 = emotion2vec.load(str(model), device, runtime="torch")
    engines: dict[str, Engine] = {
        "FunASR": lambda windows: [funasr.generate(row) for row in windows],
        "torch": torch32.runner.run,
    }
    if device == "cpu":
        for precision in ("float32", "int8"):
            loaded = emotion2vec.load(str(model), device, runtime="onnx", precision=precision)
            engines[f"onnx {precision}"] = loaded.runner.run
    else:
        bfloat16 = emotion2vec.load(str(model), device, runtime="torch", precision="bfloat16")
        engines["torch bfloat16"] = bfloat16.runner.run
    return engines


def _best_times(
    engines: dict[str, Engine], windows: Windows, clock: Callable[[], float], runs: int
) -> dict[str, float]:
    """Return the least seconds of each engine over `runs` rounds, after a warm-up round."""
    best = dict.fromkeys(engines, float("inf"))
    for count in range(runs + 1):
        for name, engine in engines.items():
            begin = clock()
            engine(windows)
            if count:
                best[name] = min(best[name], clock() - begin)
    return best


# -- agreement -----------------------------------------------------------------------------------


def _agreement(model: Path, count: int) -> list[list[str]]:
    """Compare utterance scores with FunASR's. With random weights this is only an indication."""
    import torch

    from stream.backends.emotion2vec import oracle

    windows = buzzes(count, SAMPLE_RATE)
    reference = oracle.auto_model(model)
    expected = np.array([reference.generate(row)[0]["scores"] for row in windows])
    del reference
    load = emotion2vec.load
    backends: dict[str, Callable[[], emotion2vec.Emotion2vec]] = {
        "torch float32": lambda: load(str(model), "cpu", runtime="torch"),
        "onnx float32": lambda: load(str(model), "cpu", runtime="onnx"),
        "onnx int8": lambda: load(str(model), "cpu", precision="int8"),
        "torch bfloat16": lambda: load(str(model), "cpu", runtime="torch", precision="bfloat16"),
        "torch float16": lambda: load(str(model), "cpu", runtime="torch", precision="float16"),
    }
    if torch.cuda.is_available():
        backends["CUDA float32"] = lambda: load(str(model), "cuda")
        backends["CUDA bfloat16"] = lambda: load(str(model), "cuda", precision="bfloat16")
        backends["CUDA float16"] = lambda: load(str(model), "cuda", precision="float16")
    rows = [["engine", "windows", "max probability difference", "top-1 flips"]]
    for name, make in backends.items():
        backend = make()
        scores = np.concatenate([_softmax(backend.infer(row[None])) for row in windows])
        flips = int((scores.argmax(axis=1) != expected.argmax(axis=1)).sum())
        rows.append([name, str(count), f"{np.abs(scores - expected).max():.1e}", str(flips)])
        backend.close()
    return rows


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    mean = logits.mean(axis=1, dtype=np.float64)
    powers = np.exp(mean - mean.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


# -- start and memory ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _StartFigures:
    """Times in seconds and resident memory in MiB."""

    ready_s: float
    cpu_s: float
    peak_mb: float
    steady_mb: float


_LOAD = {
    "FunASR": """
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()):
    from funasr import AutoModel
    model = AutoModel(model=sys.argv[1], device="cpu", ncpu=1, disable_update=True,
                      disable_pbar=True, log_level="ERROR")
infer = lambda audio: model.generate(audio[0])
""",
    **{
        runtime: f"""
from bench import random_models
from stream.backends import emotion2vec
from stream.backends.emotion2vec.signals import buzzes
infer = emotion2vec.load(sys.argv[1], "cpu", runtime={runtime!r}).infer
"""
        for runtime in ("torch", "onnx")
    },
}

_PROBE = r"""
import sys, time
{load}
import json, psutil, re, numpy as np
me = psutil.Process()
ready, cpu = time.time() - me.create_time(), time.process_time()
# VmHWM covers this program only; the peak of getrusage survives the exec of a larger parent.
peak = int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])
audio = np.random.default_rng(1).standard_normal((1, 48_000)).astype(np.float32)
for _ in range(4): infer(audio)
print(json.dumps([ready, cpu, peak / 1024, me.memory_info().rss / 2**20]))
"""


def _start(model: Path, runs: int = 2) -> list[list[str]]:
    """Measure the start of a process until the checkpoint, with training state, is loaded."""
    started = {name: [_probe(model, load) for _ in range(runs)] for name, load in _LOAD.items()}
    rows = [["engine", "ready s", "CPU s", "peak MB while loading", "steady MB", "× FunASR"]]
    best = {
        name: _StartFigures(*(min(values) for values in zip(*several, strict=True)))
        for name, several in started.items()
    }
    funasr = best["FunASR"]
    for name, figures in best.items():
        ratios = " / ".join(
            f"{value / reference:.2f}"
            for value, reference in (
                (figures.ready_s, funasr.ready_s),
                (figures.peak_mb, funasr.peak_mb),
                (figures.steady_mb, funasr.steady_mb),
            )
        )
        rows.append(
            [
                name,
                f"{figures.ready_s:.1f}",
                f"{figures.cpu_s:.1f}",
                f"{figures.peak_mb:.0f}",
                f"{figures.steady_mb:.0f}",
                f"{ratios} (ready / peak / steady)",
            ]
        )
    return rows


def _probe(model: Path, load: str) -> list[float]:
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PROBE.format(load=load), str(model)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        text=True,
    )
    figures: list[float] = json.loads(finished.stdout.splitlines()[-1])
    return figures


# -- the measured models --------------------------------------------------------------------------


def _build(directory: Path, name: str) -> Path:
    """Build a model of full size whose checkpoint has the weights three times, as published."""
    import torch

    from stream.backends.emotion2vec import exported, quantized

    path = random_models.build(directory, name) / "model.pt"
    stored: dict[str, Any] = torch.load(path, weights_only=True)
    moments = [torch.zeros_like(weight) for weight in stored["model"].values()] * 2
    # Cloned, because torch stores a shared tensor only once.
    stored["last_optimizer_state"] = {"state": [moment.clone() for moment in moments]}
    torch.save(stored, path)
    exported.export(directory)
    quantized.quantize(Files.of(directory))
    return directory


def _print_table(rows: Sequence[Iterable[str]]) -> None:
    head, *body = rows
    cells = list(head)
    print(f"| {' | '.join(cells)} |\n|{'---|' * len(cells)}")
    for row in body:
        print(f"| {' | '.join(row)} |")
    print(flush=True)


if __name__ == "__main__":
    main()
