"""Real clients that are given as files: Genesys AudioHook, Vosk, FunASR. Nothing is installed."""

from __future__ import annotations

import base64
import os
import pty
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import wave
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import soxr

from stream.server.access.auth import make_key
from tests.support.running import Server, running_server
from tests.support.utterances import speech

CLIENT_S = 120.0
SESSIONS = 100
VOSK_PORT = 2700
"""The port that Vosk's clients dial; it is written in them."""

VOSK = ("test.py", "test_words.py", "test_alternatives.py", "test_srt.py", "test_ffmpeg.py")
SECRET = b"a-secret-of-32-bytes-for-a-test!"

HEADS = ("client", "version", "run", "result")

Row = list[object]


class Failed(Exception):
    """A client that did not get what it needs; the text says what."""


def rows() -> tuple[list[Row], list[str]]:
    """Return a row for each run of a client, and the runs that failed."""
    found: list[Row] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for variable, title, runs in (
            ("AUDIOHOOK_CLIENT", "Genesys AudioHook", audiohook),
            ("VOSK_CLIENT", "vosk-server", vosk),
            ("FUNASR_CLIENT", "FunASR", funasr),
        ):
            path = Path(os.environ.get(variable, ""))
            if not os.environ.get(variable) or not path.exists():
                found.append([title, "-", "all", f"not run: {variable} is not set to a path"])
                continue
            for run, call in runs(path.resolve(), folder).items():
                try:
                    result = call()
                except Failed as error:
                    result = f"failed: {error}"
                    failed.append(f"{title} {run}: {error}")
                found.append([title, _version(path), run, result])
    return found, failed


