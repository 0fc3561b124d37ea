"""Number of real-time streams that this machine carries, server and load generator together.

Each step runs a new server process, N streams of recorded speech (both sides of a call and acted
sentences, with different starting points), and one subscriber of all scores. Latency is the arrival
of a score at the subscriber minus the time at which the chunk with the last sample of its window
was sent. At the end of an utterance the latency contains the hangover (600 ms of silence), so those
scores have a separate column.

A step is carried if p95 is under 500 ms and no speech was lost. Server and generator share the
cores; the table shows the use by both and by other processes. `coverage` is the share of the speech
that some window scored; the rest was reported as `stream.gap`.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any, get_args

from bench.load import WARM_UP_S, Load, ScoreSubscriber, make_producers
from bench.process import Cpu, Server, spread
from bench.report import arguments, as_json, machine, percentile, print_text
from bench.speech import Wire, frames, recordings
from bench.tables import table
from stream.types import Encoding

TARGET_MS = 500

EXAMPLES = """\
  python -m bench.capacity                               1, 10, 25, 50, 100 telephone streams
  python -m bench.capacity --quick                       1, 10, 50 streams, 10 s each
  python -m bench.capacity --streams 150 200 --seconds 60
  python -m bench.capacity --backend emotion2vec_plus_base --encoding linear16 --rate 16000
  python -m bench.capacity --set model.threads=2 --set windows.hop_ms=2000"""


async def step(options: argparse.Namespace, wire: Wire, recorded: Any, streams: int) -> Any:
    """Return one row: the figures of `streams` streams on a new server."""
    settings = dict(item.split("=", 1) for item in options.set)
    settings = {"limits.max_sessions": max(500, streams), **settings}
    with Server(options.backend, settings) as server:
        load = Load(server, make_producers(streams, recorded), wire)
        subscriber = ScoreSubscriber(load.producers, wire.chunk_ms)
        await subscriber.open(server)
        await load.start()
        await asyncio.sleep(WARM_UP_S)
        before, cpu, since = await asyncio.to_thread(server.metrics), Cpu(server), time.monotonic()
        load.lags.clear()
        await asyncio.sleep(options.seconds)
        used, until = cpu.shares(), time.monotonic()
        after = await asyncio.to_thread(server.metrics)
        rss = server.rss_mb()
        await load.stop()
        await subscriber.close()
    during = subscriber.latencies(since, until)
    at_end = subscriber.latencies(since, until, "speech_end")
    batch = spread(before, after, "emotide_inference_batch_size")
    inference = spread(before, after, "emotide_inference_seconds")
    lag = spread(before, after, "emotide_loop_lag_seconds")
    return {
        "streams": streams,
        "p50_ms": percentile(during, 50),
        "p95_ms": percentile(during, 95),
        "p99_ms": percentile(during, 99),
        "speech_end_p95_ms": percentile(at_end, 95),
        "windows_per_s": (len(during) + len(at_end)) / (until - since),
        "speech_share": load.total("speech_ms") / max(1, load.total("audio_ms")),
        "gaps": sum(p.gaps for p in load.producers.values()),
        "dropped_ms": load.total("dropped_ms"),
        "coverage": 1 - load.total("dropped_ms") / max(1, load.total("speech_ms")),
        "batch_mean": batch.mean,
        "batch_p99_le": batch.p99,
        "infer_ms": inference.mean * 1000,
        "lag_p50_le_ms": lag.p50 * 1000,
        "lag_p99_le_ms": lag.p99 * 1000,
        "sent_late_p99_ms": percentile(load.lags, 99) * 1000,
        "server_cores": used[0],
        "generator_cores": used[1],
        "others_cores": used[2],
        "rss_mb": rss,
    }


async def main(options: argparse.Namespace) -> None:
    wire = Wire(options.encoding, options.rate, options.chunk_ms)
    streams = options.streams or ([1, 10, 50] if options.quick else [1, 10, 25, 50, 100])
    options.seconds = options.seconds or (10 if options.quick else 30)
    recorded = [frames(wire.chunks(pcm)) for pcm in recordings(wire.sample_rate)]
    print_text(options, machine(), f"{options.backend}, {wire}, {options.seconds} s per step", "")
    rows = [await step(options, wire, recorded, count) for count in streams]
    if options.json:
        print(as_json(rows))
        return
    print_text(options, "From the end of a window's audio to its score at the subscriber:", "")
    keys = ["streams", "p50_ms", "p95_ms", "p99_ms", "speech_end_p95_ms", "windows_per_s"]
    keys += ["speech_share", "gaps", "dropped_ms", "coverage"]
    print(table(keys, [[row[key] for key in keys] for row in rows]))
    print_text(
        options, "", "Batches, loop lag and cores (le: upper bound of a histogram bucket):", ""
    )
    keys = ["streams", "batch_mean", "batch_p99_le", "infer_ms", "lag_p50_le_ms", "lag_p99_le_ms"]
    keys += ["sent_late_p99_ms", "server_cores", "generator_cores", "others_cores", "rss_mb"]
    print(table(keys, [[row[key] for key in keys] for row in rows]))
    carried = [r["streams"] for r in rows if r["p95_ms"] < TARGET_MS and not r["dropped_ms"]]
    limit = max(carried, default=0)
    print(f"\nMost streams with p95 under {TARGET_MS} ms and no lost speech: {limit}")


if __name__ == "__main__":
    parser = arguments(__doc__ or "", EXAMPLES)
    parser.add_argument("--backend", default="embedded", help="the server's --model")
    parser.add_argument("--streams", type=int, nargs="+", metavar="N", help="streams of each step")
    parser.add_argument("--seconds", type=float, help="length of a step (default: 30)")
    parser.add_argument("--encoding", choices=get_args(Encoding), default="mulaw")
    parser.add_argument("--rate", type=int, default=8000, metavar="HZ")
    parser.add_argument("--chunk-ms", type=int, default=20, metavar="MS")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="setting of the server"
    )
    asyncio.run(main(parser.parse_args()))
