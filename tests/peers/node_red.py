"""A real Node-RED with the flow of deploy/node-red: rooms, alerts and servers, without an error.

Node-RED comes from the registry of npm into a folder (117 MB). It listens on loopback only.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.peers import debian
from tests.peers.debian import NotRun
from tests.peers.microphone import microphone
from tests.support.broker import Broker, free_port
from tests.support.running import ROOT, Server, running_server

VERSION = "node-red@4"
FLOW = ROOT / "deploy/node-red/flows.json"
START_S, CHANGE_S = 120.0, 45.0
ROOM = "kitchen"
VOICES = f"house/{ROOM}/voices"
SUMMARY = f"emotide/group/room%3A{ROOM}/summary"

SETTINGS = """module.exports = {{
  uiHost: "127.0.0.1", uiPort: {port}, flowFile: "flows.json",
  credentialSecret: "only-for-this-test", telemetry: {{enabled: false}},
  externalModules: {{autoInstall: false}},
}};
"""

CONFIGURATION = """
[server]
node = "n1"
[mqtt]
host = "127.0.0.1"
port = {port}
stats_interval_s = 2
[privacy]
hash_ids = false
min_group = 1
[[alerts.rules]]
name = "anything"
index = "activation"
above = 0.01
for_s = 0
"""

Row = list[object]


def install(folder: Path) -> Path:
    """Return the folder with Node-RED; install it if it is not there."""
    root = folder / "node-red"
    if not (root / "node_modules/node-red/red.js").exists():
        if shutil.which("npm") is None:
            raise NotRun("npm is not installed: apt-get install npm")
        root.mkdir(parents=True, exist_ok=True)
        quiet = ("--no-fund", "--no-audit", "--loglevel=error")
        debian.command("npm", "install", "--prefix", str(root), *quiet, VERSION)
    return root


def flow(port: int) -> str:
    """Return the flow for a broker on `port`, with results in the log and voices raised at once."""
    nodes = json.loads(FLOW.read_text())
    for node in nodes:
        if node["type"] == "mqtt-broker":
            node["port"] = str(port)
        elif node["type"] == "debug":
            node["console"] = True
        elif node["type"] == "tab":
            quick = {"RAISED": "0.02", "CALM": "0.01", "FOR_S": "0"}
            node["env"] = [{**item, "value": quick[item["name"]]} for item in node["env"]]
    return json.dumps(nodes)


class NodeRed:
    """A process of Node-RED with the flow, and its log."""

    def __init__(self, root: Path, user: Path, broker_port: int) -> None:
        (user / "flows.json").write_text(flow(broker_port))
        settings = user / "settings.js"
        settings.write_text(SETTINGS.format(port=free_port()))
        program = root / "node_modules/node-red/red.js"
        self._log = user / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["node", str(program), "-u", str(user), "-s", str(settings)],
                cwd=user,  # it takes flows.json of the working directory first
                stdout=log,
                stderr=log,
                env={**os.environ, "NO_UPDATE_NOTIFIER": "1"},
            )

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def shows(self, text: str, timeout_s: float = CHANGE_S) -> float:
        """Wait until the log has a text; return the seconds. Raises AssertionError."""
        began = time.monotonic()
        while text not in self.log:
            if self._process.poll() is not None or time.monotonic() - began > timeout_s:
                raise AssertionError(f"Node-RED did not show {text!r}: {self.log[-2000:]}")
            time.sleep(0.1)
        return time.monotonic() - began


class Reader:
    """Newest payload of a topic."""

    def __init__(self, port: int, topic: str) -> None:
        self._payload = ""
        self._changed = threading.Condition()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._received
        self._client.connect("127.0.0.1", port)
        self._client.subscribe(topic, 1)
        self._client.loop_start()

    def _received(self, client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        with self._changed:
            self._payload = message.payload.decode()
            self._changed.notify_all()

    def becomes(self, payload: str) -> float:
        """Wait until the newest payload is this one; return the seconds."""
        began = time.monotonic()
        with self._changed:
            if not self._changed.wait_for(lambda: self._payload == payload, CHANGE_S):
                raise AssertionError(f"{payload!r} did not come, but {self._payload!r}")
        return time.monotonic() - began

    def delete(self, topic: str) -> None:
        """Publish the empty message by which a server deletes a topic over MQTT 3.1.1."""
        self._client.publish(topic, b"", 1, True).wait_for_publish(10)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def rows(folder: Path) -> tuple[list[Row], list[str]]:
    """Return the rows of the table, and what went wrong."""
    try:
        root = install(folder)
        return _run(root), []
    except NotRun as why:
        return [["Node-RED", "deploy/node-red", "not run", str(why)]], []
    except AssertionError as problem:
        return [["Node-RED", "deploy/node-red", "failed", str(problem)]], [str(problem)]


@contextlib.contextmanager
def _running(root: Path, port: int) -> Iterator[NodeRed]:
    with tempfile.TemporaryDirectory() as user:
        red = NodeRed(root, Path(user), port)
        try:
            yield red
        finally:
            red.stop()


def _run(root: Path) -> list[Row]:
    with (
        tempfile.TemporaryDirectory() as folder,
        Broker(Path(folder)) as broker,
        _running(root, broker.port) as red,
    ):
        red.shows("Connected to broker", START_S)
        reader = Reader(broker.port, VOICES)
        try:
            config = CONFIGURATION.format(port=broker.port)
            with running_server(config=config, model="embedded") as server:
                found = _checks(red, reader, server)
        finally:
            reader.close()
        # Warnings of a node name it; the others are about the editor.
        errors = [x for x in red.log.splitlines() if re.search(r"\[error\]|\[warn\] \[", x)]
        assert not errors, errors[:3]
        version = json.loads((root / "node_modules/node-red/package.json").read_text())["version"]
        return [*found, ["Node-RED", "its log", "passed", f"{version}: no error or warning"]]


def _checks(red: NodeRed, reader: Reader, server: Server) -> list[Row]:
    found: list[Row] = []

    def row(check: str, seconds: float) -> None:
        found.append(["Node-RED", check, "passed", f"{seconds:.1f} s"])

    row("the server is online", red.shows("Emotide on n1 is online"))
    with microphone(server, ROOM):
        row("the mood of a room", red.shows(f"room: '{ROOM}'"))
        row("its voices are raised", reader.becomes("raised"))
        row("an alert as text", red.shows(f"anything: new, speaker of {ROOM}-box"))
    row("calm after the stream", reader.becomes("calm"))
    reader.delete(SUMMARY)
    server.errors_expected = True
    server.signal(signal.SIGKILL)
    server.exit()
    row("the killed server is offline", red.shows("Emotide on n1 is offline"))
    return found
