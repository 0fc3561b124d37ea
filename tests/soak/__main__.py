"""Faults that need minutes: each row loads a server of its own, and its vitals must stay flat.

  make soak                              40 minutes
  SOAK_MINUTES=8 make soak               every row, a fifth of the time each
  python -m tests.soak churn silence     these rows

Judged are the slope of the memory over the second half, descriptors, threads and tasks against the
state before, the server's log (no error that the row does not provoke), and what each row itself
promises. docs/reliability.md lists the promises.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import psutil

from bench.process import allow_many_sockets
from bench.tables import table
from tests.soak.rows import Row, brokers, rows
from tests.soak.vitals import Vitals, per_hour, problems
from tests.support.running import Server, running_server

FULL_MINUTES = 40
"""Sum of the shares of all rows."""

SETTLE_S = 8.0
"""Seconds after a row for detached sessions to expire and connections to close."""


def vitals(server: Server, began: float) -> Vitals:
    """Return a sample of the server."""
    process = psutil.Process(server.process.pid)
    with process.oneshot():
        rss, fds, threads = process.memory_info().rss, process.num_fds(), process.num_threads()
    tasks = int(server.metric("emotide_loop_tasks"))
    return Vitals(time.monotonic() - began, rss / 2**20, fds, threads, tasks)


async def watch(server: Server, began: float, samples: list[Vitals], every: float) -> None:
    """Append samples until cancelled."""
    while True:
        await asyncio.sleep(every)
        samples.append(await asyncio.to_thread(vitals, server, began))


async def run(row: Row, seconds: float, folder: Path) -> list[object]:
    """Run a row; return its line of the table."""
    samples: list[Vitals] = []
    args = (*row.args, "--set", f"files.folder={folder}")
    with running_server(*args, model=row.model) as server:
        server.errors_expected = True
        await asyncio.sleep(1)
        began = time.monotonic()
        before = vitals(server, began)
        watching = asyncio.create_task(watch(server, began, samples, max(1.0, seconds / 100)))
        try:
            work, wrong = await row.run(server, seconds)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        took = time.monotonic() - began
        await asyncio.sleep(SETTLE_S)
        after = vitals(server, began)
        wrong += problems(before, samples, after)
        errors = [line["event"] for line in server.lines if line["level"] in ("error", "critical")]
        wrong += [f"logged: {x}" for x in errors if not x.startswith(row.expected or "\n")][:2]
    return [
        row.name,
        round(took),
        work,
        f"{before.rss_mb:.0f} → {after.rss_mb:.0f}",
        f"{per_hour(samples):+.0f}",
        f"{before.fds} → {after.fds}",
        f"{before.threads} → {after.threads}",
        f"{before.tasks} → {after.tasks}",
        "; ".join(wrong) or "ok",
    ]


HEAD = ("row", "seconds", "work", "rss MB", "MB/hour", "fds", "threads", "tasks", "result")


async def main(names: list[str]) -> int:
    """Run the rows, print a table, and return 1 if a promise was broken."""
    allow_many_sockets()
    minutes = float(os.environ.get("SOAK_MINUTES", str(FULL_MINUTES)))
    lines: list[list[object]] = []
    async with brokers() as made:
        every = rows(made)
        known = {row.name: row for row in every}
        if unknown := set(names) - known.keys():
            sys.exit(f"unknown rows: {', '.join(unknown)}; known: {', '.join(known)}")
        for row in every:
            if names and row.name not in names:
                continue
            seconds = max(10.0, minutes * 60 * row.share / FULL_MINUTES)
            with tempfile.TemporaryDirectory() as folder:
                try:
                    lines.append(await run(row, seconds, Path(folder)))
                except Exception as error:
                    blank = [""] * (len(HEAD) - 3)
                    lines.append([row.name, round(seconds), *blank, f"{error!r}"[:150]])
            print(table(HEAD, lines[-1:]), file=sys.stderr, flush=True)
    print(table(HEAD, lines))
    return any(line[-1] != "ok" for line in lines)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
