"""Times of queries and exports of a large history, its size, and what an export delays.

A year of calls of three tenants is generated: few at night and at weekends, eight queues of
different size, forty campaigns, three rules of alerts. Each kind of query is asked many times with
other values: other times, tags, labels and levels, common and rare. A time is that of the answer
with all its rows, from SQLite in this process. Where others use the cores, compare the CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from rich.console import Console
from rich.progress import Progress

from bench.history_rows import DAY_MS, DAYS, END_MS, QUEUES, RULES, TENANTS, generate
from bench.report import arguments, as_json, machine, percentile, print_text
from bench.tables import table
from stream.history.queries.export import exported
from stream.history.queries.filters import Filter, Position
from stream.history.queries.reader import HistoryReader
from stream.history.queries.sessions import one, page
from stream.history.queries.summary import summary
from stream.history.storage.connect import open_engine, upgrade
from stream.history.storage.tables import sessions
from stream.labels import LABELS
from stream.protocol.history import ExportFormat, ExportRows
from stream.protocol.wire.history import Grouping

EXAMPLES: Final = """\
  python -m bench.history                       a million sessions of 40 utterances: 20 min, 10 GB
  python -m bench.history --sessions 20000
  python -m bench.history --database year.db    make it once, or measure one that is there"""

ZONE: Final = ZoneInfo("Europe/Berlin")
LATE_S: Final = 5.0
"""Seconds for which delays are measured."""

EXPORTS: Final[tuple[tuple[ExportRows, ExportFormat], ...]] = (
    ("utterances", "csv"),
    ("utterances", "jsonl"),
    ("sessions", "csv"),
)
"""Exports that are timed."""

EXPORTED: Final = 5_000
"""Sessions of an export that is timed."""

Query = Callable[[sa.Connection], Any]


def main() -> None:
    """Generate the history unless it is there; print a row per kind of query and of export."""
    parser = arguments(__doc__ or "", EXAMPLES)
    parser.add_argument("--sessions", type=int, default=1_000_000, help="default: 1000000")
    parser.add_argument("--utterances", type=int, default=40, help="of each session; default: 40")
    parser.add_argument("--times", type=int, default=60, help="of each kind; default: 60")
    parser.add_argument("--database", type=Path, metavar="FILE", help="keep the database there")
    options = parser.parse_args()
    if options.quick:
        options.sessions, options.times = 20_000, 20
    with tempfile.TemporaryDirectory(dir=".") as folder:
        measure(options, options.database or Path(folder) / "history.db")


def measure(options: argparse.Namespace, file: Path) -> None:
    """Measure the database in a file, which is made if it is not there."""
    fresh = not file.exists()
    engine = open_engine(f"sqlite:///{file}")
    if fresh:
        fill(engine, options.sessions, options.utterances)
    with engine.connect() as connection:
        count = connection.execute(sa.select(sa.func.count()).select_from(sessions)).scalar_one()
    size = file.stat().st_size
    print_text(options, machine(), f"{count} sessions, {size / 1e9:.2f} GB", "")
    figures: dict[str, Any] = {"sessions": count, "bytes_per_session": size / count}
    rows = []
    for name, late in asyncio.run(delays(f"sqlite:///{file}")).items():
        figures[f"event loop, {name}"] = {f"p{p}_ms": percentile(late, p) for p in (50, 99)}
        rows.append([name, *figures[f"event loop, {name}"].values()])
    print_text(options, table(["delay of the event loop", "p50 ms", "p99 ms"], rows), "")
    rows = []
    for name, ask in kinds(random.Random(3)):
        pairs = [timed(engine, ask()) for _ in range(options.times)]
        times, cpu = ([pair[at] for pair in pairs] for at in (0, 1))
        figures[name] = {
            "p50_ms": percentile(times, 50),
            "p95_ms": percentile(times, 95),
            "cpu_p95_ms": percentile(cpu, 95),
        }
        rows.append([name, *figures[name].values(), max(times)])
    head = ["query", "p50 ms", "p95 ms", "CPU p95 ms", "max ms"]
    print_text(options, table(head, rows), "")
    rows = []
    for of, form in EXPORTS:
        speed = rate(engine, of, form)
        figures[f"{of} {form}"] = dict(zip(("per_s", "per_cpu_s"), speed, strict=True))
        rows.append([f"{of}, {form}", *speed])
    print_text(options, table(["export", "rows per s", "per CPU second"], rows), "")
    print_text(options, f"{size / count:.0f} bytes per session in the file")
    if options.json:
        print(as_json(figures))
    engine.dispose()


def fill(engine: sa.Engine, count: int, utterances: int) -> None:
    """Make the tables and the sessions, without waiting for the disk."""
    upgrade(engine)

    def unsafe(raw: Any, _: object) -> None:
        raw.execute("PRAGMA synchronous = OFF")
        raw.execute("PRAGMA cache_size = -400000")

    sa.event.listen(engine, "connect", unsafe)
    engine.dispose()
    with Progress(console=Console(stderr=True)) as bars:
        bar = bars.add_task("sessions", total=count)
        generate(engine, count, utterances, lambda done: bars.update(bar, completed=done))
    sa.event.remove(engine, "connect", unsafe)
    engine.dispose()


def kinds(chance: random.Random) -> Iterator[tuple[str, Callable[[], Query]]]:
    """Yield each kind of query: its name, and a function that returns one with other values."""

    def some(**conditions: Any) -> Filter:
        name = chance.choices(list(TENANTS), list(TENANTS.values()))[0]
        return Filter(frozenset({name}), **conditions)

    def span(days: float) -> dict[str, Any]:
        end = END_MS - chance.randrange(DAYS * DAY_MS - round(days * DAY_MS))
        return {"start_ms": end - round(days * DAY_MS), "end_ms": end}

    def lists(**make: Callable[[], Any]) -> Callable[[], Query]:
        def ask() -> Query:
            wanted = some(**{name: value() for name, value in make.items()}, **half(span))
            return lambda connection: page(connection, wanted, 50)

        return ask

    def half(times: Callable[[float], dict[str, Any]]) -> dict[str, Any]:
        return times(30) if chance.random() < 0.5 else {}

    def label() -> str:
        return chance.choice(LABELS)

    def near() -> float:
        return chance.choice((0.1, 0.3, 0.5, 0.7, 0.9, 0.99))

    tags = (*(f"queue:{name}" for name in QUEUES), "campaign:7", "queue:none")
    yield "list: newest, or of a month", lists()
    yield "list: tag", lists(tag=lambda: chance.choice(tags))
    yield "list: role", lists(role=lambda: chance.choice(("customer", "supervisor")))
    yield "list: strongest label", lists(label=label)
    yield "list: label above a share", lists(label=label, share=near)
    yield "list: activation", lists(min_activation=near)
    yield "list: alert any, none, rule", lists(alert=lambda: chance.choice(("any", "none", *RULES)))
    yield "list: duration", lists(min_duration_s=lambda: chance.choice((60, 600, 2400, 9999)))
    yield "list: stream", lists(streams=lambda: frozenset({f"call-{chance.randrange(400_000)}"}))
    yield (
        "list: tag, label, activation, alert",
        lists(
            tag=lambda: chance.choice(tags),
            label=label,
            share=near,
            min_activation=near,
            alert=lambda: chance.choice(("any", "none", "angry_customer")),
        ),
    )

    def deep() -> Query:
        wanted, at = some(), Position(span(1)["end_ms"], "0")
        return lambda connection: page(connection, wanted, 50, at)

    yield "list: a page far down", deep

    def shown() -> Query:
        wanted = some(**span(1))

        def ask(connection: sa.Connection) -> Any:
            found = page(connection, wanted, 1)["sessions"]
            return one(connection, found[0]["id"], None) if found else None

        return ask

    yield "one session", shown
    grouped: tuple[tuple[str, Grouping, float], ...] = (
        ("summary: a day by hour", "hour", 1),
        ("summary: a month by day", "day", 30),
        ("summary: a year by day", "day", DAYS - 1),
        ("summary: a month by tag", "tag", 30),
        ("summary: a year by tag", "tag", DAYS - 1),
        ("summary: a year by tenant", "tenant", DAYS - 1),
    )
    for name, by, days in grouped:

        def summed(by: Grouping = by, days: float = days) -> Query:
            wanted = Filter(None, **span(days)) if by == "tenant" else some(**span(days))
            return lambda connection: summary(connection, wanted, by, ZONE)

        yield name, summed

    def filtered() -> Query:
        wanted = some(**chance.choice(({"alert": "any"}, {"kind": "live"})), **span(30))
        return lambda connection: summary(connection, wanted, "day", ZONE)

    yield "summary: a month by day, with alerts or live only", filtered


def timed(engine: sa.Engine, ask: Query) -> tuple[float, float]:
    """Return the milliseconds of one query, and those of the CPU."""
    with engine.connect() as connection:
        began, used = time.perf_counter(), time.process_time()
        ask(connection)
        return (time.perf_counter() - began) * 1000, (time.process_time() - used) * 1000


def rate(engine: sa.Engine, rows: ExportRows, form: ExportFormat) -> tuple[float, float]:
    """Return the rows per second of an export of some thousand sessions, and per CPU second."""
    done = lines = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count

    began, used = time.perf_counter(), time.process_time()
    for piece in exported(engine.connect, Filter(), rows, form, progress):
        lines += piece.count(b"\n")
        if done >= EXPORTED:
            break
    return lines / (time.perf_counter() - began), lines / (time.process_time() - used)


async def delays(url: str) -> dict[str, list[float]]:
    """Return how late a timer of the event loop is in ms: alone, and while an export runs."""
    reader = HistoryReader(url)

    async def measured() -> list[float]:
        late, end = [], time.perf_counter() + LATE_S
        while (now := time.perf_counter()) < end:
            await asyncio.sleep(0.002)
            late.append((time.perf_counter() - now - 0.002) * 1000)
        return late

    async def export() -> None:
        async for _ in await reader.export(Filter(), "utterances", "csv"):
            pass

    found = {"alone": await measured()}
    running = asyncio.create_task(export())
    found["during an export"] = await measured()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    reader.close()
    return found


if __name__ == "__main__":
    main()
