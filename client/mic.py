"""Live analysis of the microphone in the terminal."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import re
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, get_args

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.text import Text

from client.audio.encoders import ENCODERS
from client.audio.files import level_dbfs
from client.audio.playback import run_call
from client.remote.backoff import Backoff
from client.remote.call import Call, stream
from client.remote.endpoint import Endpoint
from client.remote.errors import Refused, Unreachable
from client.remote.events import Event
from client.terminal.dashboard import Dashboard, bar
from client.terminal.live import redrawing
from client.terminal.options import (
    OK,
    CommandError,
    add_connection,
    add_url,
    run,
    server_of,
    stop_on_signals,
)
from client.terminal.text import line, summary_lines
from stream.audio.samples import Pcm
from stream.printable import printable
from stream.protocol.wire.session import SessionClosed
from stream.types import Encoding

PROG = "emotide mic"

BLOCK_MS = 20
STALL_S = 3.0
"""Seconds without a block after which the microphone counts as unplugged."""
RETRY_S = 5.0
"""Seconds until a room microphone tries again."""
REFRESH_S = 0.1
FLOOR_DBFS = -60.0

SETTINGS = frozenset({4400, 4401, 4403, 4406})
"""Close codes that say that an option or the key is wrong: trying again does not help."""
ROOM_EVENTS = frozenset(
    {"session.created", "session.closed", "client.reconnecting", "client.restarted", "error"}
)
"""Events that a room microphone prints."""

NO_PORTAUDIO = """\
the microphone requires PortAudio, which is not installed:
  Debian, Ubuntu   sudo apt-get install libportaudio2
  Fedora           sudo dnf install portaudio
  macOS            brew install portaudio
emotide replay FILE works without it"""

EXAMPLES = """\
examples:
  emotide mic
      send the default microphone to a server on this machine
  emotide mic --list-devices
  emotide mic wss://emotions.example.com --device 3 --rate 48000
  emotide mic --device "USB Audio" --stream-id desk-7
  emotide mic --room kitchen ws://server:8765
      a room microphone: waits for the server and for the microphone as long as it takes

