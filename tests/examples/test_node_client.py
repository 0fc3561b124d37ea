"""The example for Node sends a recording to a real server."""

from __future__ import annotations

import re
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.running import ROOT, Server, running_server
from tests.support.utterances import RATE, speech

EXAMPLE = ROOT / "examples" / "node-client.mjs"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server(model="embedded") as running:
        yield running


def node(*arguments: str) -> subprocess.CompletedProcess[str]:
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    # Node 22 has WebSockets without the flag, and will not know it for ever.
    flags = ["--experimental-websocket"] if int(version.stdout[1:].split(".")[0]) < 22 else []
    command = ["node", *flags, str(EXAMPLE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_node_prints_the_utterances_of_a_recording(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    with wave.open(str(path), "wb") as wav:
        wav.setparams((1, 2, RATE, 0, "NONE", ""))
        wav.writeframes(speech("03a01Wa.flac").tobytes())
    done = node(str(path), server.url)
    assert done.returncode == 0, done.stderr
    *utterances, last = done.stdout.splitlines()
    assert re.fullmatch(r"\d\.\d s 0 angry 0\.\d+ .*", utterances[0]), done.stdout
    assert last == "whole stream: speaker angry"
    assert not done.stderr


def test_node_reports_a_server_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    with wave.open(str(path), "wb") as wav:
        wav.setparams((1, 2, RATE, 0, "NONE", ""))
        wav.writeframes(bytes(10 * RATE))
    done = node(str(path), "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "fetch failed" in done.stderr
