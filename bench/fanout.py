"""Cost of subscribers: one stream, many subscribers, CPU per event and subscriber.

The stream sends annotations of the size of a score at a constant rate, so that every step delivers
a known number of events. The cost of the same annotations without a subscriber is subtracted.
Delivery is the time from sending an annotation to its arrival, over all subscribers. One process
reads all of them, and its share of that time grows with their number.
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
from bench.report import arguments, as_json, machine, percentile, print_text
from bench.speech import Wire
from bench.stand_ins import NULL
from bench.tables import table

DELIVERIES_PER_S = 4_000
MAX_EVENTS_PER_S = 100
PADDING = "x" * 600

EXAMPLES = """\
  python -m bench.fanout                          1, 10, 100, 1000 subscribers
  python -m bench.fanout --quick                  5 s per step
  python -m bench.fanout --subscribers 300 --seconds 60"""


async def step(subscribers: int, seconds: float, rate: float) -> dict[str, Any]:
    """Return the figures of one number of subscribers, on a new server."""
    arrived: list[float] = []

    async def receive(socket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in socket:
                event = orjson.loads(text)
                if event["type"] == "session.annotated":
                    arrived.append((time.monotonic() - event["attrs"]["at"]) * 1000)

    with Server(NULL, {"limits.max_subscribers": max(1000, subscribers + 1)}) as server:
        producer = Producer("annotator", [], 0)
        await producer.open(server, Wire())
        message = {"type": "subscribe", "snapshot": False}
        sockets = [await subscribe(server, message) for _ in range(subscribers)]
        receiving = [asyncio.create_task(receive(socket)) for socket in sockets]
        await asyncio.sleep(1.0)
        before, cpu, start = await asyncio.to_thread(server.metrics), Cpu(server), time.monotonic()
        used = server.cpu_s()
        events = int(seconds * rate)
        for number in range(events):
            await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
            attrs = {"at": time.monotonic(), "padding": PADDING}
            annotation = {"type": "session.annotate", "attrs": attrs}
            await producer.socket.send(orjson.dumps(annotation), text=True)
        await asyncio.sleep(0.5)
        used, shares = server.cpu_s() - used, cpu.shares()
        after = await asyncio.to_thread(server.metrics)
        rss = server.rss_mb()
        for socket in sockets:
            socket.transport.abort()
        await asyncio.gather(*receiving)
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
    print_text(options, machine(), "")
    alone = await step(0, seconds, MAX_EVENTS_PER_S)
    rows = []
    for count in options.subscribers:
        rate = min(MAX_EVENTS_PER_S, DELIVERIES_PER_S / count)
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
    parser.add_argument("--seconds", type=float, help="length of a step (default: 15)")
    asyncio.run(main(parser.parse_args()))
