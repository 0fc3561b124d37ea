"""CPU of the MQTT sink with a real broker.

  mosquitto -p 1883 &
  python -m bench.mqtt [--port 1883] [--streams 500] [--seconds 60] [--home-assistant]

Each stream publishes one score a second and an utterance every five seconds, in one of 20 groups.
The events are made before, so that the CPU is that of the sink: topics, payloads, groups, delivery.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

import psutil

from bench.tables import table
from stream.config import Config, MqttConfig, PrivacyConfig
from stream.delivery.live_stream import LiveStream
from stream.protocol.events import AnalysisEvents, EncodedEvent, encode
from stream.protocol.wire.mqtt import Info, Stats
from stream.server.http.info import info
from stream.sinks.mqtt.observer import MqttObserver
from stream.sinks.mqtt.sink import MqttSink
from stream.types import Event, ModelInfo, Quality, Score, Segment, SpeechStart

GROUPS = 20
UTTERANCE_S = 5
SHARES = {"angry": 0.1, "happy": 0.2, "neutral": 0.6, "sad": 0.1}
MODEL = ModelInfo("bench", "1", tuple(SHARES), 320, (48_000,), (1,), 1.0, "Apache-2.0", "cpu")
QUALITY = Quality(-20.0, 0.0, None, "wide", 4.2)
STATS: Stats = {"sessions": 0, "parked": 0, "subscribers": 0, "windows_waiting": 0, "uptime_s": 0}


def node_info() -> Info:
    return info(Config(), MODEL, MODEL, login=False)


def call(number: int) -> LiveStream:
    """Return a live stream of one channel with a tag."""
    name, tags = f"call-{number}", (f"queue:{number % GROUPS}",)
    return LiveStream(name, f"ses-{number}", ("customer",), (0,), tags, time.time())


def _events(stream: LiveStream) -> list[tuple[EncodedEvent, ...]]:
    """Return the events of five seconds of a stream, second by second."""
    bodies = AnalysisEvents(stream.roles, MODEL)
    events: list[Event] = [
        SpeechStart(0, 0, 0),
        Score(0, 0, 0, 48_000, "interval", 0.8, SHARES, {"10s": SHARES}, QUALITY, ()),
        Segment(0, 0, 0, 80_000, "speech_end", 1.0, SHARES, {"10s": SHARES}, QUALITY, ()),
    ]
    begin, spoken, last = (
        encode(bodies.body(event, 40), 1, stream.session_id, stream.stream_id, time.time())
        for event in events
    )
    stream.last[0] = spoken
    return [(begin, spoken), (spoken,), (spoken,), (spoken,), (spoken, last)]


async def measure(port: int, streams: int, seconds: float, home: bool) -> list[object]:
    """Return a row: share of a core, messages, losses by cause, most that waited, MB of growth.

    Dropped are those that found the outbox full, or that the stop could not deliver.
    """
    counts = dict.fromkeys(("sent", "dropped", "failed", "refused"), 0)

    def count(name: str, number: int) -> None:
        counts[name] += number

    config = MqttConfig.model_validate(
        {
            "host": "127.0.0.1",
            "port": port,
            "home_assistant": {"enabled": home},
        }
    )
    observer = MqttObserver(
        sent=lambda number: count("sent", number),
        dropped=lambda number: count("dropped", number),
        failed=lambda number: count("failed", number),
        refused=lambda number: count("refused", number),
    )
    sink = MqttSink(config, PrivacyConfig(), "bench", node_info, lambda: STATS, observer)
    task = asyncio.create_task(sink.run())
    calls = [call(number) for number in range(streams)]
    events = [_events(one) for one in calls]
    for one in calls:
        sink.opened(one)
    await asyncio.sleep(3)
    process = psutil.Process()
    memory, cpu, began = process.memory_info().rss, time.process_time(), time.monotonic()
    ticks, most = 20, 0
    for tick in range(int(seconds * ticks)):
        await asyncio.sleep(max(0.0, began + tick / ticks - time.monotonic()))
        for number in range(tick % ticks, streams, ticks):
            for event in events[number][tick // ticks % UTTERANCE_S]:
                sink.event(calls[number], event)
        most = max(most, sink.waiting)
    took = time.monotonic() - began
    used = time.process_time() - cpu
    grown = (process.memory_info().rss - memory) / 2**20
    await sink.stop(10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return [
        streams,
        f"{used / took:.1%}",
        f"{counts['sent'] / took:.0f}",
        counts["dropped"],
        counts["refused"],
        most,
        f"{grown:+.1f}",
    ]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="CPU of the MQTT sink with a real broker.")
    parser.add_argument("--port", type=int, default=1883, help="of the broker (1883)")
    parser.add_argument("--streams", type=int, default=500, help="streams at a time (500)")
    parser.add_argument("--seconds", type=float, default=60.0, help="duration (60)")
    parser.add_argument(
        "--home-assistant", action="store_true", help="publish devices of Home Assistant too"
    )
    options = parser.parse_args()
    home = options.home_assistant
    row = asyncio.run(measure(options.port, options.streams, options.seconds, home))
    heads = ["streams", "of a core", "messages/s", "dropped", "refused", "waiting", "memory MB"]
    print(table(heads, [row]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
