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
import urllib.request
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
from tests.support.broker import free_port
from tests.support.mqtt import until
from tests.support.scripted_server import Scripted

ROOT = Path(__file__).parents[2]
NO_SERVER = "ws://127.0.0.1:9"


@pytest.mark.parametrize("name", ["replay", "mic", "watch", "demo", "analyze"])
def test_help_has_examples(name: str) -> None:
    command = [sys.executable, "-m", f"client.{name}", "--help"]
    finished = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert f"emotide {name}" in finished.stdout
    assert "examples:" in finished.stdout or "environment:" in finished.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (["none.wav"], USAGE, "none.wav: no such file"),
        ([NO_SERVER], USAGE, "nothing to play"),
        ([__file__], USAGE, "test_commands.py: "),
        (["none.wav", "ftp://x"], USAGE, "is not an address like"),
        (["none.wav", "--ca-file", "none.pem"], USAGE, "none.pem: no such file"),
    ],
)
def test_replay_reports_invalid_usage(
    arguments: list[str], status: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert client.replay.main(arguments) == status
    assert expected in capsys.readouterr().err


def test_replay_without_a_server_names_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.wav", tone(0.1))
    assert client.replay.main([str(path), NO_SERVER]) == FAILED
    assert "python server.py" in capsys.readouterr().err


def test_watch_without_a_server_names_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert client.watch.main([NO_SERVER, "--once"]) == FAILED
    assert "python server.py" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--speed", "-1"], ["--chunk-ms", "0"], ["--encoding", "mp3"]])
def test_wrong_options_are_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        client.replay.main(["a.wav", *wrong])
    assert caught.value.code == USAGE
    assert wrong[0] in capsys.readouterr().err


async def replay(server: Scripted, *arguments: str) -> int:
    async with asyncio.timeout(60), server.running():
        options = client.replay.parse([*arguments, server.url, "--speed", "0"])
        return await client.replay.replay(options)


async def test_replay_of_two_files_joined(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left, right = tone(1.0), tone(0.5, hz=200)
    files = [str(write(tmp_path / "l.wav", left)), str(write(tmp_path / "r.flac", right))]
    server = Scripted(2, 8000)
    assert await replay(server, *files, "--join", "--encoding", "mulaw", "--stream-id", "x") == OK
    silent = np.zeros((4000, 1), np.int16)
    both = np.hstack([left, np.concatenate([right, silent])])
    assert server.audio == ENCODERS["mulaw"](both)
    assert server.requests[0]["roles"] == ["customer,agent"]
    assert server.requests[0]["stream_id"] == ["x"]
    output = capsys.readouterr().out
    assert "customer  angry 70%  sad 30%" in output
    assert "ended: completed" in output


async def test_replay_of_several_files_is_several_streams(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(write(tmp_path / f"{n}.wav", tone(0.2))) for n in "ab"]
    server = Scripted(2, 8000)
    assert await replay(server, *files, "--quiet", "--stream-id", "x") == OK
    assert sorted(request["stream_id"][0] for request in server.requests) == ["x-1", "x-2"]
    output = capsys.readouterr().out
    assert "a.wav: ended" in output
    assert "angry" not in output


async def test_replay_as_json(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    path = str(write(tmp_path / "a.wav", tone(0.3)))
    assert await replay(Scripted(2, 8000), path, "--json") == OK
    events = [json.loads(text) for text in capfdbinary.readouterr().out.splitlines()]
    assert events[0]["type"] == "session.created"
    assert [e["number"] for e in events if e["type"] == "emotion.score"] == [1, 2, 3]


async def interrupt_after(server: Scripted, samples: int) -> None:
    """Press Ctrl-C once the server has received a number of samples."""
    await until(lambda: server.sessions and server.samples >= samples)
    os.kill(os.getpid(), signal.SIGINT)


async def test_an_interrupted_replay_ends_the_call(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.wav", tone(0.5)))
    server = Scripted(2, 8000)

    async with asyncio.timeout(60), server.running():
        options = client.replay.parse([path, server.url, "--loop"])
        interrupting = asyncio.create_task(interrupt_after(server, 4800))
        status = await client.replay.replay(options)
        await interrupting

    assert status == INTERRUPTED
    assert 0.5 < server.samples / 8000 < 20.0, "the file of 0.5 s is repeated in real time"


def test_a_refusal_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    async def refuse() -> int:
        raise Refused(4403, "forbidden", "not allowed")

    assert run(refuse()) == FAILED
    assert capsys.readouterr().err == "refused by the server: not allowed (forbidden, 4403)\n"


async def watch(options: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run `client.watch` against a server with one stream; return its output."""

    async def publish(peer: ServerConnection) -> None:
        await peer.recv()
        for event in (
            {"type": "subscribed", "id": "s1", "matched": 1},
            {"type": "snapshot", "sub": "s1", "streams": [STREAM]},
            {"type": "session.closed", "stream_id": "call-1", "reason": "completed"},
        ):
            await peer.send(json.dumps(event))
        await peer.close()

    async with asyncio.timeout(60), serve(publish, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        parsed = client.watch.parser().parse_args([f"ws://127.0.0.1:{port}", *options])
        await client.watch.watch(parsed, Console(width=150))
    return capsys.readouterr().out


STREAM = {
    "stream_id": "call-1",
    "state": "active",
    "roles": ["customer"],
    "analysed": [0],
    "speaking": [],
    "last": [],
}


async def test_watch_once_prints_the_snapshot(capsys: pytest.CaptureFixture[str]) -> None:
    output = await watch(["--once"], capsys)
    assert "call-1" in output
    assert "active" in output


async def test_watch_prints_lines_to_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert await watch([], capsys) == "call-1: ended: completed\n"


def test_the_microphone_without_portaudio_names_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(name: str) -> ModuleType:
        raise OSError("PortAudio library not found")

    monkeypatch.setattr(importlib, "import_module", fail)
    assert client.mic.main(["--list-devices"]) == FAILED
    assert "apt-get install libportaudio2" in capsys.readouterr().err


class FakeStream:
    """Input stream that delivers a second of tone when it is opened."""

    def __init__(self, callback: Any, blocksize: int, **options: Any) -> None:
        self.callback, self.blocksize, self.options = callback, blocksize, options

    def __enter__(self) -> FakeStream:
        for start in range(0, 16_000, self.blocksize):
            block = tone(1.0, 16_000)[start : start + self.blocksize]
            self.callback(block.tobytes(), len(block), None, None)
        return self

    def __exit__(self, *_: object) -> None:
        pass


def fake_sounddevice(stream: Any) -> SimpleNamespace:
    listed = [
        {"name": "Speakers", "max_input_channels": 0, "default_samplerate": 44100.0},
        {"name": "USB Audio", "max_input_channels": 1, "default_samplerate": 48000.0},
    ]
    return SimpleNamespace(
        PortAudioError=RuntimeError,
        RawInputStream=stream,
        default=SimpleNamespace(device=[1, 0]),
        query_devices=lambda: listed,
    )


def test_microphones_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client.mic, "sounddevice_module", lambda: fake_sounddevice(None))
    assert client.mic.main(["--list-devices"]) == OK
    assert capsys.readouterr().out == "*   1  USB Audio  (48000 Hz)\n"


def test_the_error_of_a_microphone_lists_the_available_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("Invalid sample rate")

    monkeypatch.setattr(client.mic, "sounddevice_module", lambda: fake_sounddevice(fail))
    assert client.mic.main([NO_SERVER]) == FAILED
    output = capsys.readouterr().err
    assert "Invalid sample rate" in output
    assert "USB Audio" in output


@pytest.mark.parametrize("terminal", [False, True])
async def test_the_microphone_is_sent_until_ctrl_c(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client.mic, "sounddevice_module", lambda: fake_sounddevice(FakeStream))
    server = Scripted(2, 16_000)
    drawn = io.StringIO()

    async with asyncio.timeout(60), server.running():
        options = client.mic.parser().parse_args([server.url])
        interrupting = asyncio.create_task(interrupt_after(server, 16_000))
        console = Console(file=drawn, force_terminal=terminal, width=120, height=30)
        status = await client.mic.mic(options, console)
        await interrupting

    assert status == OK
    assert server.audio == ENCODERS["linear16"](tone(1.0, 16_000))
    output = capsys.readouterr().out
    assert "1.0 s of audio" in output
    assert ("level" in drawn.getvalue()) == terminal


async def test_an_unplugged_microphone_ends_the_call_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PortAudio reports nothing: the call stayed open for ever without audio."""
    monkeypatch.setattr(client.mic, "sounddevice_module", lambda: fake_sounddevice(FakeStream))
    monkeypatch.setattr(client.mic, "STALL_S", 0.3)
    server = Scripted(2, 16_000)
    async with asyncio.timeout(60), server.running():
        options = client.mic.parser().parse_args([server.url])
        with pytest.raises(client.mic.Unplugged, match="unplugged"):
            await client.mic.mic(options, Console(file=io.StringIO()))
    assert server.audio == ENCODERS["linear16"](tone(1.0, 16_000)), "nothing is lost"


async def test_a_room_microphone_waits_for_server_and_device(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It runs on a small box without a screen: whatever goes away comes back by itself."""
    opened = [0]

    class Plugged(FakeStream):
        def __init__(self, **options: Any) -> None:
            opened[0] += 1
            if opened[0] == 1:
                raise RuntimeError("No input device")
            super().__init__(**options)

    sounddevice = fake_sounddevice(Plugged)
    rescans: list[str] = []
    sounddevice._terminate = lambda: rescans.append("end")
    sounddevice._initialize = lambda: rescans.append("begin")
    monkeypatch.setattr(client.mic, "sounddevice_module", lambda: sounddevice)
    monkeypatch.setattr(client.mic, "STALL_S", 0.2)
    monkeypatch.setattr(client.mic, "RETRY_S", 0.05)
    server = Scripted(2, 16_000)
    stopping = asyncio.get_running_loop()
    port = free_port()
    options = client.mic.parser().parse_args([f"ws://127.0.0.1:{port}", "--room", "kitchen"])
    async with asyncio.timeout(60):
        task = asyncio.create_task(client.mic.mic(options, Console(file=io.StringIO())))
        await until(lambda: opened[0] >= 3, "neither a missing device nor a missing server ends it")
        async with server.running(port):
            begun = opened[0]
            await until(lambda: opened[0] >= begun + 2, "unplugged after a second, and back")
            stopping.call_soon(os.kill, os.getpid(), signal.SIGINT)
            assert await task == OK
    assert {"end", "begin"} == set(rescans)
    query = server.requests[0]
    assert query["tag"] == ["room:kitchen"]
    assert query["takeover"] == ["true"]
    assert query["stream_id"][0].startswith("kitchen-")
    output = capsys.readouterr()
    assert "No input device" in output.err
    assert "unplugged" in output.err


def test_a_wrong_key_ends_a_room_microphone() -> None:
    """systemd would otherwise show a service that runs and never works."""
    assert 4401 in client.mic.SETTINGS


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 49, "Küche"])
def test_the_name_of_a_room_must_fit_a_tag(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        client.mic.parser().parse_args(["--room", name])
    assert "living-room" in capsys.readouterr().err


def test_the_demo_config_names_the_basis_for_both_sides() -> None:
    config = load(client.demo.CONFIG, environ={})
    assert config.privacy.analyse_roles == ("customer", "agent")
    assert config.privacy.employee_basis == "acted_recording"
    assert config.model.name == "embedded"
    assert "actors" in client.demo.CONFIG.read_text()


def test_the_demo_uses_a_free_port_if_the_configured_one_is_busy() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert client.demo.free_port(port) != port
    assert client.demo.free_port(port) == port


def test_the_demo_prints_the_log_of_a_server_that_exits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "import sys; sys.exit('no model at all')"
    monkeypatch.setattr(client.demo, "SERVE", (sys.executable, "-c", code))
    assert client.demo.main([]) == FAILED
    output = capsys.readouterr().err
    assert "exited with status 1" in output
    assert "no model at all" in output


async def test_the_demo_stops_its_server_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import time; time.sleep(60)"
    monkeypatch.setattr(client.demo, "SERVE", (sys.executable, "-c", code))

    with (tmp_path / "log").open("w+b") as log, pytest.raises(CommandError, match="another error"):
        async with asyncio.timeout(60), client.demo.serving(0, log) as process:
            raise CommandError("another error")

    assert process.returncode == -signal.SIGTERM


async def test_the_demo_runs_on_in_a_terminal_with_its_call_in_the_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server of the demo ended with the call, so nobody could open the history of the page."""
    voices = np.hstack([tone(1.0), tone(1.0)])
    stops: list[asyncio.Event] = []
    port = free_port()
    monkeypatch.setattr(client.demo, "SAMPLE", write(tmp_path / "call.wav", voices))
    monkeypatch.setattr(client.demo, "stop_on_signals", stops.append)
    monkeypatch.setenv("DEMO_PORT", str(port))
    monkeypatch.delenv("DEMO_SECONDS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    console = Console(file=io.StringIO(), force_terminal=True)
    running = asyncio.create_task(client.demo.demo(console))
    printed: list[str] = []

    def ended() -> bool:
        printed.append(capsys.readouterr().out)
        return running.done() or "#history" in "".join(printed)

    await until(ended)
    assert f"http://127.0.0.1:{port}/#history" in "".join(printed)

    def kept() -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/history", timeout=5) as response:
            sessions: list[dict[str, Any]] = json.load(response)["sessions"]
            return sessions

    await until(kept)
    assert [one["stream_id"] for one in kept()] == ["demo"]
    assert kept()[0]["duration_s"] == pytest.approx(1.0, abs=0.1)
    stops[0].set()
    assert await running == OK


@pytest.mark.parametrize("name", ["DEMO_SECONDS", "DEMO_PORT"])
def test_the_demo_names_an_invalid_setting(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "soon")
    assert client.demo.main([]) == FAILED
    assert f"{name}='soon' is not a number" in capsys.readouterr().err
