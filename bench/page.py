"""What the monitor page costs in a real Chromium: CPU and memory with many live streams.

The streams are simulated, and everything behind them is real: the hub, the subscriber's queue, the
WebSocket, the page. Every stream has one score a second, all the time, in utterances of 5 s with
their other events. CPU is that of all of Chromium's processes, drawing included (headless, no GPU);
memory is the page's JavaScript heap after a garbage collection, and its process. Chromium is asked
only once a minute: a driver that watches the network doubles what a message costs.
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
from urllib.parse import urlsplit
from urllib.request import urlopen

import psutil
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from bench.report import arguments, as_json, machine, say
from bench.tables import table
from stream.config import Config
from stream.delivery.hub import Hub
from stream.delivery.live_stream import LiveStream
from stream.labels import LABELS
from stream.protocol.events import EventEncoder, encode, model_body
from stream.protocol.parsing import SUBPROTOCOL
from stream.server.pages import Pages
from stream.server.subscriber import Subscriber
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
EXAMPLES = """\
  python -m bench.page                          200 streams, 10 minutes
  python -m bench.page --quick                  one minute
  python -m bench.page --streams 500 --minutes 2"""


class Talker:
    """One stream whose mood wanders; `second()` gives what happens in the next second."""

    def __init__(self, number: int) -> None:
        self._random = random.Random(number)
        self._weights = [self._random.random() ** 3 for _ in LABELS]
        self._voice = EventEncoder(("customer",), MODEL)
        self._clock = self._utterance = self._seq = 0
        self.live = LiveStream(
            stream_id=f"call-{number}",
            session_id=f"ses_{number}",
            roles=("customer",),
            analysed=(0,),
            tags=(f"queue:{number % 7}",),
            started=time.time(),
        )

    def second(self, hub: Hub) -> None:
        start = self._clock
        self._clock += SAMPLE_RATE
        shares = self._wander()
        seconds = start // SAMPLE_RATE % UTTERANCE_S
        first = start - seconds * SAMPLE_RATE
        quality = Quality(-20.0, 0.0, 25.0, "wide", seconds + 1.0)
        rolling = {"10s": shares, "30s": shares, "call": shares}
        heard = (0, self._utterance, first, self._clock)
        if seconds == 0:
            self._tell(hub, SpeechStart(0, self._utterance, start))
        self._tell(hub, Score(*heard, "interval", 1.0, shares, rolling, quality, ()))
        if seconds == UTTERANCE_S - 1:
            self._tell(hub, SpeechEnd(0, self._utterance, first, self._clock, "speech_end"))
            self._tell(hub, Segment(*heard, "speech_end", 1.0, shares, rolling, quality, ()))
            self._utterance += 1

    def _wander(self) -> dict[str, float]:
        steps = (self._random.uniform(0.8, 1.25) for _ in LABELS)
        self._weights = [min(4.0, w * s) for w, s in zip(self._weights, steps, strict=True)]
        total = sum(self._weights)
        return {name: round(w / total, 4) for name, w in zip(LABELS, self._weights, strict=True)}

    def _tell(self, hub: Hub, event: Event) -> None:
        body = self._voice.body(event, 60)
        live = self.live
        sealed = encode(body, self._seq, live.session_id, live.stream_id, time.time())
        self._seq += 1
        live.remember(sealed, 1000, 90.0)
        if isinstance(event, SpeechStart):
            live.speaking = frozenset({0})
        hub.publish(live, sealed)


class Simulation:
    """The page and `/v1/subscribe` of a server whose streams are made up."""

    def __init__(self, streams: int) -> None:
        self.hub = Hub()
        self.talkers = [Talker(number) for number in range(streams)]
        self._config = Config()
        self._metrics = Metrics("bench")
        self._audit = AuditLog(None)
        info = {
            "name": "emotide",
            "version": "bench",
            "node": "bench",
            "model": model_body(MODEL),
            "privacy": {"analyse_roles": ["customer"], "audio_kept": False},
        }
        self._pages = Pages({"/v1/info": lambda: (HTTPStatus.OK, info)}, lambda _: None, bytes)

    def route(self, _: ServerConnection, request: Request) -> Response | None:
        if urlsplit(request.path).path == "/v1/subscribe":
            return None
        return self._pages.answer(request)

    async def subscriber(self, socket: ServerConnection) -> None:
        limits = self._config.limits
        await Subscriber(socket, limits, self.hub, self._metrics, self._audit).run()

    async def talk(self) -> None:
        """One second of each stream a second, evenly spread."""
        for talker in self.talkers:
            self.hub.opened(talker.live)
        start = time.monotonic()
        for tick in itertools.count():
            for number, talker in enumerate(self.talkers):
                due = start + tick + number / len(self.talkers)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                talker.second(self.hub)


class Chromium:
    """A headless Chromium on one page, its CPU and memory, and the page's own figures."""

    def __init__(self, profile: Path, address: str) -> None:
        executable = shutil.which("chromium")
        if executable is None:
            sys.exit("this bench needs Chromium: apt-get install chromium")
        self._profile = profile
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        place = [f"--user-data-dir={profile}", "--remote-debugging-port=0"]
        command = [executable, *flags, *quiet, *place, "--window-size=1280,900", address]
        null = subprocess.DEVNULL
        self._popen = subprocess.Popen(command, stdout=null, stderr=null)
        self._last: dict[int, float] = {}

    async def ask(self, *methods: str) -> list[Any]:
        """Answers of the page's DevTools."""
        answers = []
        address = await asyncio.to_thread(self._devtools)
        async with connect(address, max_size=None, proxy=None) as socket:
            for number, method in enumerate(methods):
                name, _, expression = method.partition(" ")
                params = {"expression": expression} if expression else {}
                await socket.send(json.dumps({"id": number, "method": name, "params": params}))
                while (answer := json.loads(await socket.recv())).get("id") != number:
                    pass
                answers.append(answer["result"])
        return answers

    def _devtools(self) -> str:
        port = (self._profile / "DevToolsActivePort").read_text().split()[0]
        with urlopen(f"http://127.0.0.1:{port}/json/list") as response:
            target = next(t for t in json.load(response) if t["type"] == "page")
        return str(target["webSocketDebuggerUrl"])

    async def rows(self) -> int:
        """Streams or panels that are shown."""
        asked = "Runtime.evaluate document.querySelectorAll('.stream, .detail .panel').length"
        try:
            return int((await self.ask(asked))[0]["result"]["value"])
        except (OSError, StopIteration):
            return 0

    async def heap(self) -> tuple[float, int]:
        """MB of JavaScript heap in use after a collection, and DOM nodes."""
        asked = ("Performance.enable", "HeapProfiler.collectGarbage", "Performance.getMetrics")
        told = (await self.ask(*asked))[-1]
        values = {metric["name"]: metric["value"] for metric in told["metrics"]}
        return values["JSHeapUsedSize"] / 2**20, int(values["Nodes"])

    def cpu_s(self) -> tuple[float, float]:
        """Of all processes so far, and of the page's own."""
        for process in self._processes():
            # Chromium keeps a spare process and lets it go; what it used stays counted.
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                self._last[process.pid] = float(times.user + times.system)
        return sum(self._last.values()), self._last[self._renderer().pid]

    def rss_mb(self) -> float:
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
    rows = []
    for number in range(rounds):
        before, began = chromium.cpu_s(), time.monotonic()
        await asyncio.sleep(seconds)
        after, took = chromium.cpu_s(), time.monotonic() - began
        used, nodes = await chromium.heap()
        rows.append(
            {
                "until s": round((number + 1) * seconds),
                "CPU all": (after[0] - before[0]) / took,
                "CPU page": (after[1] - before[1]) / took,
                "heap MB": used,
                "page MB": chromium.rss_mb(),
                "DOM nodes": nodes,
            }
        )
    return rows


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    simulation = Simulation(options.streams)
    async with serve(
        simulation.subscriber,
        "127.0.0.1",
        0,
        process_request=simulation.route,
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        compression=None,
    ) as server:
        talking = asyncio.create_task(simulation.talk())
        port = next(iter(server.sockets)).getsockname()[1]
        with TemporaryDirectory() as profile:
            chromium = Chromium(Path(profile), f"http://127.0.0.1:{port}/{options.view}")
            try:
                for _ in range(60):
                    await asyncio.sleep(0.5)
                    if await chromium.rows():
                        break
                else:
                    sys.exit("the page shows no streams")
                # The first seconds are loading and compiling.
                await asyncio.sleep(10)
                return await measure(chromium, 60, 1 if options.quick else options.minutes)
            finally:
                talking.cancel()
                chromium.close()


def main() -> None:
    assert __doc__
    parser = arguments(__doc__, EXAMPLES)
    parser.add_argument("--streams", type=int, default=200, metavar="N", help="default: 200")
    parser.add_argument("--minutes", type=int, default=10, metavar="N", help="default: 10")
    parser.add_argument(
        "--view", default="#monitor", metavar="HASH", help="default: #monitor; or #monitor/call-3"
    )
    options = parser.parse_args()
    say(
        options,
        machine(),
        f"{options.streams} streams, one score a second each, {options.view}",
        "",
    )
    rows = asyncio.run(run(options))
    if options.json:
        print(as_json(rows))
    else:
        print(table(list(rows[0]), [list(row.values()) for row in rows]))


if __name__ == "__main__":
    main()
