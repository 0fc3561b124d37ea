"""Measurement of what an attack does to others: health checks, a live call, memory, shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.clients import stream
from tests.support.running import ROOT, Server
from tests.support.utterances import talk

HEALTH_CHECK = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


@dataclass
class Impact:
    """Times in milliseconds, memory in MiB."""

    health: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    grown_mib: float = 0.0

    def __str__(self) -> str:
        return (
            f"health p50 {quantile(self.health, 0.5):.0f} p95 {quantile(self.health, 0.95):.0f} "
            f"max {max(self.health):.0f} ms; latency p50 {quantile(self.latencies, 0.5):.0f} "
            f"p95 {quantile(self.latencies, 0.95):.0f} ms; +{self.grown_mib:.0f} MiB"
        )


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@contextlib.contextmanager
def attacking(name: str, server: Server) -> Iterator[None]:
    """Run an attack in a process of its own during the block."""
    command = [sys.executable, "-m", "tests.support.attacks", name, str(server.port)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
    try:
        yield
        assert process.poll() is None, f"the attack {name} ended by itself"
    finally:
        process.kill()
        process.wait()


async def measure(server: Server, seconds: float) -> Impact:
    """Run a call in real time and health checks beside it."""
    impact = Impact()
    checking = asyncio.create_task(_check(server, impact))
    before = server.rss()
    async with stream(server, interval_ms=250) as call:
        call.checks = False
        await call.audio(talk(seconds), 640, 0.02)
        await call.close_session()
        scores = call.of("emotion.score")
        impact.latencies = [float(event["latency_ms"]) for event in scores]
    checking.cancel()
    await asyncio.wait([checking])
    impact.grown_mib = (server.rss() - before) / 1_048_576
    assert impact.latencies, "the call got no score"
    return impact


async def _check(server: Server, impact: Impact) -> None:
    while True:
        begin = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            writer.write(HEALTH_CHECK)
            assert (await reader.readline()).split()[1] == b"200"
        finally:
            writer.close()
        impact.health.append((time.perf_counter() - begin) * 1000)
        await asyncio.sleep(0.05)


def main(names: list[str]) -> None:
    """Print a table: each attack beside a run alone on the same server."""
    from tests.support.attacks import ATTACKS
    from tests.support.running import running_server

    for name in names or ATTACKS:
        with running_server() as server:
            server.errors_expected = True
            alone = asyncio.run(measure(server, 3.0))
            with attacking(name, server):
                time.sleep(1.0)
                beside = asyncio.run(measure(server, 4.0))
                begin = time.monotonic()
                server.signal()
                status = server.exit(30)
                drained_s = time.monotonic() - begin
            print(f"{name}\n    alone  {alone}\n    beside {beside}", flush=True)
            print(f"    exit {status} after {drained_s:.1f} s", flush=True)
            faults = [x for x in server.lines if x["level"] in ("error", "critical")]
            for line in faults[:3]:
                print("    ", str(line)[:1500], flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
