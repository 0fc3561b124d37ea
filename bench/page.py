"""CPU and memory of the monitor page in Chromium with many live streams.

The streams are simulated; the hub, the subscriber's outbox, the WebSocket and the page are real.
Every stream has one score per second, in utterances of 5 s with their other events. CPU is that of
all of Chromium's processes, including drawing (headless, no GPU). Memory is the page's JavaScript
heap after a garbage collection, and its process. Chromium is queried only once a minute, because a
driver that observes the network doubles the cost of a message.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import shutil
import subprocess
import sys
import time
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

import psutil
from websockets.asyncio.client import connect

from bench.report import arguments, as_json, machine, print_text
from bench.stand_ins import null_backend
from bench.tables import table
from stream.config import Config
from stream.delivery.hub import Hub
from stream.delivery.live_stream import LiveStream
from stream.inference.engine import ThreadEngine
from stream.inference.scheduler import Scheduler
from stream.labels import LABELS
from stream.protocol.events import AnalysisEvents, EventEncoder, model_body
from stream.quotas import Quotas
from stream.server.access.auth import Authenticator
from stream.server.access.gate import Gate
from stream.server.endpoints.router import Route, Router
from stream.server.endpoints.routes import CONTROL_BYTES, SUBSCRIBE
from stream.server.endpoints.subscriber import Subscriber
from stream.server.http.application import Http
from stream.server.listener import Listener
from stream.server.process.lifecycle import Lifecycle
from stream.services import Services
from stream.telemetry.audit import AuditLog
from stream.telemetry.metrics import Metrics
from stream.types import (
    SAMPLE_RATE,
    Event,
    ModelInfo,
    Quality,
    Score,
    Segment,
    SpeechEnd,
    SpeechStart,
)

MODEL = ModelInfo("simulated", "1", LABELS, 320, (SAMPLE_RATE,), (1,), 1.0, "none", "none")
UTTERANCE_S = 5
INFO = {
    "name": "emotide",
    "version": "bench",
    "node": "bench",
    "model": model_body(MODEL),
    "privacy": {"analyse_roles": ["customer"], "audio_kept": False},
}
EXAMPLES = """\
  python -m bench.page                          200 streams, 10 minutes
  python -m bench.page --quick                  one minute
  python -m bench.page --streams 500 --minutes 2
  python -m bench.page --view '?wall#monitor'   the wall"""


class SimulatedStream:
    """Stream with randomly changing scores; `second` publishes the events of its next second."""

    def __init__(self, number: int) -> None:
        self._random = random.Random(number)
        self._weights = [self._random.random() ** 3 for _ in LABELS]
        self._bodies = AnalysisEvents(("customer",), MODEL)
        self._encoder = EventEncoder(f"ses_{number}", f"call-{number}")
        self._clock = self._utterance = 0
        self.live = LiveStream(
            stream_id=f"call-{number}",
            session_id=f"ses_{number}",
            roles=("customer",),
            analysed=(0,),
            tags=(f"queue:{number % 7}",),
            started=time.time(),
        )

    def second(self, hub: Hub) -> None:
        """Publish the events of the next second of audio."""
        start = self._clock
        self._clock += SAMPLE_RATE
        shares = self._next_shares()
        seconds = start // SAMPLE_RATE % UTTERANCE_S
        first = start - seconds * SAMPLE_RATE
        quality = Quality(-20.0, 0.0, 25.0, "wide", seconds + 1.0)
        rolling = {"10s": shares, "30s": shares, "call": shares}
        span = (0, self._utterance, first, self._clock)
        if seconds == 0:
            self._publish(hub, SpeechStart(0, self._utterance, start))
        self._publish(hub, Score(*span, "interval", 1.0, shares, rolling, quality, ()))
        if seconds == UTTERANCE_S - 1:
            self._publish(hub, SpeechEnd(0, self._utterance, first, self._clock, "speech_end"))
            self._publish(hub, Segment(*span, "speech_end", 1.0, shares, rolling, quality, ()))
            self._utterance += 1

    def _next_shares(self) -> dict[str, float]:
        steps = (self._random.uniform(0.8, 1.25) for _ in LABELS)
        self._weights = [min(4.0, w * s) for w, s in zip(self._weights, steps, strict=True)]
        total = sum(self._weights)
        return {name: round(w / total, 4) for name, w in zip(LABELS, self._weights, strict=True)}

    def _publish(self, hub: Hub, event: Event) -> None:
        live, encoded = self.live, self._encoder.encode(self._bodies.body(event, 60))
        live.remember(encoded)
        if isinstance(event, SpeechStart):
            live.speaking = frozenset({0})
        hub.publish(live, encoded)


class Simulation:
    """Page and `/v1/subscribe` of a server with simulated streams."""

    def __init__(self, streams: int) -> None:
        self.streams = [SimulatedStream(number) for number in range(streams)]
        config, metrics, lifecycle = Config(), Metrics("bench"), Lifecycle()
        self.hub = Hub()
        engine = ThreadEngine(null_backend, 1)
        services = Services(
            config, MODEL, Scheduler(engine, 0.0, 10.0), self.hub, metrics, AuditLog(None)
        )
        server = config.server.model_copy(update={"port": 0})
        gate = Gate(server, Authenticator([]), metrics, {SUBSCRIBE})
        router = Router(gate, lifecycle, Quotas())
        router.routes[SUBSCRIBE] = Route(
            "subscribe",
            lambda query, principal: None,
            lambda request: Subscriber(request.connection, services),
            CONTROL_BYTES,
        )
        documents = {"/v1/info": lambda: (HTTPStatus.OK, INFO)}
        http = Http(gate, documents, self.hub, bytes, None, 1)
        self.listener = Listener(server, http.app(), router, CONTROL_BYTES, 1_000)
        lifecycle.serve()

    async def play(self) -> None:
        """Run one second of each stream per second, evenly spaced."""
        for stream in self.streams:
            self.hub.opened(stream.live)
        start = time.monotonic()
        for tick in itertools.count():
            for number, stream in enumerate(self.streams):
                due = start + tick + number / len(self.streams)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                stream.second(self.hub)


class Chromium:
    """Headless Chromium with one page: its CPU and memory, and the page's own figures."""

    def __init__(self, profile: Path, address: str, *more: str) -> None:
        executable = shutil.which("chromium")
        if executable is None:
            sys.exit("bench.page requires Chromium: apt-get install chromium")
        self._profile = profile
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        debugging = [f"--user-data-dir={profile}", "--remote-debugging-port=0"]
        window = "--window-size=1280,900"
        command = [executable, *flags, *quiet, *debugging, window, *more, address]
        null = subprocess.DEVNULL
        self._popen = subprocess.Popen(command, stdout=null, stderr=null)
        self._last: dict[int, float] = {}

    async def call(self, *methods: str) -> list[Any]:
        """Return the results of DevTools methods, each "NAME" or "NAME EXPRESSION"."""
        results = []
        address = await asyncio.to_thread(self._devtools)
        async with connect(address, max_size=None, proxy=None) as socket:
            for number, method in enumerate(methods):
                name, _, expression = method.partition(" ")
                params = {"expression": expression} if expression else {}
                await socket.send(json.dumps({"id": number, "method": name, "params": params}))
                while (response := json.loads(await socket.recv())).get("id") != number:
                    pass
                results.append(response["result"])
        return results

    def _devtools(self) -> str:
        port = (self._profile / "DevToolsActivePort").read_text().split()[0]
        with urlopen(f"http://127.0.0.1:{port}/json/list") as response:
            target = next(t for t in json.load(response) if t["type"] == "page")
        return str(target["webSocketDebuggerUrl"])

    async def rows(self) -> int:
        """Return the number of streams, tiles or panels on the page."""
        method = "Runtime.evaluate document.querySelectorAll('.stream, .tile, .panel').length"
        try:
            return int((await self.call(method))[0]["result"]["value"])
        except (OSError, StopIteration):
            return 0

    async def heap(self) -> tuple[float, int]:
        """Return the JavaScript heap in MiB after a garbage collection, and the DOM nodes."""
        methods = ("Performance.enable", "HeapProfiler.collectGarbage", "Performance.getMetrics")
        metrics = (await self.call(*methods))[-1]["metrics"]
        values = {metric["name"]: metric["value"] for metric in metrics}
        return values["JSHeapUsedSize"] / 2**20, int(values["Nodes"])

    def cpu_s(self) -> tuple[float, float]:
        """Return the CPU seconds so far of all processes, and of the page's process."""
        for process in self._processes():
            # Chromium ends its spare process at some point; its CPU time stays counted.
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                self._last[process.pid] = float(times.user + times.system)
        return sum(self._last.values()), self._last[self._renderer().pid]

    def rss_mb(self) -> float:
        """Return the resident memory of the page's process in MiB."""
        return float(self._renderer().memory_info().rss) / 2**20

    def close(self) -> None:
        self._popen.terminate()
        self._popen.wait(20)

    def _processes(self) -> list[psutil.Process]:
        own = psutil.Process(self._popen.pid)
        return [own, *own.children(recursive=True)]

    def _renderer(self) -> psutil.Process:
        pages = []
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "--type=renderer" in process.cmdline():
                    pages.append((process.memory_info().rss, process.pid, process))
        return max(pages)[2]