Ctrl-C ends the call and prints its totals.
"""


def sounddevice_module() -> Any:
    """Return the `sounddevice` module. Raises `CommandError` with what to install."""
    try:
        return importlib.import_module("sounddevice")
    except OSError:
        raise CommandError(NO_PORTAUDIO) from None
    except ImportError:
        raise CommandError("the microphone requires sounddevice: pip install sounddevice") from None


def devices(sounddevice: Any) -> list[str]:
    """Return one line for each microphone; the default one is marked with `*`."""
    default = sounddevice.default.device[0]
    return [
        f"{'*' if number == default else ' '} {number:3}  {device['name']}"
        f"  ({device['default_samplerate']:.0f} Hz)"
        for number, device in enumerate(sounddevice.query_devices())
        if device["max_input_channels"] > 0
    ]


class Unplugged(CommandError):
    """A microphone that stopped delivering audio."""


def rescan(sounddevice: Any) -> None:
    """Let PortAudio look for devices again; it lists them only when it starts."""
    with suppress(sounddevice.PortAudioError):
        sounddevice._terminate()
        sounddevice._initialize()


class Microphone:
    """Blocks of PCM from PortAudio's thread, queued in the event loop.

    `level` is the level of the newest block in dBFS. Raises `CommandError` if the device cannot be
    opened.
    """

    def __init__(self, sounddevice: Any, device: int | str | None, rate: int) -> None:
        self.level = -96.0
        self.blocks: asyncio.Queue[Pcm] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        try:
            self.stream = sounddevice.RawInputStream(
                samplerate=rate,
                blocksize=rate * BLOCK_MS // 1000,
                device=device,
                channels=1,
                dtype="int16",
                callback=self._on_block,
            )
        except (sounddevice.PortAudioError, ValueError) as error:
            microphones = devices(sounddevice)
            listed = "\n".join(microphones) if microphones else "  no microphone found"
            raise CommandError(
                f"the microphone cannot be opened at {rate} Hz: {error}\n{listed}\n"
                "choose with --device NUMBER and --rate HZ"
            ) from None

    def _on_block(self, data: Any, frames: int, clock: Any, status: Any) -> None:
        pcm = np.frombuffer(bytes(data), np.int16).reshape(-1, 1)
        self.level = level_dbfs(pcm)
        self._loop.call_soon_threadsafe(self.blocks.put_nowait, pcm)


def meter(level: float, width: int = 30) -> Text:
    """Format a level in dBFS as a bar: green, yellow, and red near clipping."""
    style = "red" if level > -3 else "yellow" if level > -12 else "green"
    share = (level - FLOOR_DBFS) / -FLOOR_DBFS
    return Text.assemble("level ", (bar(share, width), style), f" {level:4.0f} dBFS")


async def mic(options: argparse.Namespace, console: Console) -> int:
    """Send a microphone until the first signal; with `--room` despite any failure."""
    sounddevice = sounddevice_module()
    if options.list_devices:
        microphones = devices(sounddevice)
        if not microphones:
            raise CommandError("no microphone found")
        print(*microphones, sep="\n")
        return OK
    server = server_of(options)
    stop = asyncio.Event()
    stop_on_signals(stop)
    if options.room is None:
        closed = await _call(sounddevice, options, server, console, stop)
        print(*summary_lines(closed), sep="\n")
    else:
        await _stay(sounddevice, options, server, console, stop)
    return OK


async def _stay(
    sounddevice: Any,
    options: argparse.Namespace,
    server: Endpoint,
    console: Console,
    stop: asyncio.Event,
) -> None:
    """Run one call after another until `stop`. Raises `Refused` for an error of the settings."""
    last = ""
    while not stop.is_set():
        try:
            closed = await _call(sounddevice, options, server, console, stop)
            problem = "" if stop.is_set() else f"the server ended the stream: {closed['reason']}"
        except (CommandError, Unreachable) as error:
            problem = str(error).splitlines()[0]
        except Refused as refused:
            if refused.code in SETTINGS:
                raise
            problem = str(refused)
        # A problem that lasts is one line of the service's log, not one every few seconds.
        if problem and problem != last:
            text = f"{problem}; trying again every {RETRY_S:.0f} s"
            print(printable(text), file=sys.stderr, flush=True)
        last = problem
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), RETRY_S)
        rescan(sounddevice)


async def _call(
    sounddevice: Any,
    options: argparse.Namespace,
    server: Endpoint,
    console: Console,
    stop: asyncio.Event,
) -> SessionClosed:
    """Send the microphone in one call until `stop`; return `session.closed`.

    Raises `CommandError` if there is no microphone (`Unplugged`: any more), and as `Call` does.
    """
    microphone = Microphone(sounddevice, options.device, options.rate)
    dashboard = Dashboard()
    in_room = options.room is not None

    def on_event(event: Event) -> None:
        dashboard.handle(event, time.monotonic())
        if console.is_terminal:
            return
        # The log of a service must not become a diary of moods.
        shown = not in_room or event["type"] in ROOM_EVENTS
        if shown and (text := line(event)) is not None:
            print(text, flush=True)

    call = stream(
        server.url,
        sample_rate=options.rate,
        encoding=options.encoding,
        roles=[options.role],
        stream_id=options.stream_id or (_stream_id(options.room) if in_room else None),
        tags=[*options.tag, *([f"room:{options.room}"] if in_room else [])],
        # After a crash the server may still keep the old session of this microphone.
        takeover=in_room,
        backoff=Backoff(give_up_s=None) if in_room else None,
        lossy=True,
        api_key=server.api_key,
        ca_file=server.ca_file,
    )

    unplugged = False

    async def send_audio() -> None:
        nonlocal unplugged
        with microphone.stream:
            unplugged = not await _send(call, microphone, options.encoding, stop)

    def render() -> RenderableType:
        table = dashboard.render(time.monotonic(), console.width, console.height - 3)
        return Group(meter(microphone.level), table, Text("Ctrl-C ends the call", style="dim"))

    async with redrawing(console, render, every_s=REFRESH_S):
        closed = await run_call(call, send_audio, on_event)
    if unplugged:
        raise Unplugged(f"the microphone delivers no audio for {STALL_S:.0f} s: is it unplugged?")
    return closed


async def _send(
    call: Call, microphone: Microphone, encoding: Encoding, stop: asyncio.Event
) -> bool:
    """Send blocks until `stop`; return False if the microphone delivers none any more."""
    stopped = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            block = asyncio.create_task(microphone.blocks.get())
            await asyncio.wait(
                {block, stopped}, timeout=STALL_S, return_when=asyncio.FIRST_COMPLETED
            )
            if not block.done():
                block.cancel()
                return stop.is_set()
            await call.send(ENCODERS[encoding](block.result()))
        return True
    finally:
        stopped.cancel()


def _stream_id(room: str) -> str:
    """Return the id of this machine's microphone in a room, the same at every start."""
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname()) or "microphone"
    return f"{room}-{host}"[:64]


def parser(prog: str = PROG) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Send the microphone to an Emotide server and show the scores live.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_url(parser)
    parser.add_argument("--list-devices", action="store_true", help="list microphones and exit")
    parser.add_argument("--device", type=_device, metavar="D", help="number, or part of the name")
    parser.add_argument("--rate", type=int, default=16_000, metavar="HZ", help="default: 16000")
    parser.add_argument("--encoding", choices=get_args(Encoding), default="linear16")
    parser.add_argument("--stream-id", metavar="ID", help="default: the server chooses")
    parser.add_argument(
        "--room",
        type=_room,
        metavar="NAME",
        help="run as a room microphone: tag room:NAME, never give up",
    )
    parser.add_argument(
        "--tag",
        action="append",
        default=[],
        metavar="TAG",
        help="tag of the stream; may be repeated",
    )
    parser.add_argument("--role", default="speaker", help="default: speaker")
    add_connection(parser)
    return parser


def _room(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_.-]{1,48}", text) is None:
        raise argparse.ArgumentTypeError(
            "a room's name has 1 to 48 letters, digits, and - _ . like living-room"
        )
    return text


def _device(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def main(arguments: Sequence[str] | None = None, prog: str = PROG) -> int:
    return run(mic(parser(prog).parse_args(arguments), Console()))


if __name__ == "__main__":
    sys.exit(main())
