"""Device, software versions, and the rates of a matrix product and of a copy."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable

import torch

from bench.gpu.part import Context

SIZES = {"cuda": 8192, "cpu": 1024}
PEAK = "bf16 matrix peak, TFLOP/s"
TABLE = "Device"


def run(context: Context) -> None:
    """Emit device, driver, versions, memory, and the measured bfloat16 matrix peak."""

    def fact(name: str, value: object) -> None:
        context.emit(TABLE, fact=name, value=value)

    fact("Python", platform.python_version())
    fact("torch", torch.__version__)
    fact("CPU cores", os.cpu_count())
    if context.on_cpu:
        fact("device", platform.processor() or platform.machine())
    else:
        properties = torch.cuda.get_device_properties(context.device)
        fact("device", properties.name)
        fact("compute capability", f"{properties.major}.{properties.minor}")
        fact("multiprocessors", properties.multi_processor_count)
        fact("memory, GB", round(properties.total_memory / 1e9, 1))
        fact("devices", torch.cuda.device_count())
        fact("CUDA", torch.version.cuda)
        fact("cuDNN", torch.backends.cudnn.version())
        fact("driver", _driver())
    fact(PEAK, round(matrix_peak(context.device) / 1e12, 2))
    rate = copy_rate(context.device)
    fact("host to device, pinned, GB/s", round(rate / 1e9, 1))


def matrix_peak(device: str) -> float:
    """Return FLOP/s of a square bfloat16 product of random matrices, the best of six."""
    size = SIZES[device.partition(":")[0]]
    left, right = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        seconds = timed(lambda: torch.mm(left, right), device)
        best = min(best, seconds)
    return 2 * size**3 / best


def copy_rate(device: str) -> float:
    """Return bytes per second of a copy of 64 MB from pinned memory."""
    pinned = torch.empty(16 << 20, pin_memory=device != "cpu")
    target = torch.empty(16 << 20, device=device)
    best = min(timed(lambda: target.copy_(pinned, non_blocking=True), device) for _ in range(5))
    return 4 * (16 << 20) / best


def timed(call: Callable[[], object], device: str) -> float:
    """Return the seconds of one call; a CUDA device measures them with events."""
    if device == "cpu":
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def _driver() -> str:
    try:
        finished = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({type(error).__name__})"
    return finished.stdout.splitlines()[0].strip()
