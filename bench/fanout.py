"""What a subscriber costs: one stream, many listeners, CPU per event and listener.

The stream says a note of the size of a score at a steady rate, so that every step delivers a known
number of events. The cost of the same notes without any listener is subtracted. Delivery is the
time from sending a note to its arrival, over all listeners; all of them are read by one process,
whose own share of it grows with their number.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from bench.load import Producer, subscribe
from bench.process import Cpu, Server, spread
from bench.report import arguments, as_json, machine, percentile, say
from bench.speech import Wire
from bench.stand_ins import NULL
from bench.tables import table

DELIVERIES_PER_S = 4_000
MOST_PER_S = 100
PADDING = "x" * 600

EXAMPLES = """\
  python -m bench.fanout                          1, 10, 100, 1000 subscribers
  python -m bench.fanout --quick                  5 s a step
  python -m bench.fanout --subscribers 300 --seconds 60"""


async def step(subscribers: int, seconds: float, rate: float) -> dict[str, Any]:
    """Figures of one number of subscribers, on a server of its own."""
    arrived: list[float] = []

    async def listen(socket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in socket:
                event = orjson.loads(text)
                if event["type"] == "session.annotated":
                    arrived.append((time.monotonic() - event["attrs"]["at"]) * 1000)

    with Server(NULL, {"limits.max_subscribers": max(1000, subscribers + 1)}) as server:
        producer = Producer("talker", [], 0)
        await producer.open(server, Wire())
        wanted = {"type": "subscribe", "snapshot": False}
        sockets = [await subscribe(server, wanted) for _ in range(subscribers)]
        listening = [asyncio.create_task(listen(socket)) for socket in sockets]
        await asyncio.sleep(1.0)
        before, cpu, start = await asyncio.to_thread(server.metrics), Cpu(server), time.monotonic()
        used = server.cpu_s()
        events = int(seconds * rate)
        for number in range(events):
            await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
            attrs = {"at": time.monotonic(), "padding": PADDING}
            note = {"type": "session.annotate", "attrs": attrs}
            await producer.socket.send(orjson.dumps(note), text=True)
        await asyncio.sleep(0.5)
        used, shares = server.cpu_s() - used, cpu.shares()
        after = await asyncio.to_thread(server.metrics)
        rss = server.rss_mb()
        for socket in sockets:
            socket.transport.abort()
        await asyncio.gather(*listening)
        await producer.close()
    lag = spread(before, after, "emotide_loop_lag_seconds")
    return {
        "subscribers": subscribers,
        "events_per_s": rate,
        "cpu_ms_per_event": used * 1000 / events,
        "missing": events * subscribers - len(arrived),
        "deliver_p50_ms": percentile(arrived, 50),
        "deliver_p99_ms": percentile(arrived, 99),
        "lag_p99_le_ms": lag.p99 * 1000,
        "server_cores": shares[0],
        "generator_cores": shares[1],
        "others_cores": shares[2],
        "rss_mb": rss,
    }


async def main(options: argparse.Namespace) -> None:
    seconds = options.seconds or (5 if options.quick else 15)
    say(options, machine(), "")
    alone = await step(0, seconds, MOST_PER_S)
    rows = []
    for count in options.subscribers:
        rate = min(MOST_PER_S, DELIVERIES_PER_S / count)
        row = await step(count, seconds, rate)
        extra = row["cpu_ms_per_event"] - alone["cpu_ms_per_event"]
        rows.append({**row, "us_per_event_and_subscriber": extra * 1000 / count})
    if options.json:
        print(as_json({"alone": alone, "steps": rows}))
        return
    print(f"An event without subscribers: {alone['cpu_ms_per_event']:.3g} ms of CPU\n")
    keys = ["subscribers", "events_per_s", "cpu_ms_per_event", "us_per_event_and_subscriber"]
    keys += ["missing", "deliver_p50_ms", "deliver_p99_ms", "lag_p99_le_ms"]
    keys += ["server_cores", "generator_cores", "others_cores", "rss_mb"]
    print(table(keys, [[row[key] for key in keys] for row in rows]))


if __name__ == "__main__":
    parser = arguments(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "--subscribers", type=int, nargs="+", metavar="N", default=[1, 10, 100, 1000]
    )
    parser.add_argument("--seconds", type=float, help="of notes per step (default: 15)")
    asyncio.run(main(parser.parse_args()))
