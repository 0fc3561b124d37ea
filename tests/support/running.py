"""Server processes for tests."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import psutil

ROOT = Path(__file__).resolve().parents[2]

PATIENCE_S = 60.0
"""Longest wait for what comes within a second: on a machine that does other work, a start or an
answer has taken 20 s."""

Event = dict[str, Any]


class Server:
    """A running `server.py`. `lines` are its log lines, `non_json` its other output on stderr."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[Event] = []
        self.non_json: list[str] = []
        self.errors_expected = False
        """True if the log may contain errors; set by tests that provoke them."""
        self.url = ""
        self.host, self.port = "127.0.0.1", 0
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def ws(self) -> str:
        return self.url.replace("http", "ws", 1).rstrip("/")

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def line(self, event: str, timeout: float = PATIENCE_S) -> Event:
        """Wait for the log line `event`."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for line in self.lines:
                    if line.get("event") == event:
                        return line
                remaining = deadline - time.monotonic()
                assert remaining > 0, f"no log line {event!r} in {timeout} s: {self.log()}"
                if not self._reader.is_alive():
                    raise AssertionError(f"the server ended without {event!r}: {self.log()}")
                self._changed.wait(min(remaining, 0.1))

    def wait_for_port(self, timeout: float = PATIENCE_S) -> None:
        """Wait until the port is open; this is before the model is loaded."""
        process = psutil.Process(self.process.pid)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            assert not self.ended, self.log()
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    self.port = connection.laddr.port
                    self.url = f"http://127.0.0.1:{self.port}/"
                    return
            time.sleep(0.02)
        raise AssertionError(f"no open port in {timeout} s: {self.log()}")

    def log(self) -> str:
        return "\n".join([*(str(line) for line in self.lines), *self.non_json])

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def exit(self, timeout: float = PATIENCE_S) -> int:
        """Wait for the process to exit; return its status."""
        status = self.process.wait(timeout)
        self._reader.join(5)
        return status

    def get(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a plain request; return its status, headers (names in lower case) and body."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            response = connection.getresponse()
            received = {name.lower(): value for name, value in response.getheaders()}
            return response.status, received, response.read()
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        status, _, body = self.get(path)
        assert status == 200, (status, body)
        return orjson.loads(body)

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of all samples of this name that have the given labels."""
        from prometheus_client.parser import text_string_to_metric_families

        text = self.get("/metrics")[2].decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def rss(self) -> int:
        """Return the resident memory in bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def fds(self) -> int:
        return int(psutil.Process(self.process.pid).num_fds())

    def _read(self) -> None:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            with self._changed:
                try:
                    line = orjson.loads(text)
                    self.lines.append(line if isinstance(line, dict) else {"event": line})
                except orjson.JSONDecodeError:
                    self.non_json.append(text.rstrip("\n"))
                self._changed.notify_all()


def start(
    *args: str,
    config: str | None = None,
    env: Mapping[str, str] | None = None,
    model: str = "tests.support.plugins:fast",
    folder: Path,
    wrapper: Sequence[str] = (),
) -> Server:
    """Start `python server.py --port 0 …` in the repository root, with a clean environment.

    `wrapper` is a command that runs the command behind it.
    """
    command = [
        *wrapper,
        sys.executable,
        "-W",
        "default",
        "server.py",
        "--port",
        "0",
        "--model",
        model,
    ]
    if config is not None:
        path = folder / "server.toml"
        path.write_text(config, encoding="utf-8")
        command += ["--config", str(path)]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("EMOT")}
    process = subprocess.Popen(
        [*command, *args],
        cwd=ROOT,
        env={**clean, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    return Server(process)


@contextlib.contextmanager
def started_server(*args: str, **options: Any) -> Iterator[Server]:
    """Start a server that may exit in any way; kill it at the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        server = start(*args, folder=Path(folder), **options)
        try:
            yield server
        finally:
            if not server.ended:
                server.process.kill()
            server.exit()
            assert server.process.stderr is not None
            server.process.stderr.close()


@contextlib.contextmanager
def running_server(*args: str, **options: Any) -> Iterator[Server]:
    """Start a server and wait until it is ready; stop it at the end and require a clean exit.

    A clean exit has status 0, only JSON on stderr, and no logged errors unless `errors_expected`
    is set. A server that the test has already stopped is not checked.
    """
    with started_server(*args, **options) as server:
        ready = server.line("ready")
        server.url = ready["url"]
        server.port = int(server.url.rstrip("/").rpartition(":")[2])
        yield server
        if not server.ended:
            server.signal()
            assert server.exit() == 0, server.log()
            assert not server.non_json, server.non_json
            if not server.errors_expected:
                errors = [x for x in server.lines if x["level"] in ("error", "critical")]
                assert not errors, errors


class Gate:
    """File that the `blocked` and `loading` models check; they wait while it exists."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def shut(self) -> None:
        self.path.touch()

    def open(self) -> None:
        self.path.unlink(missing_ok=True)
