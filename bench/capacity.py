"""How many streams in real time this machine carries, server and load generator together.

Per step: a fresh server process, N streams of real speech (both sides of a call and acted
sentences, each from another place), one subscriber of all scores. Latency is the arrival of a
score at the subscriber minus the sending of the chunk that held its window's last sample. At the
end of an utterance the hangover (600 ms of silence that must be heard) is part of it by design, so
those scores have a column of their own.

A step is carried when p95 is under 500 ms and no speech was lost. Server and generator share the
cores; what they and other processes used of them is in the table. `coverage` is the share of the
speech that some window scored; the rest was told as `stream.gap`.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any, get_args

from bench.load import WARM_UP_S, Listener, Load, cast
from bench.process import Cpu, Server, spread
from bench.report import arguments, as_json, machine, percentile, say
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
    """One row: figures of `streams` streams on a server of their own."""
    settings = dict(item.split("=", 1) for item in options.set)
    settings = {"limits.max_sessions": max(500, streams), **settings}
    with Server(options.backend, settings) as server:
        load = Load(server, cast(streams, recorded), wire)
        listener = Listener(load.producers, wire.chunk_ms)
        await listener.open(server)
        await load.start()
        await asyncio.sleep(WARM_UP_S)
        before, cpu, since = await asyncio.to_thread(server.metrics), Cpu(server), time.monotonic()
        load.lags.clear()
        await asyncio.sleep(options.seconds)
        used, until = cpu.shares(), time.monotonic()
        after = await asyncio.to_thread(server.metrics)
        rss = server.rss_mb()
        await load.stop()
        await listener.close()
    during = listener.latencies(since, until)
    at_end = listener.latencies(since, until, "speech_end")
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
    say(options, machine(), f"{options.backend}, {wire}, {options.seconds} s a step", "")
    rows = [await step(options, wire, recorded, count) for count in streams]
    if options.json:
        print(as_json(rows))
        return
    say(options, "From the end of a window's audio to its score at the subscriber:", "")
    keys = ["streams", "p50_ms", "p95_ms", "p99_ms", "speech_end_p95_ms", "windows_per_s"]
    keys += ["speech_share", "gaps", "dropped_ms", "coverage"]
    print(table(keys, [[row[key] for key in keys] for row in rows]))
    say(options, "", "What it took (le: upper end of a histogram's bucket):", "")
    keys = ["streams", "batch_mean", "batch_p99_le", "infer_ms", "lag_p50_le_ms", "lag_p99_le_ms"]
    keys += ["sent_late_p99_ms", "server_cores", "generator_cores", "others_cores", "rss_mb"]
    print(table(keys, [[row[key] for key in keys] for row in rows]))
    carried = [r["streams"] for r in rows if r["p95_ms"] < TARGET_MS and not r["dropped_ms"]]
    most = max(carried, default=0)
    print(f"\nMost streams with p95 under {TARGET_MS} ms and nothing lost: {most}")


if __name__ == "__main__":
    parser = arguments(__doc__ or "", EXAMPLES)
    parser.add_argument("--backend", default="embedded", help="the server's --model")
    parser.add_argument("--streams", type=int, nargs="+", metavar="N", help="the steps")
    parser.add_argument("--seconds", type=float, help="measured per step (default: 30)")
    parser.add_argument("--encoding", choices=get_args(Encoding), default="mulaw")
    parser.add_argument("--rate", type=int, default=8000, metavar="HZ")
    parser.add_argument("--chunk-ms", type=int, default=20, metavar="MS")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="configures the server"
    )
    asyncio.run(main(parser.parse_args()))