def _version(path: Path) -> str:
    folder = path if path.is_dir() else path.parent
    done = subprocess.run(
        ["git", "-C", str(folder), "log", "-1", "--format=%h", "--", "."],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "not a checkout"


def _recording(path: Path, rate: int, channels: int = 1) -> Path:
    """Write real speech of two utterances, 16 bits; a second channel is silent."""
    samples = soxr.resample(speech().astype(np.float32) / 32768, 16_000, rate)
    pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2")
    if channels == 2:
        pcm = np.stack([pcm, np.zeros_like(pcm)], axis=1).reshape(-1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.tobytes())
    return path


# -- Genesys ---------------------------------------------------------------------------------


def audiohook(client: Path, folder: Path) -> dict[str, Callable[[], str]]:
    """Return the runs of Genesys' reference client, which is built in `client`/dist."""
    stereo = str(_recording(folder / "stereo.wav", 8_000, 2))
    mono = str(_recording(folder / "mono.wav", 8_000))
    script = next(client.glob("dist/**/client/src/index.js"), None)
    key, digest = make_key()
    config = (
        f'[auth.keys.genesys]\nsha256 = "{digest}"\nscopes = ["stream", "subscribe", "metrics"]\n'
        f'[telephony]\naudiohook_secrets = {{genesys = "{base64.b64encode(SECRET).decode()}"}}\n'
    )

    def run(*arguments: str, secret: bytes = SECRET, expected: int = 1) -> str:
        if script is None:
            raise Failed(f"{client} is not built: no dist/…/client/src/index.js")
        with running_server(config=config, model="embedded") as server:
            text = _in_terminal(
                *("node", str(script), "--uri", server.ws + "/v1/audiohook", "--api-key", key),
                *("--client-secret", base64.b64encode(secret).decode(), *arguments),
            )
            closed = text.count("onClosedMessage - Session closed")
            opened = text.count("Session open!")
            ended = _ended(server, key)
            # On a busy machine the client exits before the end of its log is written.
            if opened != expected or expected not in (closed, ended):
                raise Failed(
                    f"{opened} opened, {closed} closed, {ended} streams completed of {expected}: "
                    f"{text[-500:]}"
                )
            longest = [float(ms) for ms in re.findall(r"p99\s+=\s+([0-9.]+) ms", text)]
            rtt = f"; pings p99 {longest[0]:.0f} ms" if longest else ""
            return f"{opened} opened, {closed} closed, {ended} streams completed{rtt}"

    def wrong() -> str:
        run("--max-stream-duration", "2", secret=b"x" * 32, expected=0)
        return "refused with 401"

    many = ("--session-count", str(SESSIONS), "--connection-rate", "1000")
    return {
        "stereo file, signed": lambda: run("--wavfile", stereo, "--max-stream-duration", "6"),
        "file of one channel": lambda: run("--wavfile", mono, "--max-stream-duration", "6"),
        "connection probe": lambda: run("--connection-probe"),
        "wrong client secret": wrong,
        f"{SESSIONS} sessions at once": lambda: run(
            *many, "--wavfile", stereo, "--max-stream-duration", "5", expected=SESSIONS
        ),
    }


def _ended(server: Server, key: str) -> int:
    """Return the number of streams that ended as asked."""
    name = 'emotide_sessions_total{adapter="audiohook",reason="completed"}'
    deadline = time.monotonic() + 10
    while True:
        body = server.get("/metrics", headers={"Authorization": f"Bearer {key}"})[2].decode()
        active = re.search(r'emotide_sessions_active\{adapter="audiohook"\} ([0-9.]+)', body)
        found = re.search(re.escape(name) + " ([0-9.]+)", body)
        if active is None or float(active[1]) == 0 or time.monotonic() > deadline:
            return int(float(found[1])) if found else 0
        time.sleep(0.1)


def _in_terminal(*command: str) -> str:
    """Run a command in a terminal of its own, without which the client fails; return its text."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    text = bytearray()

    def read() -> None:
        try:
            while data := os.read(ours, 65_536):
                text.extend(data)
        except OSError:
            pass  # the other side of the terminal is closed

    reader = threading.Thread(target=read)
    reader.start()
    try:
        process.wait(CLIENT_S)
    except subprocess.TimeoutExpired:
        raise Failed(f"the client did not end in {CLIENT_S:g} s") from None
    finally:
        process.kill()
        process.wait()
        reader.join(5)
        os.close(ours)
    return text.decode("utf-8", "replace")


# -- Vosk and FunASR -------------------------------------------------------------------------


def vosk(client: Path, folder: Path) -> dict[str, Callable[[], str]]:
    """Return the runs of the clients beside vosk-server's test.py, as they are."""
    recording = str(_recording(folder / "vosk.wav", 16_000))

    def run(name: str) -> str:
        if name == "test_ffmpeg.py" and shutil.which("ffmpeg") is None:
            return "not run: ffmpeg is not installed"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", VOSK_PORT)) == 0:
                return f"not run: port {VOSK_PORT} is in use"
        with running_server("--port", str(VOSK_PORT), model="embedded"):
            began = time.monotonic()
            text = _run(client.parent / name, recording)
            took = time.monotonic() - began
        if text.startswith("not run"):
            return text
        lines = text.strip().splitlines()
        if name == "test_srt.py":
            if "-->" not in text:
                raise Failed(f"no subtitles: {text[-300:]}")
            return f"subtitles of {text.count('-->')} lines, {took:.1f} s"
        if '"result"' not in lines[-1]:
            raise Failed(f"the last answer has no result: {lines[-1][:300]}")
        return f"{len(lines)} answers, the last with the result, {took:.1f} s"

    return {name: partial(run, name) for name in VOSK if (client.parent / name).exists()}


def funasr(client: Path, folder: Path) -> dict[str, Callable[[], str]]:
    """Return the runs of FunASR's client in each of its modes."""
    recording = str(_recording(folder / "funasr.wav", 8_000))

    def run(mode: str) -> str:
        with running_server(model="embedded") as server:
            address = ("--host", server.host, "--port", str(server.port), "--ssl", "0")
            arguments = (*address, "--mode", mode, "--audio_in", recording)
            text = _run(client, *arguments, folder=folder)
        printed = text.count("pid0_0:")
        if printed < 2 or "connection closed normally" not in text:
            raise Failed(text[-500:])
        return f"{printed} results, closed normally"

    return {f"--mode {mode}": partial(run, mode) for mode in ("2pass", "online", "offline")}


def _run(script: Path, *arguments: str, folder: Path | None = None) -> str:
    try:
        done = subprocess.run(
            [sys.executable, str(script), *arguments],
            capture_output=True,
            text=True,
            timeout=CLIENT_S,
            check=False,
            cwd=folder,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"the client did not end in {CLIENT_S:g} s") from None
    if "No module named" in done.stderr:
        return f"not run: {done.stderr.strip().splitlines()[-1]}"
    if done.returncode:
        raise Failed(f"status {done.returncode}: {done.stderr[-500:]}")
    return done.stdout
