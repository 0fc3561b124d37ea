"""The examples run as they are, with a real server and a real broker."""

from __future__ import annotations

import ast
import csv
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from examples import mood_light as untyped
from stream.history.storage.connect import open_engine, upgrade, writing
from stream.history.storage.identity import Identities
from stream.history.storage.store import insert
from tests.support import history_model as model
from tests.support.broker import Broker
from tests.support.running import ROOT, Server, running_server

EXAMPLES = ROOT / "examples"
mood_light: Any = untyped
"""The example for MicroPython, which has no types."""
SPEECH = ROOT / "tests/fixtures/emodb"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture(scope="module")
def server(broker: Broker) -> Iterator[Server]:
    port = ["--set", f"mqtt.port={broker.port}"]
    with running_server("--config", "configs/iot.toml", *port, model="embedded") as server:
        yield server


@contextmanager
def example(name: str, *arguments: str) -> Iterator[Iterator[str]]:
    """Run an example; yield its lines. It is ended after the block."""
    process = subprocess.Popen(
        [sys.executable, "-u", EXAMPLES / name, *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield iter(process.stdout)
    finally:
        process.kill()
        process.communicate(timeout=20)


def first(lines: Iterator[str], pattern: str) -> str:
    """Return the first line that matches; the test's timeout ends the wait."""
    for line in lines:
        if re.search(pattern, line):
            return line
    raise AssertionError(f"the example ended without {pattern}")


@contextmanager
def room(server: Server) -> Iterator[None]:
    """Play a call in the kitchen."""
    words = ["replay", "client/samples/call.flac", server.ws, "--tag", "room:kitchen", "--quiet"]
    words += ["--roles", "customer,agent", "--stream-id", "desk"]
    process = subprocess.Popen([sys.executable, "-m", "emotide", *words], cwd=ROOT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def test_the_supervisor_sees_a_call_and_the_light_changes(server: Server, broker: Broker) -> None:
    light_arguments = ("127.0.0.1", str(broker.port), "kitchen")
    with (
        example("supervisor.py", server.ws) as calls,
        example("mood_light.py", *light_arguments) as colours,
        room(server),
    ):
        assert re.fullmatch(r" *\d+% [! ] desk\n", first(calls, "desk"))
        shown = ast.literal_eval(first(colours, r"[1-9]"))
        assert max(shown) > 20


def test_the_supervisors_list_has_30_lines() -> None:
    assert len((EXAMPLES / "supervisor.py").read_text().splitlines()) <= 30


@pytest.mark.parametrize(
    ("summary", "colour"),
    [
        ({"top": "angry", "activation": 1.0}, (255, 0, 0)),
        ({"top": "sad", "activation": 0.0}, (0, 6, 25)),
        ({"streams": 1, "withheld": True}, mood_light.DARK),
        ({}, mood_light.DARK),
    ],
)
def test_a_room_without_a_mood_is_dark(
    summary: dict[str, object], colour: tuple[int, int, int]
) -> None:
    assert mood_light.colour(summary) == colour


def test_a_light_reads_long_messages_and_notices_the_end(tmp_path: Path) -> None:
    """A length of two bytes, and a broker that is killed: the light must not show an old mood."""
    with Broker(tmp_path) as broker:
        received = mood_light.messages("127.0.0.1", broker.port, "t")
        payload = "x" * 5000
        command = ["mosquitto_pub", "-p", str(broker.port), "-t", "t", "-r", "-m", payload]
        subprocess.run(command, check=True, timeout=20)
        assert next(received) == payload.encode()
        broker.kill()
        with pytest.raises(OSError, match=r"closed the connection|reset"):
            next(received)


def test_a_month_of_the_history_becomes_a_picture(tmp_path: Path) -> None:
    lines = (EXAMPLES / "history_month.py").read_text().partition("import json")[2].splitlines()
    assert len(lines) <= 25, "about twenty"
    url = f"sqlite:///{tmp_path}/history.db"
    engine = open_engine(url)
    upgrade(engine)
    with writing(engine) as connection:
        insert(connection, model.calls(60), Identities(None))
    engine.dispose()
    out = tmp_path / "month.png"
    history = ("--set", f"history.url={url}", "--set", f"history.spool={tmp_path / 'spool'}")
    with running_server(*history, "--set", "history.keep_days=0") as server:
        done = subprocess.run(
            [
                *(sys.executable, EXAMPLES / "history_month.py"),
                *(server.url.rstrip("/"), "2025-12", str(out)),
            ],
            env={"MPLCONFIGDIR": str(tmp_path), "PATH": ""},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert out.read_bytes().startswith(b"\x89PNG")


def test_a_folder_becomes_a_table_and_a_plot(tmp_path: Path) -> None:
    recordings, out = tmp_path / "recordings", tmp_path / "results"
    recordings.mkdir()
    for name in ("03a01Wa.flac", "08a01Fd.flac"):
        shutil.copy(SPEECH / name, recordings)
    command = [str(path) for path in (EXAMPLES / "batch.py", recordings, out)]
    done = subprocess.run(
        [sys.executable, *command, "--local"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "MPLCONFIGDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with (out / "utterances.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["recording"] for row in rows} == {"03a01Wa.flac", "08a01Fd.flac"}
    for row in rows:
        scores = [
            float(row[label] or 0) for label in ("angry", "happy", "neutral", "sad", "unknown")
        ]
        assert sum(scores) == pytest.approx(1, abs=0.01)
        assert float(row["start_s"]) < float(row["end_s"])
    assert (out / "emotions.png").read_bytes().startswith(b"\x89PNG")
