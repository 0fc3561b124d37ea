"""CPU milliseconds per second of audio of a server process, with streams in real time.

The substitute model answers at once, so this is the cost of everything but the model: socket,
session, pipeline, events. Figures are CPU time of the whole process, not wall time. Compare two
checkouts with `python -m bench.compare`.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bench.load import WARM_UP_S, Load, make_producers
from bench.process import Cpu, Server
from bench.report import arguments, as_json, machine, print_text
from bench.speech import Wire, frames, recordings
from bench.stand_ins import NULL
from bench.tables import table

EXAMPLES = """\
  python -m bench.streams                    50 and 200 streams of 20 and 100 ms messages
  python -m bench.streams --streams 200 --chunk-ms 20
  python -m bench.streams --json             figures as JSON"""


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU ms of the server per second of one stream's audio, and what ran beside it."""

    ms_per_s: float
    server_cores: float
    generator_cores: float
    others_cores: float
    dropped_ms: int
    rss_mb: float

    @property
    def streams_per_core(self) -> int:
        return round(1000 / self.ms_per_s)


async def measure(
    wire: Wire, recorded: Sequence[Sequence[bytes]], streams: int, seconds: float
) -> Cost:
    """Run a new server with `streams` producers for `seconds`."""
    with Server(NULL, {"limits.max_sessions": max(500, streams)}) as server:
        load = Load(server, make_producers(streams, recorded), wire)
        await load.start()
        await asyncio.sleep(WARM_UP_S)
        before, cpu, sent = server.cpu_s(), Cpu(server), _sent(load)
        await asyncio.sleep(seconds)
        used, shares = server.cpu_s() - before, cpu.shares()
        audio_s = (_sent(load) - sent) * wire.chunk_s
        rss = server.rss_mb()
        await load.stop()
    return Cost(used * 1000 / audio_s, *shares, load.total("dropped_ms"), rss)


def _sent(load: Load) -> int:
    return sum(len(p.sent) for p in load.producers.values())


async def main(options: argparse.Namespace) -> None:
    seconds = options.seconds or (8 if options.quick else 20)
    rows = []
    print_text(options, machine(), f"{seconds} s per row", "")
    for chunk_ms in options.chunk_ms:
        wire = Wire("mulaw", 8_000, chunk_ms)
        recorded = [frames(wire.chunks(pcm)) for pcm in recordings(wire.sample_rate)]
        for streams in options.streams:
            cost = await measure(wire, recorded, streams, seconds)
            rows.append({"audio": str(wire), "streams": streams, **asdict(cost)})
            rows[-1]["streams_per_core"] = cost.streams_per_core
    if options.json:
        print(as_json(rows))
        return
    print(table(list(rows[0]), [list(row.values()) for row in rows]))


if __name__ == "__main__":
    parser = arguments(__doc__ or "", EXAMPLES)
    parser.add_argument("--streams", type=int, nargs="+", default=[50, 200], metavar="N")
    parser.add_argument("--chunk-ms", type=int, nargs="+", default=[20, 100], metavar="MS")
    parser.add_argument("--seconds", type=float, help="length of a measurement (default: 20)")
    asyncio.run(main(parser.parse_args()))
