from __future__ import annotations

import asyncio
import importlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from websockets.asyncio.server import ServerConnection, serve

import client.demo
import client.mic
import client.replay
import client.watch
from client import Refused
from client.audio.encoders import ENCODERS
from client.terminal.options import FAILED, INTERRUPTED, OK, USAGE, CommandError, run
from stream.config_file import load
from tests.client.audio.test_files import tone, write
from tests.support.scripted_server import Scripted, within

ROOT = Path(__file__).parents[2]
NOBODY = "ws://127.0.0.1:9"


@pytest.mark.parametrize("name", ["replay", "mic", "watch", "demo", "analyze"])
def test_help_teaches(name: str) -> None:
    command = [sys.executable, "-m", f"client.{name}", "--help"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert f"python -m client.{name}" in told.stdout
    assert "examples:" in told.stdout or "environment:" in told.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["none.wav"], USAGE, "none.wav: no such file"),
        ([NOBODY], USAGE, "nothing to play"),
        ([__file__], USAGE, "test_commands.py: "),
        (["none.wav", "ftp://x"], USAGE, "is not an address like"),
        (["none.wav", "--ca-file", "none.pem"], USAGE, "none.pem: no such file"),
    ],
)
def test_replay_says_what_is_wrong(
    arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert client.replay.main(arguments) == status
    assert said in capsys.readouterr().err


def test_replay_without_a_server_says_how_to_start_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.wav", tone(0.1))
    assert client.replay.main([str(path), NOBODY]) == FAILED
    assert "python server.py" in capsys.readouterr().err


def test_watch_without_a_server_says_how_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert client.watch.main([NOBODY, "--once"]) == FAILED
    assert "python server.py" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--speed", "-1"], ["--chunk-ms", "0"], ["--encoding", "mp3"]])
def test_wrong_options_are_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        client.replay.main(["a.wav", *wrong])
    assert caught.value.code == USAGE
    assert wrong[0] in capsys.readouterr().err


def replayed(server: Scripted, *arguments: str) -> int:
    async def check() -> int:
        async with server.running():
            options = client.replay.parse([*arguments, server.url, "--speed", "0"])
            return await client.replay.replay(options)

    status: int = within(20, check())
    return status


def test_replay_of_two_files_joined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left, right = tone(1.0), tone(0.5, hz=200)
    files = [str(write(tmp_path / "l.wav", left)), str(write(tmp_path / "r.flac", right))]
    server = Scripted(2, 8000)
    assert replayed(server, *files, "--join", "--encoding", "mulaw", "--stream-id", "x") == OK
    silent = np.zeros((4000, 1), np.int16)
    both = np.hstack([left, np.concatenate([right, silent])])
    assert server.audio == ENCODERS["mulaw"](both)
    assert server.requests[0]["roles"] == ["customer,agent"]
    assert server.requests[0]["stream_id"] == ["x"]
    said = capsys.readouterr().out
    assert "customer  angry 70%  sad 30%" in said
    assert "ended: completed" in said


def test_replay_of_several_files_is_several_streams(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(write(tmp_path / f"{n}.wav", tone(0.2))) for n in "ab"]
    server = Scripted(2, 8000)
    assert replayed(server, *files, "--quiet", "--stream-id", "x") == OK
    assert sorted(request["stream_id"][0] for request in server.requests) == ["x-1", "x-2"]
    said = capsys.readouterr().out
    assert "a.wav: ended" in said
    assert "angry" not in said


def test_replay_as_json(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    path = str(write(tmp_path / "a.wav", tone(0.3)))
    assert replayed(Scripted(2, 8000), path, "--json") == OK
    events = [json.loads(text) for text in capfdbinary.readouterr().out.splitlines()]
    assert events[0]["type"] == "session.created"
    assert [e["number"] for e in events if e["type"] == "emotion.score"] == [1, 2, 3]


def test_replay_that_is_interrupted_ends_the_call(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.wav", tone(0.5)))
    server = Scripted(2, 8000)

    async def check() -> int:
        async with server.running():
            options = client.replay.parse([path, server.url, "--loop"])
            asyncio.get_running_loop().call_later(0.8, os.kill, os.getpid(), signal.SIGINT)
            return await client.replay.replay(options)

    assert within(20, check()) == INTERRUPTED
    assert 0.5 < server.samples / 8000 < 2.0


def test_a_refusal_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    async def refuse() -> int:
        raise Refused(4403, "forbidden", "not you")

    assert run(refuse()) == FAILED
    assert capsys.readouterr().err == "the server refuses: not you (forbidden, 4403)\n"


def watched(options: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    async def tell(peer: ServerConnection) -> None:
        await peer.recv()
        for event in (
            {"type": "subscribed", "id": "s1", "matched": 1},
            {"type": "snapshot", "sub": "s1", "streams": [STREAM]},
            {"type": "session.closed", "stream_id": "call-1", "reason": "completed"},
        ):
            await peer.send(json.dumps(event))
        await peer.close()

    async def check() -> None:
        async with serve(tell, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            parsed = client.watch.parser().parse_args([f"ws://127.0.0.1:{port}", *options])
            await client.watch.watch(parsed, Console(width=150))

    within(10, check())
    return capsys.readouterr().out


STREAM = {
    "stream_id": "call-1",
    "state": "active",
    "roles": ["customer"],
    "analysed": [0],
    "speaking": [],
    "last": [],
}


def test_watch_prints_what_is_known_once(capsys: pytest.CaptureFixture[str]) -> None:
    said = watched(["--once"], capsys)
    assert "call-1" in said
    assert "active" in said


def test_watch_prints_lines_when_it_is_piped(capsys: pytest.CaptureFixture[str]) -> None:
    assert watched([], capsys) == "call-1: ended: completed\n"


def test_the_microphone_without_portaudio_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(name: str) -> ModuleType:
        raise OSError("PortAudio library not found")

    monkeypatch.setattr(importlib, "import_module", fail)
    assert client.mic.main(["--list-devices"]) == FAILED
    assert "apt-get install libportaudio2" in capsys.readouterr().err


class FakeStream:
    """Hears a second of tone as soon as it is opened."""

    def __init__(self, callback: Any, blocksize: int, **options: Any) -> None:
        self.callback, self.blocksize, self.options = callback, blocksize, options

    def __enter__(self) -> FakeStream:
        for start in range(0, 16_000, self.blocksize):
            block = tone(1.0, 16_000)[start : start + self.blocksize]
            self.callback(block.tobytes(), len(block), None, None)
        return self

    def __exit__(self, *_: object) -> None:
        pass


def fake_sound(stream: Any) -> SimpleNamespace:
    found = [
        {"name": "Speakers", "max_input_channels": 0, "default_samplerate": 44100.0},
        {"name": "USB Audio", "max_input_channels": 1, "default_samplerate": 48000.0},
    ]
    return SimpleNamespace(
        PortAudioError=RuntimeError,
        RawInputStream=stream,
        default=SimpleNamespace(device=[1, 0]),
        query_devices=lambda: found,
    )


def test_microphones_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client.mic, "sound", lambda: fake_sound(None))
    assert client.mic.main(["--list-devices"]) == OK
    assert capsys.readouterr().out == "*   1  USB Audio  (48000 Hz)\n"


def test_a_microphone_that_cannot_be_opened_says_which_could(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("Invalid sample rate")

    monkeypatch.setattr(client.mic, "sound", lambda: fake_sound(fail))
    assert client.mic.main([NOBODY]) == FAILED
    said = capsys.readouterr().err
    assert "Invalid sample rate" in said
    assert "USB Audio" in said


@pytest.mark.parametrize("terminal", [False, True])
def test_the_microphone_is_sent_until_ctrl_c(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client.mic, "sound", lambda: fake_sound(FakeStream))
    server = Scripted(2, 16_000)
    drawn = io.StringIO()

    async def check() -> int:
        async with server.running():
            options = client.mic.parser().parse_args([server.url])
            asyncio.get_running_loop().call_later(0.5, os.kill, os.getpid(), signal.SIGINT)
            console = Console(file=drawn, force_terminal=terminal, width=120, height=30)
            return await client.mic.listen(options, console)

    assert within(10, check()) == OK
    assert server.audio == ENCODERS["linear16"](tone(1.0, 16_000))
    said = capsys.readouterr().out
    assert "1.0 s of audio" in said
    assert ("level" in drawn.getvalue()) == terminal


def test_the_demo_may_show_both_sides_and_says_why() -> None:
    config = load(client.demo.CONFIG, environ={})
    assert config.privacy.analyse_roles == ("customer", "agent")
    assert config.privacy.employee_basis == "acted_recording"
    assert config.model.name == "embedded"
    assert "actors" in client.demo.CONFIG.read_text()


def test_the_demo_takes_another_port_when_the_configured_one_is_busy() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        taken = busy.getsockname()[1]
        assert client.demo.free_port(taken) != taken
    assert client.demo.free_port(taken) == taken


def test_the_demo_shows_why_its_server_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "server.py").write_text("import sys; sys.exit('no model at all')")
    monkeypatch.setattr(client.demo, "ROOT", tmp_path)
    assert client.demo.main([]) == FAILED
    said = capsys.readouterr().err
    assert "ended with status 1" in said
    assert "no model at all" in said


def test_the_demo_leaves_no_server_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(client.demo, "ROOT", tmp_path)

    async def check() -> int | None:
        with (tmp_path / "log").open("w+b") as log:
            try:
                async with client.demo.serving(0, log) as process:
                    raise CommandError("something else went wrong")
            except CommandError:
                return process.returncode

    assert within(10, check()) == -signal.SIGTERM


@pytest.mark.parametrize("name", ["DEMO_SECONDS", "DEMO_PORT"])
def test_the_demo_names_a_wrong_setting(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "soon")
    assert client.demo.main([]) == FAILED
    assert f"{name}='soon' is not a number" in capsys.readouterr().err
