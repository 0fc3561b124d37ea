"""Cost of the history's writer: CPU and memory under live streams, beside a process without it.

N streams of two voices are played in real time: a score a second and voice, an utterance every 5 s,
the conversation every 5 s. Calls last `--call` seconds on average, and a new one follows each. Only
the sink gets the events: what is measured is the history alone, with its thread, its database, its
spool and the copies of live streams. The CPU is that of the sink's calls on the event loop and that
of the writer's thread, measured by the clocks of the threads.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil

from bench.report import arguments, as_json, machine, print_text
from bench.tables import table
from stream.config import Config
from stream.delivery.group_sink import GroupSink
from stream.delivery.live_stream import LiveStream
from stream.delivery.sink import Sink
from stream.protocol.events import EncodedEvent, encode
from stream.telemetry.audit import AuditLog
from stream.telemetry.metrics import Metrics

EXAMPLES: Final = """\
  python -m bench.history_writer                         200 streams for 2 minutes, SQLite
  python -m bench.history_writer --quick
  python -m bench.history_writer --url postgresql://emotide@127.0.0.1/bench"""

SHARES: Final = {
    "angry": 0.1312,
    "happy": 0.2241,
    "neutral": 0.4523,
    "sad": 0.1402,
    "other": 0.0522,
}
BASELINE: Final = {"speech_s": 31.2, "weight": 0.31, "scores": SHARES, "activation": 0.4}
MIGRATE: Final = """
import sys
from stream.history.storage.connect import open_engine, upgrade
upgrade(open_engine(sys.argv[1]))
"""
MODEL: Final = {"id": "emotide-embedded-4", "revision": "1", "licence": "MIT"}


