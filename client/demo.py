"""Demonstration: a server, a recorded call sent to it live, and the scores in the terminal."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import IO, Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from client.audio.files import blocks, chunks, probe
from client.audio.playback import PlaybackClock, play, run_call
from client.remote.call import stream
from client.remote.events import Event
from client.terminal.dashboard import Dashboard
from client.terminal.live import redrawing
from client.terminal.options import INTERRUPTED, OK, CommandError, run, stop_on_signals
from client.terminal.text import clock, line, summary_lines

SERVE = (sys.executable, "-m", "emotide", "serve")
SAMPLES = Path(__file__).resolve().parent / "samples"
CONFIG = SAMPLES / "demo.toml"
SAMPLE = SAMPLES / "call.flac"
RATE, CHUNK = 8_000, 160
CAVEAT = (
    "the small embedded model is trained on acted emotions: the demo shows how Emotide works, "
    "not how these speakers feel (boredom counts as neutral)"
)
READY_S = 120.0
STOP_S = 15.0
POLL_S = 0.2

EPILOG = """\
environment:
  DEMO_PORT      port of the demo's server (default: the configured one, or a free one)
  DEMO_SECONDS   end after this many seconds of the call

Ctrl-C ends the call and the server. In a terminal the server runs on after the whole call, which is
then in the history of its page.
"""


def free_port(preferred: int, host: str = "127.0.0.1") -> int:
    """Return the preferred port if it is free, else any free one."""
    for port in (preferred, 0):
        with socket.socket() as candidate, suppress(OSError):
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            candidate.bind((host, port))
            return int(candidate.getsockname()[1])
    raise CommandError("no free port on this machine")


def configured_port() -> int:
    """Return the port in the demo's configuration, or the server's default."""
    return int(section("server").get("port", 8765))


def section(name: str) -> dict[str, Any]:
    """Return a section of the demo's configuration."""
    found: dict[str, Any] = tomllib.loads(CONFIG.read_text(encoding="utf-8")).get(name, {})
    return found


def keeps_history() -> bool:
    """Return whether the configuration asks for a history, and its packages are installed."""
    return bool(section("history").get("url")) and find_spec("alembic") is not None


def without_history() -> list[str]:
    """Return the options that switch the history off where its packages are not installed."""
    return [] if keeps_history() else ["--set", "history.url="]


def number(name: str) -> float | None:
    """Return the number in an environment variable. Raises `CommandError` if it is invalid."""
    text = os.environ.get(name, "")
    try:
        return float(text) if text else None
    except ValueError:
        raise CommandError(f"{name}={text!r} is not a number") from None


def readiness(url: str) -> tuple[bool, str]:
    """Return whether the server is ready, and the reason if not. Blocks for 1 s at most."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/readyz", timeout=1) as response:
            return response.status == 200, ""
    except urllib.error.HTTPError as error:
        with error:
            try:
                state = json.load(error)["checks"]["model"]
            except (ValueError, KeyError, TypeError):
                state = f"HTTP {error.code}"
            return False, f"the model: {state}"
    except OSError:
        return False, "the port to open"


def _terminate_with_parent() -> None:
    """On Linux, send SIGTERM to the server if the demo is killed."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


