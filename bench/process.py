"""Server in a separate process, and the CPU and memory that it uses."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.request import urlopen

import psutil

ROOT = Path(__file__).resolve().parent.parent

CHECKOUT = Path(os.environ.get("BENCH_CHECKOUT", ROOT))
"""The checkout whose server is measured; another than this one for bench.compare."""


class Server:
    """Running `server.py` in a separate process, with its log in a temporary file."""

    def __init__(
        self,
        model: str,
        settings: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        allow_many_sockets()
        self._log = tempfile.NamedTemporaryFile("w+", suffix=".log")  # noqa: SIM115  # `close` ends it
        python = sys.executable if CHECKOUT == ROOT else str(CHECKOUT / ".venv/bin/python")
        command = [python, "server.py", "--model", model, "--port", "0"]
        for key, value in {"log.format": "json", **(settings or {})}.items():
            command += ["--set", f"{key}={value}"]
        began = time.monotonic()
        self._popen = subprocess.Popen(
            command, cwd=CHECKOUT, stderr=self._log, env={**os.environ, **(environ or {})}
        )
        self.process = psutil.Process(self._popen.pid)
        self.http = self._ready()
        self.ws = self.http.replace("http", "ws", 1)
        self.headers: Mapping[str, str] = {}
        """Headers of connections of the measured streams, with their key if there are keys."""
        self.start_s = time.monotonic() - began
        """Seconds from the start of the process to the log entry `ready`."""

    def _ready(self) -> str:
        while self._popen.poll() is None:
            for line in Path(self._log.name).read_text().splitlines():
                if '"event":"ready"' in line:
                    return str(json.loads(line)["url"]).rstrip("/")
            time.sleep(0.01)
        sys.exit(Path(self._log.name).read_text().strip())

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._popen.terminate()
        try:
            self._popen.wait(15)
        except subprocess.TimeoutExpired:
            self._popen.kill()
        self._log.close()

    def cpu_s(self) -> float:
        """Return the CPU seconds of all threads so far, with a resolution of 0.01 s."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def rss_mb(self) -> float:
        """Return the resident memory in MiB."""
        return float(self.process.memory_info().rss) / 2**20

    def metrics(self) -> dict[str, float]:
        """Return every series of /metrics by its name and labels."""
        with urlopen(f"{self.http}/metrics") as response:
            text = response.read().decode()
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


def allow_many_sockets() -> None:
    """Raise the soft limit of open files to the hard limit; the server inherits it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@dataclass(frozen=True, slots=True)
class Spread:
    """Change of a histogram between two samples; quantiles are upper bounds of buckets."""

    count: float
    mean: float
    p50: float
    p99: float


def spread(before: Mapping[str, float], after: Mapping[str, float], name: str) -> Spread:
    """Return the change of the histogram `name`; NaN without observations."""

    def growth(key: str) -> float:
        return after.get(key, 0.0) - before.get(key, 0.0)

    bounds = [
        (float(match[1]), growth(key))
        for key in after
        if (match := re.fullmatch(rf'{name}_bucket{{le="(.+)"}}', key))
    ]
    count = growth(f"{name}_count")

    def quantile(share: float) -> float:
        return next((le for le, n in bounds if n >= share * count), float("nan"))

    mean = growth(f"{name}_sum") / count if count else float("nan")
    return Spread(count, mean, quantile(0.5), quantile(0.99))


class Cpu:
    """CPU use since creation: of the server, of this process, and of all other processes."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._before = self._now()

    def _now(self) -> tuple[float, float, float, float]:
        machine = psutil.cpu_times()
        idle = machine.idle + getattr(machine, "iowait", 0.0)
        return self._server.cpu_s(), time.process_time(), sum(machine[:8]) - idle, time.monotonic()

    def shares(self) -> tuple[float, float, float]:
        """Return the used cores: server, load generator, all other processes together."""
        server, own, machine, now = (b - a for a, b in zip(self._before, self._now(), strict=True))
        return server / now, own / now, max(0.0, machine - server - own) / now
