"""Milliseconds from `open` to `opened` of AudioHook sessions at once, beside live streams.

The connections are made before, then all send `open` in one go. `connected` is the time of an
upgrade, all at once. Clients and server share the machine, so the time of the clients is included.
"""

from __future__ import annotations

import argparse
import asyncio
import time
import uuid

import orjson
from websockets.asyncio.client import ClientConnection, connect

from bench.load import WARM_UP_S, Load, make_producers
from bench.process import Cpu, Server
from bench.report import arguments, as_json, machine, percentile, print_text
from bench.speech import Wire, frames, recordings
from bench.tables import table

EXAMPLES = """\
  python -m bench.opens                       100 opens beside 0, 10 and 20 live streams
  python -m bench.opens --opens 300           more at once
  python -m bench.opens --backend bench.stand_ins:null_backend"""

MEDIA = [{"type": "audio", "format": "PCMU", "channels": ["external", "internal"], "rate": 8000}]


async def visit(server: Server, go: asyncio.Event, connected: list[float]) -> float:
    """Open a session once `go` is set; return the seconds until `opened`."""
    session = str(uuid.uuid4())
    began = time.perf_counter()
    headers = {"Audiohook-Session-Id": session}
    url = f"{server.ws}/v1/audiohook"
    async with connect(url, additional_headers=headers, compression=None, open_timeout=60) as call:
        connected.append(time.perf_counter() - began)
        await go.wait()
        parameters = {
            "organizationId": session,
            "conversationId": session,
            "participant": {"id": session, "ani": "", "aniName": "", "dnis": ""},
            "media": MEDIA,
        }
        began = time.perf_counter()
        await _send(call, session, 1, "open", parameters)
        await call.recv()
        took = time.perf_counter() - began
        await _send(call, session, 2, "close", {"reason": "end"})
        await call.recv()
    return took


async def _send(
    call: ClientConnection, session: str, seq: int, kind: str, parameters: object
) -> None:
    message = {"version": "2", "id": session, "type": kind, "seq": seq, "serverseq": 0}
    await call.send(orjson.dumps({**message, "parameters": parameters}).decode())


async def measure(server: Server, opens: int, rounds: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of all upgrades, and from `open` to `opened`."""
    connected: list[float] = []
    opened: list[float] = []
    for _ in range(rounds):
        go = asyncio.Event()
        before = len(connected)
        tasks = [asyncio.create_task(visit(server, go, connected)) for _ in range(opens)]
        while len(connected) < before + opens:  # noqa: ASYNC110  # one event cannot count
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        go.set()
        opened += await asyncio.gather(*tasks)
    return [1000 * s for s in connected], [1000 * s for s in opened]


async def main(options: argparse.Namespace) -> None:
    rounds = 2 if options.quick else options.rounds
    print_text(options, machine(), f"{options.opens} opens at once, {rounds} rounds", "")
    wire = Wire("mulaw", 8_000, 20)
    recorded = [frames(wire.chunks(pcm)) for pcm in recordings(wire.sample_rate)]
    rows = []
    for streams in options.streams:
        with Server(options.backend, {"limits.max_sessions": 2_000}) as server:
            load = Load(server, make_producers(streams, recorded), wire)
            await load.start()
            await asyncio.sleep(WARM_UP_S)
            cpu = Cpu(server)
            connected, opened = await measure(server, options.opens, rounds)
            shares = cpu.shares()
            await load.stop()
        rows.append(
            {
                "live streams": streams,
                "connected p99": percentile(connected, 99),
                "opened p50": percentile(opened, 50),
                "p95": percentile(opened, 95),
                "p99": percentile(opened, 99),
                "max": max(opened),
                **dict(zip(("server", "generator", "others"), shares, strict=True)),
            }
        )
    if options.json:
        print(as_json(rows))
        return
    print(table(list(rows[0]), [list(row.values()) for row in rows]))


if __name__ == "__main__":
    parser = arguments(__doc__ or "", EXAMPLES)
    parser.add_argument("--backend", default="embedded", metavar="MODEL")
    parser.add_argument("--opens", type=int, default=100, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--streams", type=int, nargs="+", default=[0, 10, 20], metavar="N")
    asyncio.run(main(parser.parse_args()))
