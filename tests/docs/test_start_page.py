"""The commands of docs/index.md, which promises a first score in five minutes, do what it says."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from client import mic
from stream.labels import LABELS
from tests.support.broker import Broker
from tests.support.running import ROOT, Server, running_server

PAGE = ROOT / "docs/index.md"
EMOTIDE = ".venv/bin/emotide "
DEFAULT = "127.0.0.1:8765"


def commands(page: Path) -> list[str]:
    """Return the commands of a page, in order."""
    blocks = re.findall(r"^```sh\n(.+?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def words(start: str) -> list[str]:
    """Return the words of the one command of the page that begins with `start`, without it."""
    [found] = {line for line in commands(PAGE) if line.startswith(start)}
    return shlex.split(found.removeprefix(start))


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program; end it after the block."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=20)


def emotide(arguments: Sequence[str], server: Server) -> list[str]:
    """Return a command of Emotide with the address of the server of this test."""
    return [sys.executable, "-m", "emotide", *arguments, server.ws]


def output(command: Sequence[str]) -> str:
    """Return what a program prints; it must succeed."""
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture(scope="module")
def server(broker: Broker) -> Iterator[Server]:
    """The server as the page starts it for rooms, with the broker of this test."""
    settings = words(f"{EMOTIDE}serve --config")
    port = ["--set", f"mqtt.port={broker.port}"]
    with running_server("--config", *settings, *port, model="embedded") as server:
        yield server


def test_a_call_is_scored_and_watched(server: Server) -> None:
    replay = ["replay", *words(f"{EMOTIDE}replay client/samples/call.flac --roles")]
    replay[1:1] = ["client/samples/call.flac", "--roles"]
    with running(*emotide(replay, server)) as call:
        assert call.stdout is not None
        for line in call.stdout:
            if re.search(r"customer +(angry|happy|neutral|sad|unknown) +\d+%", line):
                break
        else:
            pytest.fail("the call ended without a score")
        watch = ["watch", *words(f"{EMOTIDE}watch"), "--once"]
        assert "customer" in output(emotide(watch, server))


def test_a_recording_is_analysed_with_curl(server: Server) -> None:
    command = [
        "curl",
        *(word.replace(DEFAULT, f"{server.host}:{server.port}") for word in words("curl ")),
    ]
    result = json.loads(output([*command, "--silent"]))
    assert result["status"] == "done", result
    assert server.get("/")[0] == 200, "the page"


def test_a_room_arrives_over_mqtt(server: Server, broker: Broker) -> None:
    limits = ["-p", str(broker.port), "-R", "-C", "1"]  # one message that was not retained before
    subscribe = ["mosquitto_sub", *words("mosquitto_sub "), *limits]
    replay = ["replay", *words(f"{EMOTIDE}replay client/samples/call.flac --stream-id")]
    replay[1:1] = ["client/samples/call.flac", "--stream-id"]
    with running(*subscribe) as reader, running(*emotide(replay, server)):
        assert reader.stdout is not None
        topic, _, payload = reader.stdout.readline().partition(" ")
    assert re.fullmatch(r"emotide/stream/desk/(customer|agent)/score", topic)
    assert json.loads(payload)["top"] in LABELS


def test_the_other_commands_exist() -> None:
    """`make install` and the packages are not installed again; a test has no microphone."""
    options = mic.parser().parse_args(words(f"{EMOTIDE}mic "))
    assert options.room == "kitchen"
    makefile = (ROOT / "Makefile").read_text()
    for line in commands(PAGE):
        if line.startswith("make "):
            assert re.search(rf"^{line.removeprefix('make ')}: .*## ", makefile, re.MULTILINE), line


def test_both_languages_have_the_same_commands() -> None:
    assert commands(PAGE) == commands(ROOT / "docs/index.zh.md")
