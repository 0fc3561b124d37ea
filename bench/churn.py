"""Start time, memory per stream, and growth of memory, files and threads over many sessions.

  start    from the start of the process to the log entry `ready`
  streams  resident memory with N continuous streams; silence first, then speech, because speech
           produces windows, scores and the events of the replay buffer
  churn    short sessions for --minutes: most are closed, some only lose their connection; memory,
           open files and threads over time with their slope over the second half

The churn runs with limits.resume_s = 5, so that detached sessions expire during the run.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections.abc import Sequence

import numpy as np

from bench.load import Load, Producer, make_producers
from bench.process import Server
from bench.report import arguments, as_json, machine, print_text
from bench.speech import Wire, frames, recordings
from bench.tables import table

ABORT_EVERY = 7
"""Every seventh session aborts its connection instead of closing."""
SESSION_S = 3.0
CLOSE_S = 15.0
"""A session that has not ended after this time counts as stuck; the server's limit is 5 s."""

RESUME_S = 5

EXAMPLES = """\
  python -m bench.churn                  one minute of churn
  python -m bench.churn --minutes 10     as for a release
  python -m bench.churn --quick          20 seconds of churn, few streams
  python -m bench.churn --streams        the churn only
  python -m bench.churn --hold 120       memory of streams after two minutes"""

Rows = list[list[object]]


async def streams(options: argparse.Namespace, recorded: Sequence[Sequence[bytes]]) -> Rows:
    """Return the resident memory at each number of streams, each on a new server."""
    rows: Rows = []
    with Server(options.backend) as server:
        empty = server.rss_mb()
    for count in options.streams:
        with Server(options.backend) as server:
            before = server.rss_mb()
            load = Load(server, make_producers(count, recorded), Wire(chunk_ms=100))
            await load.start()
            await asyncio.sleep(options.hold)
            rss = server.rss_mb()
            rows.append([count, rss, (rss - before) / max(1, count), before - empty])
            await load.stop()
    return rows


async def churn(options: argparse.Namespace, recorded: Sequence[Sequence[bytes]]) -> Rows:
    """Run short sessions for `minutes`; return a row of figures for each twelfth of the time."""
    rows: Rows = []
    wire = Wire(chunk_ms=100)
    numbers = itertools.count()
    stuck: list[str] = []
    done = 0

    def add_row() -> None:
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
            if number % ABORT_EVERY == 0:
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
            add_row()
        await asyncio.gather(*visitors)
        await asyncio.sleep(RESUME_S + 2)
        add_row()
    return rows


def slopes(rows: Rows) -> Rows:
    """Return the growth per hour and per 1000 sessions over the second half (least squares)."""
    half = np.array(rows[len(rows) // 2 : -1], float)
    seconds, sessions, *series = half.T
    return [
        [name, *(round(np.polyfit(x, values, 1)[0], 2) for x in (seconds / 3600, sessions / 1000))]
        for name, values in zip(("rss_mb", "fds", "threads"), series, strict=False)
    ]


async def main(options: argparse.Namespace) -> None:
    if options.quick:
        options.minutes, options.hold, options.streams = 1 / 3, 8, [0, 20]
    print_text(options, machine(), options.backend, "")
    with Server(options.backend) as server:
        start_s, rss = server.start_s, server.rss_mb()
    print_text(options, f"ready after {start_s:.2f} s with {rss:.0f} MB", "")
    wire = Wire(chunk_ms=100)
    speech_pcm = recordings(wire.sample_rate)
    speech = [frames(wire.chunks(pcm)) for pcm in speech_pcm]
    silence = [frames(wire.chunks(np.zeros_like(speech_pcm[0])))]
    by_stream = {}
    for kind, recorded in (("silence", silence), ("speech", speech)) if options.streams else ():
        by_stream[kind] = await streams(options, recorded)
        print_text(options, f"Streams of {kind}, after {options.hold:g} s:", "")
        head = ["streams", "rss_mb", "mb_per_stream", "start_differs_mb"]
        print_text(options, table(head, by_stream[kind]), "")
    rows = await churn(options, speech)
    growth = slopes(rows)
    if options.json:
        figures = {"start_s": start_s, "rss_mb": rss, "streams": by_stream, "churn": rows}
        print(as_json({**figures, "slopes": growth}))
        return
    print_text(options, f"{options.visitors} sessions at a time, {SESSION_S:g} s each:", "")
    print(table(["seconds", "sessions", "rss_mb", "fds", "threads", "stuck"], rows))
    print("\nThe last row is after all sessions have ended. Slopes over the second half:\n")
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
        help="streams of each step; without a value: skip",
    )
    asyncio.run(main(parser.parse_args()))
