"""A real Prometheus that scrapes a server: every expression of boards and rules has an answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from client.audio.playback import PlaybackClock
from client.remote.call import stream
from tests.deploy.test_monitoring import expressions, plain
from tests.support.broker import Broker, free_port
from tests.support.running import running_server
from tests.support.utterances import RATE, talk

Row = list[object]

TRAFFIC_S = 25.0

RARE = (
    "emotide_quota_refusals_total",
    "emotide_protocol_errors_total",
    "emotide_files_total",
    "emotide_speech_dropped_seconds_total",
    "emotide_events_dropped_total",
    "emotide_delivery_errors_total",
    "emotide_webhook_messages_total",
    "emotide_probes_total",
)
"""Counters by label that have no series before something went wrong, or a recording was sent."""

CONFIGURATION = """global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: emotide
    static_configs: [{{targets: ['127.0.0.1:{port}']}}]
"""


def rows() -> tuple[list[Row], list[str]]:
    """Return the rows of the table, and what went wrong."""
    found = shutil.which("prometheus")
    if found is None:
        return [["Prometheus", "-", "not run", "apt-get install prometheus"]], []
    with tempfile.TemporaryDirectory() as folder, Broker(Path(folder)) as broker:
        options = {
            "mqtt.host": "127.0.0.1",
            "mqtt.port": broker.port,
            "privacy.min_group": 1,
            "history.url": f"sqlite:///{folder}/history.db",
            "history.spool": f"{folder}/spool",
        }
        words = [word for k, v in options.items() for word in ("--set", f"{k}={v}")]
        with running_server(*words) as server:
            port = free_port()
            config = Path(folder) / "prometheus.yml"
            config.write_text(CONFIGURATION.format(port=server.port))
            command = [
                found,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=error",
            ]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            try:
                asyncio.run(_traffic(server.ws))
                return _ask(f"http://127.0.0.1:{port}")
            finally:
                process.terminate()
                process.wait(20)


async def _traffic(url: str) -> None:
    """Send a minute of the life of a room, in real time."""
    words, block = talk(TRAFFIC_S), RATE // 5 * 2
    async with stream(url, tags=["room:kitchen"]) as call:
        clock = PlaybackClock()
        for at in range(0, len(words), block):
            await clock.until(at / 2 / RATE)
            await call.send(words[at : at + block])
    # Short, so that its end is in the last minute.
    async with stream(url, tags=["room:kitchen"]) as call:
        await call.send(words[: 4 * block])
        await asyncio.sleep(2.5)


def _ask(url: str) -> tuple[list[Row], list[str]]:
    asked = answered = rare = 0
    problems: list[str] = []
    for place, expression in expressions():
        text = expression.replace('=~"$instance"', '=~".*"').replace('=~"$tenant"', '=~".*"')
        text = plain(text.replace('=~"$group"', '=~".*"'))
        asked += 1
        try:
            series = _query(url, text)
        except urllib.error.HTTPError as error:
            problems.append(f"{place}: {error.read().decode()[:200]}")
            continue
        is_alert = not place.startswith(("operators", "groups"))
        if series or is_alert:
            answered += 1
        elif any(name in expression for name in RARE):
            rare += 1
        else:
            problems.append(f"{place}: no series for {text}")
    summary = f"{answered} of {asked}; {rare} have series only after an error or a recording"
    result = "failed" if problems else "passed"
    return [["Prometheus", "expressions of boards and rules", result, summary]], problems


def _query(url: str, expression: str) -> list[object]:
    query = urllib.parse.urlencode({"query": expression})
    deadline = time.monotonic() + 20
    while True:
        with (
            contextlib.suppress(ConnectionRefusedError),
            urllib.request.urlopen(f"{url}/api/v1/query?{query}", timeout=10) as answer,
        ):
            found: list[object] = json.loads(answer.read())["data"]["result"]
            return found
        if time.monotonic() > deadline:
            raise AssertionError("Prometheus does not answer")
        time.sleep(0.2)
