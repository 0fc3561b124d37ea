"""Segments and alerts of 500 streams across an outage of a real mosquitto.

  python -m bench.mqtt_outage [--streams 500] [--away 60]

A mosquitto of its own is stopped and started again. Each stream publishes one score a second, an
utterance every five seconds and an alert every twenty. A reader in another process, whose session
the broker keeps, counts the segments and alerts that arrive.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import TypeAlias

import orjson
import paho.mqtt.client as paho
import psutil
from paho.mqtt.enums import CallbackAPIVersion

from bench.mqtt import MODEL, QUALITY, SHARES, STATS, UTTERANCE_S, call, node_info
from bench.tables import table
from stream.config import MqttConfig, PrivacyConfig
from stream.delivery.live_stream import LiveStream
from stream.protocol.events import AnalysisEvents, EncodedEvent, encode
from stream.sinks.mqtt.observer import MqttObserver
from stream.sinks.mqtt.sink import MqttSink
from stream.types import Event, Score, Segment, SpeechStart

BEFORE_S, AFTER_S = 10, 10
ALERT_S = 20
SETTLE_S = 120.0

Count: TypeAlias = "Synchronized[int]"


class Mosquitto:
    """A broker that keeps sessions and their messages across restarts."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
            f"persistence_location {folder}/\nmax_queued_messages 0\nuser root\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
        if program is None:
            sys.exit("mosquitto is not installed: apt-get install mosquitto")
        silent = subprocess.DEVNULL
        command = [program, "-c", str(self._config)]
        self._process = subprocess.Popen(command, stdout=silent, stderr=silent)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)

    def stop(self) -> None:
        """Stop it in order, so that it saves its sessions."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)
            self._process = None


def _read(port: int, segments: Count, alerts: Count) -> None:
    """Count the different segments and alerts that arrive, until killed."""
    seen: set[tuple[str, int, str]] = set()

    def received(client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        fields = orjson.loads(message.payload)
        leaf = message.topic.rpartition("/")[2]
        key = (leaf, fields["utterance"], fields["stream"])
        if key not in seen:
            seen.add(key)
            count = segments if leaf == "segment" else alerts
            count.value += 1

    client = paho.Client(CallbackAPIVersion.VERSION2, "bench-reader", clean_session=False)
    client.on_message = received
    client.reconnect_delay_set(1, 1)
    client.connect("127.0.0.1", port)
    client.subscribe([("emotide/stream/+/+/segment", 1), ("emotide/stream/+/+/alert", 1)])
    client.loop_forever()


@contextmanager
def reader(port: int) -> Iterator[tuple[Count, Count]]:
    """Run the reader; yield its numbers of segments and alerts."""
    context = multiprocessing.get_context("spawn")
    counts = context.Value("i", 0), context.Value("i", 0)
    process = context.Process(target=_read, args=(port, *counts))
    process.start()
    try:
        yield counts
    finally:
        process.kill()
        process.join(10)


class Publications:
    """Events of all streams as sessions would encode them, and how many there were."""

    def __init__(self, streams: int) -> None:
        self.calls = [call(number) for number in range(streams)]
        self.segments = self.alerts = 0
        self._bodies = AnalysisEvents(self.calls[0].roles, MODEL)

    def publish(self, sink: MqttSink, second: int, number: int) -> None:
        """Publish one second of a stream."""
        stream, utterance = self.calls[number], second // UTTERANCE_S
        if second % UTTERANCE_S == 0:
            self._emit(sink, stream, SpeechStart(0, utterance, 0))
        horizons = {"10s": SHARES}
        score = Score(0, utterance, 0, 48_000, "interval", 0.8, SHARES, horizons, QUALITY, ())
        stream.last[0] = self._emit(sink, stream, score)
        if second % UTTERANCE_S == UTTERANCE_S - 1:
            last = Segment(
                0, utterance, 0, 80_000, "speech_end", 1.0, SHARES, horizons, QUALITY, ()
            )
            self._emit(sink, stream, last)
            self.segments += 1
        if (second + number) % ALERT_S == 0:
            # A number in place of the utterance makes every alert a different one.
            evidence = {"scores": SHARES, "utterance": second, "speech_s": 4.2, "hints": []}
            step = {"rule": "anger", "state": "new", "value": 0.8, "evidence": evidence}
            body = {"type": "alert", "channel": 0, "role": "customer", **step}
            sink.event(stream, encode(body, 1, stream.session_id, stream.stream_id, time.time()))
            self.alerts += 1

    def _emit(self, sink: MqttSink, stream: LiveStream, event: Event) -> EncodedEvent:
        body = self._bodies.body(event, 40)
        encoded = encode(body, 1, stream.session_id, stream.stream_id, time.time())
        sink.event(stream, encoded)
        return encoded


async def measure(streams: int, away_s: int) -> list[object]:
    """Return a row: segments and alerts published and received, changes dropped, memory, time."""
    dropped = 0

    def drop(number: int) -> None:
        nonlocal dropped
        dropped += number

    with tempfile.TemporaryDirectory() as folder:
        broker = Mosquitto(Path(folder))
        broker.start()
        config = MqttConfig(host="127.0.0.1", port=broker.port)
        observer = MqttObserver(dropped=drop, refused=drop)
        sink = MqttSink(config, PrivacyConfig(), "bench", node_info, lambda: STATS, observer)
        publications = Publications(streams)
        with reader(broker.port) as (segments, alerts):
            await asyncio.sleep(3)
            task = asyncio.create_task(sink.run())
            for stream in publications.calls:
                sink.opened(stream)
            began, memory, most = time.monotonic(), psutil.Process().memory_info().rss, 0
            back = 0.0
            for second in range(BEFORE_S + away_s + AFTER_S):
                if second == BEFORE_S:
                    await asyncio.to_thread(broker.stop)
                if second == BEFORE_S + away_s:
                    await asyncio.to_thread(broker.start)
                    back = time.monotonic()
                for number in range(streams):
                    publications.publish(sink, second, number)
                    if number % 50 == 0:
                        await asyncio.sleep(0)
                most = max(most, sink.waiting)
                await asyncio.sleep(max(0.0, began + second + 1 - time.monotonic()))
            expected = publications.segments, publications.alerts
            while (segments.value, alerts.value) != expected:
                if time.monotonic() > back + SETTLE_S:
                    break
                await asyncio.sleep(0.1)
            settled = time.monotonic() - back
            grown = (psutil.Process().memory_info().rss - memory) / 2**20
            await sink.stop(10)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            row = [
                streams,
                away_s,
                f"{segments.value} of {publications.segments}",
                f"{alerts.value} of {publications.alerts}",
                dropped,
                most,
                f"{grown:+.1f}",
                f"{settled:.1f}",
            ]
        broker.stop()
    return row


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Segments and alerts across an outage.")
    parser.add_argument("--streams", type=int, default=500, help="streams at a time (500)")
    parser.add_argument("--away", type=int, default=60, help="seconds without a broker (60)")
    options = parser.parse_args()
    heads = ["streams", "away s", "segments", "alerts", "dropped", "waiting", "memory MB", "all s"]
    print(table(heads, [asyncio.run(measure(options.streams, options.away))]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
