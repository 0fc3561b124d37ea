"""The real server as a subprocess."""

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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import psutil

ROOT = Path(__file__).resolve().parents[2]

Event = dict[str, Any]


class Server:
    """A `server.py` that runs. `lines` are its log lines so far, `noise` what is no JSON."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[Event] = []
        self.noise: list[str] = []
        self.tidy = True
        """Whether the log must hold no errors; a test that provokes some says False."""
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

    def line(self, event: str, timeout: float = 20.0) -> Event:
        """Wait for the log line `event`."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for line in self.lines:
                    if line.get("event") == event:
                        return line
                left = deadline - time.monotonic()
                assert left > 0, f"no log line {event!r} in {timeout} s: {self.log()}"
                if not self._reader.is_alive():
                    raise AssertionError(f"the server ended without {event!r}: {self.log()}")
                self._changed.wait(min(left, 0.1))

    def listens(self, timeout: float = 20.0) -> None:
        """Wait until the port is open, which is before the model is loaded."""
        ours = psutil.Process(self.process.pid)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            assert not self.ended, self.log()
            for connection in ours.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    self.port = connection.laddr.port
                    self.url = f"http://127.0.0.1:{self.port}/"
                    return
            time.sleep(0.02)
        raise AssertionError(f"no open port in {timeout} s: {self.log()}")

    def log(self) -> str:
        return "\n".join([*(str(line) for line in self.lines), *self.noise])

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def exit(self, timeout: float = 10.0) -> int:
        """Wait for the end; the exit status."""
        status = self.process.wait(timeout)
        self._reader.join(5)
        return status

    def get(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (names in lower case) and body of a plain request."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=5)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, names, answer.read()
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        status, _, body = self.get(path)
        assert status == 200, (status, body)
        return orjson.loads(body)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name whose labels are as given."""
        from prometheus_client.parser import text_string_to_metric_families

        text = self.get("/metrics")[2].decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def rss(self) -> int:
        """Bytes of memory."""
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
                    self.noise.append(text.rstrip("\n"))
                self._changed.notify_all()


def start(
    *args: str,
    config: str | None = None,
    env: Mapping[str, str] | None = None,
    model: str = "tests.support.plugins:fast",
    folder: Path,
) -> Server:
    """`python server.py --port 0 …` in the repository root, with a clean environment."""
    command = [sys.executable, "-W", "default", "server.py", "--port", "0", "--model", model]
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
    """A server that may not be ready yet and may end as it likes; it never outlives the block."""
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
    """A server that is ready; at the end it is told to go and must do so cleanly.

    Cleanly is: status 0, only JSON on stderr, and no errors logged unless `tidy` was set to False.
    A test that ended it itself is not asked again.
    """
    with started_server(*args, **options) as server:
        ready = server.line("ready")
        server.url = ready["url"]
        server.port = int(server.url.rstrip("/").rpartition(":")[2])
        yield server
        if not server.ended:
            server.signal()
            assert server.exit(15) == 0, server.log()
            assert not server.noise, server.noise
            if server.tidy:
                bad = [x for x in server.lines if x["level"] in ("error", "critical")]
                assert not bad, bad


class Gate:
    """A file that the `blocked` and `loading` models look at; while it is shut, they wait."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def shut(self) -> None:
        self.path.touch()

    def open(self) -> None:
        self.path.unlink(missing_ok=True)