async def measure(chromium: Chromium, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Return a row of figures for each round of `seconds`."""
    rows = []
    for number in range(rounds):
        before, began = chromium.cpu_s(), time.monotonic()
        await asyncio.sleep(seconds)
        after, elapsed = chromium.cpu_s(), time.monotonic() - began
        used, nodes = await chromium.heap()
        rows.append(
            {
                "until s": round((number + 1) * seconds),
                "CPU all": (after[0] - before[0]) / elapsed,
                "CPU page": (after[1] - before[1]) / elapsed,
                "heap MB": used,
                "page MB": chromium.rss_mb(),
                "DOM nodes": nodes,
            }
        )
    return rows


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Serve the simulation, open the page in Chromium, and measure."""
    simulation = Simulation(options.streams)
    await simulation.listener.open()
    playing = asyncio.create_task(simulation.play())
    address = f"http://127.0.0.1:{simulation.listener.port}/{options.view}"
    with TemporaryDirectory() as profile:
        chromium = Chromium(Path(profile), address)
        try:
            for _ in range(60):
                await asyncio.sleep(0.5)
                if await chromium.rows():
                    break
            else:
                sys.exit("the page shows no streams")
            # The first seconds contain loading and compiling.
            await asyncio.sleep(10)
            return await measure(chromium, 60, 1 if options.quick else options.minutes)
        finally:
            playing.cancel()
            chromium.close()
            await simulation.listener.close()


def main() -> None:
    assert __doc__
    parser = arguments(__doc__, EXAMPLES)
    parser.add_argument("--streams", type=int, default=200, metavar="N", help="default: 200")
    parser.add_argument("--minutes", type=int, default=10, metavar="N", help="default: 10")
    parser.add_argument(
        "--view", default="#monitor", metavar="URL", help="default: #monitor; or #monitor/call-3"
    )
    options = parser.parse_args()
    print_text(
        options,
        machine(),
        f"{options.streams} streams, one score per second each, {options.view}",
        "",
    )
    rows = asyncio.run(run(options))
    if options.json:
        print(as_json(rows))
    else:
        print(table(list(rows[0]), [list(row.values()) for row in rows]))


if __name__ == "__main__":
    main()
