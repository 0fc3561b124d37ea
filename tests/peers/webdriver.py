"""A browser driven over WebDriver (W3C), without a library: a session, scripts, screenshots."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.broker import free_port

START_S, SCRIPT_S, REQUEST_S = 60.0, 40.0, 60.0


class Browser:
    """A session of a WebDriver."""

    def __init__(self, port: int, capabilities: Mapping[str, Any]) -> None:
        self._url = f"http://127.0.0.1:{port}/session"
        wanted = {"capabilities": {"alwaysMatch": dict(capabilities)}}
        created = self._call("POST", "", wanted)
        self._url += "/" + created["sessionId"]
        self.version = f"{created['capabilities'].get('browserVersion', '')}"
        self._call("POST", "/timeouts", {"script": int(SCRIPT_S * 1000)})

    def open(self, url: str) -> None:
        """Load a page."""
        self._call("POST", "/url", {"url": url})

    def run(self, script: str) -> Any:
        """Run the body of an async function on the page; return its result.

        Raises AssertionError with the page's exception.
        """
        wrapped = """const done = arguments[arguments.length - 1];
          (async () => {%s})().then((value) => done({ value }),
            (error) => done({ error: `${error.name}: ${error.message}` }));"""
        body = {"script": wrapped % script, "args": []}
        found = self._call("POST", "/execute/async", body)
        if "error" in found:
            raise AssertionError(found["error"])
        return found.get("value")

    def until(self, condition: str, timeout_s: float = 45.0) -> None:
        """Wait until an expression of the page is true. Raises AssertionError."""
        deadline = time.monotonic() + timeout_s
        while not self.run(f"return Boolean({condition})"):
            if time.monotonic() > deadline:
                raise AssertionError(f"not true after {timeout_s:.0f} s: {condition}")
            time.sleep(0.1)

    def screenshot(self, path: Path) -> None:
        """Write a picture of the window."""
        path.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))

    def quit(self) -> None:
        """End the browser."""
        self._call("DELETE", "")

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_S) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            value = json.load(error)["value"]
            raise AssertionError(f"{value['error']}: {value['message'][:300]}") from None
        except OSError as error:
            raise AssertionError(f"the browser does not answer: {error}") from None


@contextlib.contextmanager
def browser(
    command: list[str], capabilities: Mapping[str, Any], environ: Mapping[str, str], log: Path
) -> Iterator[Browser]:
    """Start a driver, whose command ends with its option for the port, and a browser; end both."""
    port = free_port()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command[:-1], f"{command[-1]}{port}"],
            env={**os.environ, **environ},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait(port, process)
        session = Browser(port, capabilities)
        try:
            yield session
        finally:
            with contextlib.suppress(AssertionError):
                session.quit()
    finally:
        # The driver may be the child of a script, which does not end it.
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5).close()
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"the WebDriver did not start: {process.args!r}")
        time.sleep(0.1)
