"""One command that shows what Emotide does: a server, a call, its emotions as they move."""

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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.text import Text

from client.audio.files import blocks, chunks, probe
from client.audio.playback import PlaybackClock, play, run_call
from client.remote.call import stream
from client.remote.event_queue import Event
from client.terminal.dashboard import Dashboard
from client.terminal.live import redrawing
from client.terminal.options import INTERRUPTED, OK, CommandError, run, stop_on_signals
from client.terminal.text import clock, closing, line

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "demo.toml"
SAMPLE = Path(__file__).resolve().parent / "samples" / "call.flac"
RATE, CHUNK = 8_000, 160
CAVEAT = (
    "the small embedded model listens, trained on ten German actors: it shows how Emotide works, "
    "not how these people feel (bored is neutral here)"
)
READY_S = 120.0
STOP_S = 15.0
POLL_S = 0.2

EPILOG = """\
environment:
  DEMO_PORT      port of the demo's server (default: the configured one, or a free one)
  DEMO_SECONDS   end after so many seconds of the call

Ctrl-C ends the call and the server.
"""


def free_port(wanted: int, host: str = "127.0.0.1") -> int:
    """The wanted port if nobody listens there, else a free one."""
    for port in (wanted, 0):
        with socket.socket() as probe_, suppress(OSError):
            probe_.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe_.bind((host, port))
            return int(probe_.getsockname()[1])
    raise CommandError("no free port on this machine")


def configured_port() -> int:
    """The port that the demo's configuration names, or the server's default."""
    section = tomllib.loads(CONFIG.read_text(encoding="utf-8")).get("server", {})
    return int(section.get("port", 8765))


def number(name: str) -> float | None:
    """A number from the environment. Raises `CommandError` when it is none."""
    text = os.environ.get(name, "")
    try:
        return float(text) if text else None
    except ValueError:
        raise CommandError(f"{name}={text!r} is not a number") from None


def readiness(url: str) -> tuple[bool, str]:
    """Whether the server is ready, and what it waits for otherwise. Blocks for a second at most."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/readyz", timeout=1) as answer:
            return answer.status == 200, ""
    except urllib.error.HTTPError as error:
        with error:
            try:
                waiting = json.load(error)["checks"]["model"]
            except (ValueError, KeyError, TypeError):
                waiting = f"HTTP {error.code}"
            return False, f"the model: {waiting}"
    except OSError:
        return False, "the port to open"


def _die_with_parent() -> None:
    """Linux: if the demo is killed, its server is told to stop."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


@asynccontextmanager
async def serving(port: int, log: IO[bytes]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A server of our own, stopped at the end whatever happens."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "server.py",
        "--config",
        str(CONFIG),
        "--port",
        str(port),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        # Ctrl-C is for us: the call is ended first, then the server.
        start_new_session=True,
        preexec_fn=_die_with_parent if os.name == "posix" else None,
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
    """Wait for the server with a spinner. Raises `CommandError` with its last words if it dies."""
    deadline = time.monotonic() + READY_S
    with console.status("starting the server") as status:
        while not stop.is_set():
            ready, waiting = await asyncio.to_thread(readiness, url)
            if process.returncode is not None:
                raise CommandError(_last_words(process, log))
            if ready:
                return
            if time.monotonic() > deadline:
                raise CommandError(f"the server is not ready after {READY_S:.0f} s:\n{_tail(log)}")
            status.update(f"starting the server: waiting for {waiting}")
            await asyncio.sleep(POLL_S)


def _last_words(process: asyncio.subprocess.Process, log: IO[bytes]) -> str:
    return f"the server ended with status {process.returncode}:\n{_tail(log)}"


def _tail(log: IO[bytes], most: int = 4_000) -> str:
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - most))
    return log.read().decode("utf-8", "replace").strip() or "(it said nothing)"


async def show(url: str, seconds: float | None, stop: asyncio.Event, console: Console) -> None:
    """Play the call to the server and show it; prints what each side came to."""
    recording = probe(SAMPLE)
    whole = recording.duration_s or 0.0
    length = whole if seconds is None else min(seconds, whole)
    pieces = islice(chunks(blocks(recording, RATE, 2), CHUNK), round(length * RATE / CHUNK))
    screen, scores = Dashboard(), Counter[int]()
    call = stream(
        url,
        sample_rate=RATE,
        encoding="mulaw",
        channels=2,
        roles=["customer", "agent"],
        stream_id="demo",
    )
    started = time.monotonic()

    def tell(event: Event) -> None:
        screen.hear(event, time.monotonic())
        if event["type"] == "emotion.score":
            scores[event["channel"]] += 1
        if not console.is_terminal and (text := line(event)) is not None:
            print(text, flush=True)

    def render() -> RenderableType:
        now = time.monotonic()
        place = f"{clock(round(min(now - started, length) * 1000))} of {clock(round(whole * 1000))}"
        head = Text.assemble(("a telephone call, live: ", "bold"), place)
        foot = Text(f"in the browser: {page(url)}    Ctrl-C ends the call", style="dim")
        return Group(head, screen.render(now, console.width, console.height - 4), foot)

    async with redrawing(console, render):
        closed = await run_call(
            call, lambda: play(call, pieces, RATE, "mulaw", PlaybackClock(), stop), tell
        )
    print(*closing(closed), sep="\n")
    for side in closed["summary"]:
        utterances = f"{side['utterances']} utterance{'s' * (side['utterances'] != 1)}"
        print(f"{side['role']}: {scores[side['channel']]} scores, {utterances}", flush=True)


def page(url: str) -> str:
    """Where a browser finds the server."""
    return url.replace("ws", "http", 1) + "/"


async def demo(console: Console) -> int:
    seconds, port = number("DEMO_SECONDS"), number("DEMO_PORT")
    chosen = free_port(configured_port()) if port is None else int(port)
    stop = asyncio.Event()
    stop_on_signals(stop)
    url = f"ws://127.0.0.1:{chosen}"
    with tempfile.TemporaryFile() as log:
        async with serving(chosen, log) as process:
            await wait_until_ready(page(url).rstrip("/"), process, log, stop, console)
            if not stop.is_set():
                print(f"the server is ready; its page is {page(url)}", flush=True)
                print(CAVEAT, flush=True)
                await _show_or_say_why(url, seconds, stop, console, process, log)
    return INTERRUPTED if stop.is_set() else OK


async def _show_or_say_why(
    url: str,
    seconds: float | None,
    stop: asyncio.Event,
    console: Console,
    process: asyncio.subprocess.Process,
    log: IO[bytes],
) -> None:
    showing = asyncio.create_task(show(url, seconds, stop, console))
    dying = asyncio.create_task(process.wait())
    try:
        await asyncio.wait({showing, dying}, return_when=asyncio.FIRST_COMPLETED)
        if not showing.done():
            raise CommandError(_last_words(process, log))
        showing.result()
    finally:
        for task in (showing, dying):
            task.cancel()
        await asyncio.gather(showing, dying, return_exceptions=True)


def main(arguments: list[str] | None = None) -> int:
    argparse.ArgumentParser(
        prog="python -m client.demo",
        description="Start a server of its own, play it an acted call, and show the scores.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(arguments)
    return run(demo(Console()))


if __name__ == "__main__":
    sys.exit(main())
