"""Milliseconds from the end of an alert's window to its arrival at each outlet.

The window ends when its last sample was sent. Outlets are a subscriber, an MQTT subscriber behind a
real mosquitto, and a webhook receiver. Rules change their state often, so each step of an alert
that follows a window counts: beginnings, and ends with the reason `cleared`. Clients, broker and
server share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import aiomqtt
import orjson

from bench.load import WARM_UP_S, Load, Producer, make_producers, subscribe
from bench.process import Cpu, Server
from bench.report import arguments, as_json, machine, percentile, print_text
from bench.speech import Wire, frames, recordings
from bench.stand_ins import LOUDNESS
from bench.tables import table

EXAMPLES = """\
  python -m bench.alerts                               100 streams, 60 s
  python -m bench.alerts --streams 10 --backend embedded

The substitute model takes 4 ms a window and no CPU, as one on a GPU. The embedded model on a CPU
may be too slow for 100 streams that speak."""

SETTLE_S = 3.0
"""Seconds after the last step in which it has to arrive everywhere."""

RULES = [
    {"name": f"r{n}", "index": "activation", "horizon": "window", "above": above, "cooldown_s": 0}
    for n, above in enumerate((0.35, 0.5, 0.65))
]
"""Rules whose levels the activation of speech crosses often."""

Step = tuple[str, str]
"""Id of an alert and its state."""


def follows_a_window(body: Mapping[str, Any]) -> bool:
    """Return whether a step was caused by a score, and not by time or the end of the stream."""
    return bool(body["state"] == "new" or body.get("reason") == "cleared")


class Arrivals:
    """Times of arrival of each step at one outlet, in monotonic seconds."""

    def __init__(self) -> None:
        self.at: dict[Step, float] = {}

    def add(self, body: Mapping[str, Any]) -> None:
        """Note a step, at its first arrival."""
        if follows_a_window(body):
            self.at.setdefault((body["id"], body["state"]), time.monotonic())


class WebhookReceiver:
    """Receiver of webhooks in this event loop."""

    def __init__(self) -> None:
        self.arrivals = Arrivals()

    async def open(self) -> str:
        """Listen; return the address."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"

    async def close(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                size = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
                body = await reader.readexactly(size)
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                self.arrivals.add(orjson.loads(body)["data"])
        writer.close()


class Subscriber:
    """Subscriber of alerts, which also tells when the window of each step ended."""

    def __init__(self, producers: Mapping[str, Producer], chunk_ms: int) -> None:
        self._producers = producers
        self._chunk_ms = chunk_ms
        self.arrivals = Arrivals()
        self.ended: dict[Step, float] = {}
        """Time at which the last sample of a step's window was sent, in monotonic seconds."""

    async def open(self, server: Server) -> None:
        message = {"type": "subscribe", "snapshot": False, "filter": {"events": ["alert"]}}
        self._socket = await subscribe(server, message)
        self._reading = asyncio.create_task(self._read())

    async def close(self) -> None:
        await self._socket.close()
        await self._reading

    async def _read(self) -> None:
        async for text in self._socket:
            event = orjson.loads(text)
            if event["type"] != "alert" or not follows_a_window(event):
                continue
            self.arrivals.add(event)
            sent = self._producers[event["stream_id"]].sent
            chunk = (event["audio_ms"] - 1) // self._chunk_ms
            if chunk < len(sent):  # otherwise the end of the utterance was padded
                self.ended.setdefault((event["id"], event["state"]), sent[chunk])


async def listen(port: int, arrivals: Arrivals) -> None:
    """Note the alerts that the broker publishes."""
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("emotide/#", qos=1)
        async for message in client.messages:
            if message.topic.value.endswith("/alert"):
                arrivals.add(orjson.loads(bytes(message.payload)))


@contextlib.contextmanager
def mosquitto() -> Iterator[int]:
    """Run a broker on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    path = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if path is None:
        raise SystemExit("mosquitto is needed: apt-get install mosquitto")
    process = subprocess.Popen([path, "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(250):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(10)


@contextlib.asynccontextmanager
async def outlets(backend: str, streams: int) -> AsyncIterator[tuple[Server, Arrivals, Arrivals]]:
    """Start a server with its broker and webhook receiver; yield the arrivals at both."""
    receiver, on_mqtt = WebhookReceiver(), Arrivals()
    url = await receiver.open()
    secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    webhook = f'{{url = "{url}", secret = "{secret}", allow_private = true}}'
    rules = ", ".join(
        "{"
        + ", ".join(f"{key} = {orjson.dumps(value).decode()}" for key, value in one.items())
        + "}"
        for one in RULES
    )
    with mosquitto() as port, tempfile.TemporaryDirectory() as folder:
        listening = asyncio.create_task(listen(port, on_mqtt))
        settings = {
            "limits.max_sessions": max(500, 2 * streams),
            "mqtt.host": "127.0.0.1",
            "mqtt.port": port,
            "alerts.rules": f"[{rules}]",
            "alerts.webhooks": f"{{desk = {webhook}}}",
            "alerts.outbox": folder,
        }
        with Server(backend, settings) as server:
            yield server, on_mqtt, receiver.arrivals
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    await receiver.close()


async def measure(backend: str, streams: int, seconds: float) -> list[dict[str, object]]:
    """Return a row per outlet."""
    wire = Wire("mulaw", 8_000, 20)
    recorded = [frames(wire.chunks(pcm)) for pcm in recordings(wire.sample_rate)]
    producers = make_producers(streams, recorded)
    async with outlets(backend, streams) as (server, on_mqtt, at_webhook):
        load, subscriber = Load(server, producers, wire), Subscriber(producers, wire.chunk_ms)
        await subscriber.open(server)
        await load.start()
        await asyncio.sleep(WARM_UP_S)
        begin, cpu = time.monotonic(), Cpu(server)
        await asyncio.sleep(seconds)
        end, shares = time.monotonic(), cpu.shares()
        await asyncio.sleep(SETTLE_S)
        await subscriber.close()
        await load.stop()
    steps = {step: at for step, at in subscriber.ended.items() if begin <= at < end}
    rows: list[dict[str, object]] = []
    by_outlet = {"subscriber": subscriber.arrivals, "MQTT": on_mqtt, "webhook": at_webhook}
    for outlet, arrivals in by_outlet.items():
        found = {step: arrivals.at[step] for step in steps if step in arrivals.at}
        late_ms = [1000 * (at - steps[step]) for step, at in found.items()]
        rows.append(
            {
                "outlet": outlet,
                "streams": streams,
                "alerts/s": len(steps) / seconds,
                "missing": len(steps) - len(found),
                "p50 ms": percentile(late_ms, 50),
                "p99 ms": percentile(late_ms, 99),
                "max ms": max(late_ms, default=float("nan")),
                **dict(zip(("server", "clients", "others"), shares, strict=True)),
            }
        )
    return rows


async def main(options: argparse.Namespace) -> None:
    seconds = 15 if options.quick else options.seconds
    print_text(options, machine(), f"model {options.backend}, {seconds:g} s", "")
    rows = []
    for streams in options.streams:
        rows += await measure(options.backend, streams, seconds)
    if options.json:
        print(as_json(rows))
        return
    print(table(list(rows[0]), [list(row.values()) for row in rows]))


if __name__ == "__main__":
    parser = arguments(__doc__ or "", EXAMPLES)
    parser.add_argument("--backend", default=LOUDNESS, metavar="MODEL")
    parser.add_argument("--streams", type=int, nargs="+", default=[100], metavar="N")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S")
    asyncio.run(main(parser.parse_args()))