class Call:
    """One live stream, and its events as time passes."""

    def __init__(self, sink: Sink, number: int, length_s: float, begun_s: float) -> None:
        self._sink = sink
        self._stream = LiveStream(
            stream_id=f"call-{number}",
            session_id=f"ses_{number}",
            roles=("customer", "agent"),
            analysed=(0, 1),
            tags=("queue:billing",),
            started=time.time(),
        )
        self._seq = 0
        self._spent_s = 0.0
        self.length_s, self.age_s = length_s, 0.0
        self._call(lambda: sink.opened(self._stream))
        self._send({"type": "session.created", "session": {"analysis": {"model": MODEL}}})
        while self.age_s < begun_s:
            self.tick()
        self._spent_s = 0.0

    def tick(self) -> None:
        """Advance by a second."""
        self.age_s += 1
        at = int(self.age_s) * 1000
        emotion = {
            "scores": SHARES,
            "rolling": {"10s": SHARES, "30s": SHARES, "call": SHARES},
            "activation": 0.4321,
            "quality": {
                "rms_dbfs": -21.3,
                "clipped": 0.0,
                "snr_db": 22.1,
                "band": "narrow",
                "speech_s": 3.0,
            },
            "hints": ["narrowband"],
            "baseline": BASELINE,
            "audio_end_ms": at,
        }
        for channel in (0, 1):
            where = {"channel": channel, "role": self._stream.roles[channel]}
            number = int(self.age_s) // 5
            said = {**where, **emotion, "utterance": number, "audio_start_ms": at - 3_000}
            self._send({"type": "emotion.score", **said})
            if int(self.age_s) % 5 == 2 * channel:
                self._send({"type": "emotion.segment", **said})

    def end(self) -> None:
        """Close the stream as a session does."""
        at = round(self.age_s * 1000)
        side = {"scores": SHARES, "activation": 0.4, "speech_ms": at // 2}
        summary = [
            {"channel": channel, "role": role, **side}
            for channel, role in enumerate(self._stream.roles)
        ]
        totals = {"audio_ms": at, "speech_ms": at}
        self._send(
            {"type": "session.closed", "reason": "completed", "totals": totals, "summary": summary}
        )
        self._call(lambda: self._sink.closed(self._stream))

    def spent_s(self) -> float:
        """Return the CPU time of the sink's calls since the last question."""
        spent, self._spent_s = self._spent_s, 0.0
        return spent

    def _send(self, body: dict[str, Any]) -> None:
        event: EncodedEvent = encode(body, self._seq, "ses", self._stream.stream_id, time.time())
        self._seq += 1
        self._call(lambda: self._sink.event(self._stream, event))

    def _call(self, call: Callable[[], None]) -> None:
        began = time.thread_time()
        call()
        self._spent_s += time.thread_time() - began


async def play(sink: Sink, options: argparse.Namespace, chance: random.Random) -> tuple[float, int]:
    """Play the streams; return the CPU seconds of the sink's calls, and the calls that ended."""
    numbers = iter(range(10**9))

    def new(begun: float) -> Call:
        length_s = max(10.0, chance.expovariate(1 / options.call))
        return Call(sink, next(numbers), length_s, begun * length_s)

    calls = [new(chance.random()) for _ in range(options.streams)]
    spent_s, ended = 0.0, 0
    began = time.monotonic()
    for second in range(options.seconds):
        for index, call in enumerate(calls):
            # Spread over the second, as streams are.
            due = began + second + index / len(calls)
            if due > time.monotonic():
                await asyncio.sleep(due - time.monotonic())
            call.tick()
            if call.age_s >= call.length_s:
                call.end()
                spent_s += call.spent_s()
                calls[index] = new(0.0)
                ended += 1
            spent_s += call.spent_s()
    return spent_s, ended


async def measure(options: argparse.Namespace, url: str, folder: Path) -> dict[str, Any]:
    """Return the figures of one run."""
    # What the load itself needs is not the history's.
    await play(
        GroupSink(3), argparse.Namespace(**(vars(options) | {"seconds": 3})), random.Random(1)
    )
    process = psutil.Process()
    rss = process.memory_info().rss
    from stream.history.service import History

    history_config = {"url": url, "spool": folder / "spool"}
    config = Config.model_validate({"history": history_config, "privacy": {"hash_key": "bench"}})
    history = History(config, Metrics("bench"), AuditLog(None))
    await asyncio.to_thread(history.open)
    loaded = process.memory_info().rss
    thread = history._writer._thread
    assert thread.ident is not None
    clock = time.pthread_getcpuclockid(thread.ident)
    running = asyncio.create_task(history.sink.run())
    gc.collect()
    before, began = time.clock_gettime(clock), time.monotonic()
    spent_s, ended = await play(history.sink, options, random.Random(1))
    took_s = time.monotonic() - began
    writer_s = time.clock_gettime(clock) - before
    waiting = history._writer.waiting
    full = process.memory_info().rss
    held = history.sink._bytes
    await history.sink.stop(30.0)
    await running
    percent = 100 / took_s
    return {
        "streams": options.streams,
        "seconds": round(took_s),
        "sessions ended": ended,
        "event loop, % of a core": spent_s * percent,
        "thread, % of a core": writer_s * percent,
        "together, %": (spent_s + writer_s) * percent,
        "MB of libraries": (loaded - rss) / 1e6,
        "MB of streams and writer": (full - loaded) / 1e6,
        "kB of live streams": held / 1e3,
        "waiting": waiting,
    }


def main() -> None:
    """Print the cost of the history beside its streams."""
    parser = arguments(__doc__ or "", EXAMPLES)
    parser.add_argument("--streams", type=int, default=200, help="default: 200")
    parser.add_argument("--seconds", type=int, default=120, help="default: 120")
    parser.add_argument("--call", type=float, default=300.0, help="mean seconds of a call")
    parser.add_argument("--url", default="", help="database; default: SQLite in a scratch folder")
    options = parser.parse_args()
    if options.quick:
        options.seconds = 20
    with tempfile.TemporaryDirectory() as folder:
        url = options.url or f"sqlite:///{folder}/history.db"
        # In a process of its own: a server migrates at the first start after an update only.
        subprocess.run([sys.executable, "-c", MIGRATE, url], check=True)
        row = asyncio.run(measure(options, url, Path(folder)))
    print_text(options, machine(), "", table([*row], [[*row.values()]]))
    if options.json:
        print(as_json(row))


if __name__ == "__main__":
    main()