@asynccontextmanager
async def serving(port: int, log: IO[bytes]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a server for the duration of the block and stop it in any case."""
    process = await asyncio.create_subprocess_exec(
        *SERVE,
        "--config",
        str(CONFIG),
        "--port",
        str(port),
        *without_history(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        # Ctrl-C must not reach the server: the demo ends the call first, then the server.
        start_new_session=True,
        preexec_fn=_terminate_with_parent if os.name == "posix" else None,
    )
    try:
        yield process
    finally:
        await asyncio.shield(_stop(process))


async def _stop(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def wait_until_ready(
    url: str,
    process: asyncio.subprocess.Process,
    log: IO[bytes],
    stop: asyncio.Event,
    console: Console,
) -> None:
    """Wait until the server is ready. Raises `CommandError` with its log if it exits or is late."""
    deadline = time.monotonic() + READY_S
    with console.status("starting the server") as status:
        while not stop.is_set():
            ready, waiting = await asyncio.to_thread(readiness, url)
            if process.returncode is not None:
                raise CommandError(_exit_message(process, log))
            if ready:
                return
            if time.monotonic() > deadline:
                raise CommandError(f"the server is not ready after {READY_S:.0f} s:\n{_tail(log)}")
            status.update(f"starting the server: waiting for {waiting}")
            await asyncio.sleep(POLL_S)


def _exit_message(process: asyncio.subprocess.Process, log: IO[bytes]) -> str:
    return f"the server exited with status {process.returncode}:\n{_tail(log)}"


def _tail(log: IO[bytes], limit: int = 4_000) -> str:
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - limit))
    return log.read().decode("utf-8", "replace").strip() or "(no output)"


async def show(url: str, seconds: float | None, stop: asyncio.Event, console: Console) -> None:
    """Play the call to the server, show the scores, and print the totals of each side."""
    recording = probe(SAMPLE)
    duration = recording.duration_s or 0.0
    length = duration if seconds is None else min(seconds, duration)
    pieces = islice(chunks(blocks(recording, RATE, 2), CHUNK), round(length * RATE / CHUNK))
    dashboard, scores = Dashboard(), Counter[int]()
    call = stream(
        url,
        sample_rate=RATE,
        encoding="mulaw",
        channels=2,
        roles=["customer", "agent"],
        stream_id="demo",
    )
    started = time.monotonic()

    def on_event(event: Event) -> None:
        dashboard.handle(event, time.monotonic())
        if event["type"] == "emotion.score":
            scores[event["channel"]] += 1
        if not console.is_terminal and (text := line(event)) is not None:
            print(text, flush=True)

    def render() -> RenderableType:
        now = time.monotonic()
        position = clock(round(min(now - started, length) * 1000))
        place = f"{position} of {clock(round(duration * 1000))}"
        head = Text.assemble(("telephone call, live: ", "bold"), place)
        foot = Text(f"in the browser: {page_url(url)}    Ctrl-C ends the call", style="dim")
        return Group(head, dashboard.render(now, console.width, console.height - 4), foot)

    async with redrawing(console, render):
        closed = await run_call(
            call, lambda: play(call, pieces, RATE, "mulaw", PlaybackClock(), stop), on_event
        )
    print(*summary_lines(closed), sep="\n")
    for side in closed["summary"]:
        utterances = f"{side['utterances']} utterance{'s' * (side['utterances'] != 1)}"
        print(f"{side['role']}: {scores[side['channel']]} scores, {utterances}", flush=True)


def page_url(url: str) -> str:
    """Return the address of the server's page."""
    return url.replace("ws", "http", 1) + "/"


async def demo(console: Console) -> int:
    seconds, port = number("DEMO_SECONDS"), number("DEMO_PORT")
    chosen_port = free_port(configured_port()) if port is None else int(port)
    stop = asyncio.Event()
    stop_on_signals(stop)
    url = f"ws://127.0.0.1:{chosen_port}"
    with tempfile.TemporaryFile() as log:
        async with serving(chosen_port, log) as process:
            await wait_until_ready(page_url(url).rstrip("/"), process, log, stop, console)
            if not stop.is_set():
                print(f"the server is ready; its page is {page_url(url)}", flush=True)
                print(CAVEAT, flush=True)
                await _while_running(show(url, seconds, stop, console), process, log)
            # In a terminal somebody may want to open the call that has just ended.
            if not stop.is_set() and seconds is None and console.is_terminal and keeps_history():
                print(f"the call is in the history: {page_url(url)}#history", flush=True)
                print("Ctrl-C ends the server", flush=True)
                await _while_running(stop.wait(), process, log)
                return OK
    return INTERRUPTED if stop.is_set() else OK


async def _while_running(
    work: Coroutine[Any, Any, object], process: asyncio.subprocess.Process, log: IO[bytes]
) -> None:
    """Run `work` to its end. Raises `CommandError` with the server's log if the server exits."""
    working = asyncio.create_task(work)
    exiting = asyncio.create_task(process.wait())
    try:
        await asyncio.wait({working, exiting}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise CommandError(_exit_message(process, log))
        working.result()
    finally:
        for task in (working, exiting):
            task.cancel()
        await asyncio.gather(working, exiting, return_exceptions=True)


def main(arguments: Sequence[str] | None = None, prog: str = "emotide demo") -> int:
    argparse.ArgumentParser(
        prog=prog,
        description="Start a server, play an acted call to it, and show the scores.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(arguments)
    return run(demo(Console()))


if __name__ == "__main__":
    sys.exit(main())
