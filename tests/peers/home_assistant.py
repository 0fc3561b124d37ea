"""A real Home Assistant in a folder: rooms appear, change, become unavailable, and return.

Home Assistant needs a newer Python than most systems have; `install` makes a Debian with it, in a
folder, in some minutes (1.1 GB). Its HTTP API, the broker and the server listen on loopback only;
its mDNS sockets do not.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stream.labels import LABELS
from tests.peers import debian
from tests.peers.debian import NotRun
from tests.peers.microphone import microphone
from tests.support.broker import Broker, free_port
from tests.support.running import running_server

SUITE = "sid"
PACKAGES = "ca-certificates,procps"
PYTHON = "python3.14 python3.14-venv python3.14-dev gcc g++ libturbojpeg0 libpcap0.8t64"
FOLDER = "/srv/ha"
START_S, CHANGE_S = 180.0, 45.0
ROOM = "kitchen"

CONFIGURATION = """homeassistant: {{name: Test, time_zone: UTC, unit_system: metric, country: DE}}
http: {{server_host: 127.0.0.1, server_port: {port}}}
logger:
  default: error
  logs: {{homeassistant.components.mqtt: info}}
"""

Row = list[object]


def install(folder: Path) -> Path:
    """Return the folder of a Debian with Home Assistant; make it if it is not there."""
    root = folder / "home-assistant"
    if (root / "srv/ha/venv/bin/hass").exists():
        return root
    debian.make(root, SUITE, PACKAGES)
    debian.command("chroot", str(root), "apt-get", "update", "-qq")
    quiet = ("apt-get", "install", "-y", "-qq", "--no-install-recommends")
    debian.command("chroot", str(root), *quiet, *PYTHON.split())
    debian.command("chroot", str(root), "python3.14", "-m", "venv", f"{FOLDER}/venv")
    debian.command("chroot", str(root), f"{FOLDER}/venv/bin/pip", "install", "-q", "homeassistant")
    return root


class HomeAssistant:
    """A process with a new configuration, and its HTTP API."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = root / "srv/ha/run.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._token = ""
        self._config = root / "srv/ha/config"

    def start(self, first: bool) -> None:
        """Start it and wait until it is running; at the first start with an empty configuration."""
        if first:
            shutil.rmtree(self._config, ignore_errors=True)
            self._config.mkdir(parents=True)
            text = CONFIGURATION.format(port=self.port)
            (self._config / "configuration.yaml").write_text(text)
        environ = {
            **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
            "PATH": f"{FOLDER}/venv/bin:/usr/sbin:/usr/bin:/bin",
            "HOME": "/srv",
            "LANG": "C.UTF-8",
            "SSL_CERT_FILE": debian.CERTIFICATES,
            "PIP_CERT": debian.CERTIFICATES,
        }
        command = ["chroot", str(self.root), f"{FOLDER}/venv/bin/hass", "-c", f"{FOLDER}/config"]
        # Its integrations install their requirements at the first start.
        command += [] if first else ["--skip-pip"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        self._wait(self._answers, START_S, "Home Assistant did not start")
        if first:
            self._onboard()
        self._wait(self._runs, START_S, "Home Assistant did not reach RUNNING")

    def stop(self) -> None:
        """End it with SIGTERM, as a supervisor does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
            self._process = None

    def add_broker(self, port: int) -> None:
        """Add the MQTT integration."""
        flows = "/api/config/config_entries/flow"
        flow = self.call("POST", flows, {"handler": "mqtt"})
        tcp = {"set_client_cert": False, "set_ca_cert": "off", "transport": "tcp"}
        answers = {"broker": "127.0.0.1", "port": port, "protocol": "5", "other_settings": tcp}
        done = self.call("POST", f"{flows}/{flow['flow_id']}", answers)
        if done.get("type") != "create_entry":
            raise AssertionError(f"the integration was not set up: {done}")

    def states(self) -> dict[str, dict[str, Any]]:
        """Return the states of all entities by id."""
        return {entity["entity_id"]: entity for entity in self.call("GET", "/api/states")}

    def becomes(self, entity: str, *states: str, timeout_s: float = CHANGE_S) -> float:
        """Wait until an entity has one of `states`; return the seconds. No state: until it exists.

        Raises AssertionError with its last state.
        """
        began, last = time.monotonic(), ""

        def reached() -> bool:
            nonlocal last
            found = self.states().get(entity)
            last = "missing" if found is None else found["state"]
            return found is not None and (not states or last in states)

        self._wait(reached, timeout_s, f"{entity} is not {states}", lambda: last)
        return time.monotonic() - began

    def call(self, method: str, path: str, body: Any = None, form: bool = False) -> Any:
        """Send a request to its API."""
        data, headers = None, {"Authorization": f"Bearer {self._token}"} if self._token else {}
        if body is not None:
            data = (urllib.parse.urlencode(body) if form else json.dumps(body)).encode()
            kind = "x-www-form-urlencoded" if form else "json"
            headers["Content-Type"] = f"application/{kind}"
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.loads(response.read() or b"null")

    def _answers(self) -> bool:
        with contextlib.suppress(urllib.error.HTTPError):
            self.call("GET", "/manifest.json")
        return True

    def _runs(self) -> bool:
        return bool(self.call("GET", "/api/config")["state"] == "RUNNING")

    def _onboard(self) -> None:
        client = {"client_id": f"{self.url}/"}
        user = {"name": "t", "username": "t", "password": "only-for-this-test", "language": "en"}
        code = self.call("POST", "/api/onboarding/users", {**client, **user})["auth_code"]
        grant = {"grant_type": "authorization_code", "code": code, **client}
        self._token = self.call("POST", "/auth/token", grant, form=True)["access_token"]
        self.call("POST", "/api/onboarding/core_config", {})
        self.call("POST", "/api/onboarding/analytics", {})
        self.call("POST", "/api/onboarding/integration", {**client, "redirect_uri": f"{self.url}/"})

    def _wait(
        self,
        condition: Callable[[], bool],
        timeout_s: float,
        problem: str,
        detail: Callable[[], str] = str,
    ) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(OSError):
                if condition():
                    return
            ended = self._process is not None and self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"{problem}: {detail()}")
            time.sleep(0.25)


@contextlib.contextmanager
def _mounted(root: Path) -> Iterator[None]:
    """Mount /proc and /dev into the folder, which Home Assistant needs, and unmount them."""
    targets = [root / "proc", root / "dev"]
    done = []
    try:
        if not (root / "proc/self").exists():
            debian.command("mount", "-t", "proc", "proc", str(targets[0]))
            done.append(targets[0])
        if not (root / "dev/null").is_char_device():
            debian.command("mount", "--bind", "/dev", str(targets[1]))
            done.append(targets[1])
        yield
    finally:
        for target in reversed(done):
            subprocess.run(["umount", "-l", str(target)], check=False, timeout=30)


def rows(folder: Path) -> tuple[list[Row], list[str]]:
    """Return the rows of the table, and what went wrong."""
    try:
        root = install(folder)
        with _mounted(root):
            return _run(root)
    except NotRun as why:
        return [["Home Assistant", "device discovery", "not run", str(why)]], []
    except AssertionError as problem:
        return [["Home Assistant", "device discovery", "failed", str(problem)]], [str(problem)]


def _run(root: Path) -> tuple[list[Row], list[str]]:
    home = HomeAssistant(root)
    with tempfile.TemporaryDirectory() as folder, Broker(Path(folder)) as broker:
        settings = {
            "mqtt.host": "127.0.0.1",
            "mqtt.port": broker.port,
            "mqtt.stats_interval_s": 2,
            "mqtt.home_assistant.enabled": "true",
            "privacy.min_group": 1,
            "server.node": "n1",
        }
        options = [word for k, v in settings.items() for word in ("--set", f"{k}={v}")]
        try:
            home.start(first=True)
            home.add_broker(broker.port)
            return _checks(home, options), []
        finally:
            home.stop()


def _checks(home: HomeAssistant, options: list[str]) -> list[Row]:
    speech_id = f"binary_sensor.{ROOM}_speech"
    label, node = f"sensor.{ROOM}_dominant_label", "binary_sensor.emotide_n1_connected"
    found: list[Row] = []

    def row(check: str, seconds: float) -> None:
        found.append(["Home Assistant", check, "passed", f"{seconds:.1f} s"])

    with running_server(*options) as server:
        row("the server is a device", home.becomes(node, "on"))
        with microphone(server, ROOM) as speaking:
            row("a room appears", home.becomes(speech_id))
            row("speech is on", home.becomes(speech_id, "on"))
            row("a dominant label", home.becomes(label, *LABELS))
            states = home.states()
            assert {*LABELS} <= {*states[label]["attributes"]["options"]}
            assert states[speech_id]["attributes"]["device_class"] == "sound"
            assert states[f"sensor.{ROOM}_neutral"]["attributes"]["unit_of_measurement"] == "%"
            speaking.clear()
            row("silence is off", home.becomes(speech_id, "off"))
            home.stop()
            home.start(first=False)
            row("known after its restart", home.becomes(speech_id, "off", "on"))
        row("unavailable without its microphone", home.becomes(speech_id, "unavailable"))
        with microphone(server, ROOM):
            row("back with it", home.becomes(speech_id, "on"))
            server.signal(signal.SIGKILL)
            row("unavailable without the server", home.becomes(speech_id, "unavailable"))
    row("the killed server is offline", home.becomes(node, "off"))
    with running_server(*options) as server, microphone(server, ROOM):
        row("back with the server", home.becomes(speech_id, "on"))
    problems = [line for line in home.log.read_text().splitlines() if "components.mqtt" in line]
    errors = [line for line in problems if "ERROR" in line or "WARNING" in line]
    assert not errors, errors[:3]
    found.append(["Home Assistant", "its log", "passed", "no error or warning of MQTT"])
    return found
