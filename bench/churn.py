"""Start, memory per stream, and whether anything grows while sessions come and go.

  start    from the start of the process to the line that says it is ready
  streams  resident memory with N streams that play on; silence first, then speech, because
           speech brings windows, scores and the events that are kept for resuming
  churn    short sessions for --minutes: most end properly, some just vanish; memory, open files
           and threads over time with their slope over the second half

The churn runs with limits.resume_s = 5, so that vanished sessions are forgotten within the run.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections.abc import Sequence

import numpy as np

from bench.load import Load, Producer, cast
from bench.process import Server
from bench.report import arguments, as_json, machine, say
from bench.speech import Wire, frames, recordings
from bench.tables import table

VANISH_EVERY = 7
SESSION_S = 3.0
CLOSE_S = 15.0
"""A session that has not ended by then is counted as stuck; the server allows itself 5 s."""

RESUME_S = 5

EXAMPLES = """\
  python -m bench.churn                  a minute of churn
  python -m bench.churn --minutes 10     what a release is measured with
  python -m bench.churn --quick          20 seconds of churn, few streams
  python -m bench.churn --streams        the churn alone
  python -m bench.churn --hold 120       streams that have talked for two minutes"""

Rows = list[list[object]]


async def streams(options: argparse.Namespace, recorded: Sequence[Sequence[bytes]]) -> Rows:
    """Resident memory at each number of streams, on one server each."""
    rows: Rows = []
    with Server(options.backend) as server:
        empty = server.rss_mb()
    for count in options.streams:
        with Server(options.backend) as server:
            before = server.rss_mb()
            load = Load(server, cast(count, recorded), Wire(chunk_ms=100))
            await load.start()
            await asyncio.sleep(options.hold)
            rss = server.rss_mb()
            rows.append([count, rss, (rss - before) / max(1, count), before - empty])
            await load.stop()
    return rows


async def churn(options: argparse.Namespace, recorded: Sequence[Sequence[bytes]]) -> Rows:
    """Come and go for a while; a row of figures every few seconds."""
    rows: Rows = []
    wire = Wire(chunk_ms=100)
    numbers = itertools.count()
    stuck: list[str] = []
    done = 0

    def look() -> None:
        process, now = server.process, time.monotonic() - start
        files, threads = process.num_fds(), process.num_threads()
        rows.append([now, done, server.rss_mb(), files, threads, len(stuck)])

    async def visit(stop_at: float) -> None:
        nonlocal done
        while time.monotonic() < stop_at:
            number = next(numbers)
            recording = recorded[number % len(recorded)]
            producer = Producer(f"visit-{number}", recording, number * 37)
            await producer.open(server, wire)
            for _ in range(int(SESSION_S / wire.chunk_s)):
                producer.send()
                await asyncio.sleep(wire.chunk_s)
            if number % VANISH_EVERY == 0:
                producer.socket.transport.abort()
            try:
                await asyncio.wait_for(producer.close(), CLOSE_S)
            except TimeoutError:
                stuck.append(producer.name)
            done += 1

    with Server(options.backend, {"limits.resume_s": RESUME_S}) as server:
        start = time.monotonic()
        stop_at = start + options.minutes * 60
        visitors = [asyncio.create_task(visit(stop_at)) for _ in range(options.visitors)]
        every = options.minutes * 60 / 12
        for tick in range(13):
            await asyncio.sleep(max(0.0, start + tick * every - time.monotonic()))
            look()
        await asyncio.gather(*visitors)
        await asyncio.sleep(RESUME_S + 2)
        look()
    return rows


def slopes(rows: Rows) -> Rows:
    """Growth an hour and per thousand sessions over the second half, by least squares."""
    half = np.array(rows[len(rows) // 2 : -1], float)
    seconds, sessions, *series = half.T
    return [
        [name, *(round(np.polyfit(x, values, 1)[0], 2) for x in (seconds / 3600, sessions / 1000))]
        for name, values in zip(("rss_mb", "fds", "threads"), series, strict=False)
    ]


async def main(options: argparse.Namespace) -> None:
    if options.quick:
        options.minutes, options.hold, options.streams = 1 / 3, 8, [0, 20]
    say(options, machine(), options.backend, "")
    with Server(options.backend) as server:
        start_s, rss = server.start_s, server.rss_mb()
    say(options, f"ready after {start_s:.2f} s with {rss:.0f} MB", "")
    wire = Wire(chunk_ms=100)
    voices = recordings(wire.sample_rate)
    speech = [frames(wire.chunks(pcm)) for pcm in voices]
    quiet = [frames(wire.chunks(np.zeros_like(voices[0])))]
    by_stream = {}
    for kind, recorded in (("silence", quiet), ("speech", speech)) if options.streams else ():
        by_stream[kind] = await streams(options, recorded)
        say(options, f"Streams that play {kind}, after {options.hold:g} s:", "")
        head = ["streams", "rss_mb", "mb_per_stream", "start_differs_mb"]
        say(options, table(head, by_stream[kind]), "")
    rows = await churn(options, speech)
    growth = slopes(rows)
    if options.json:
        figures = {"start_s": start_s, "rss_mb": rss, "streams": by_stream, "churn": rows}
        print(as_json({**figures, "slopes": growth}))
        return
    say(options, f"{options.visitors} visitors at a time, {SESSION_S:g} s each:", "")
    print(table(["seconds", "sessions", "rss_mb", "fds", "threads", "stuck"], rows))
    print("\nThe last row is after all have left. Slopes over the second half:\n")
    print(table(["series", "per_hour", "per_1000_sessions"], growth))


if __name__ == "__main__":
    parser = arguments(__doc__ or "", EXAMPLES)
    parser.add_argument("--backend", default="embedded", help="the server's --model")
    parser.add_argument("--minutes", type=float, default=1.0, help="of churn (default: 1)")
    parser.add_argument("--visitors", type=int, default=20, help="sessions at a time (default: 20)")
    parser.add_argument("--hold", type=float, default=15.0, help="seconds before memory is read")
    parser.add_argument(
        "--streams",
        type=int,
        nargs="*",
        metavar="N",
        default=[0, 50, 100, 200],
        help="the steps; none: skip them",
    )
    asyncio.run(main(parser.parse_args()))
