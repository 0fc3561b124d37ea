"""Live analysis of the microphone in the terminal."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
import time
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.text import Text

from client.audio.encoders import ENCODERS
from client.audio.files import level_dbfs
from client.audio.playback import run_call
from client.remote.call import Call, stream
from client.remote.endpoint import DEFAULT_URL
from client.remote.events import Event
from client.terminal.dashboard import Dashboard, bar
from client.terminal.live import redrawing
from client.terminal.options import (
    OK,
    CommandError,
    add_connection,
    run,
    server_of,
    stop_on_signals,
)
from client.terminal.text import line, summary_lines
from stream.audio.samples import Pcm
from stream.types import Encoding

PROG = "emotide mic"

BLOCK_MS = 20
REFRESH_S = 0.1
FLOOR_DBFS = -60.0

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
    microphone = Microphone(sounddevice, options.device, options.rate)
    dashboard = Dashboard()

    def on_event(event: Event) -> None:
        dashboard.handle(event, time.monotonic())
        if not console.is_terminal and (text := line(event)) is not None:
            print(text, flush=True)

    call = stream(
        server.url,
        sample_rate=options.rate,
        encoding=options.encoding,
        roles=[options.role],
        stream_id=options.stream_id,
        lossy=True,
        api_key=server.api_key,
        ca_file=server.ca_file,
    )

    async def send_audio() -> None:
        with microphone.stream:
            await _send(call, microphone, options.encoding, stop)

    def render() -> RenderableType:
        table = dashboard.render(time.monotonic(), console.width, console.height - 3)
        return Group(meter(microphone.level), table, Text("Ctrl-C ends the call", style="dim"))

    async with redrawing(console, render, every_s=REFRESH_S):
        closed = await run_call(call, send_audio, on_event)
    print(*summary_lines(closed), sep="\n")
    return OK


async def _send(
    call: Call, microphone: Microphone, encoding: Encoding, stop: asyncio.Event
) -> None:
    stopped = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            block = asyncio.create_task(microphone.blocks.get())
            await asyncio.wait({block, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not block.done():
                block.cancel()
                return
            await call.send(ENCODERS[encoding](block.result()))
    finally:
        stopped.cancel()


def parser(prog: str = PROG) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Send the microphone to an Emotide server and show the scores live.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", nargs="?", default=DEFAULT_URL, metavar="URL")
    parser.add_argument("--list-devices", action="store_true", help="list microphones and exit")
    parser.add_argument("--device", type=_device, metavar="D", help="number, or part of the name")
    parser.add_argument("--rate", type=int, default=16_000, metavar="HZ", help="default: 16000")
    parser.add_argument("--encoding", choices=get_args(Encoding), default="linear16")
    parser.add_argument("--stream-id", metavar="ID", help="default: the server chooses")
    parser.add_argument("--role", default="speaker", help="default: speaker")
    add_connection(parser)
    return parser


def _device(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def main(arguments: Sequence[str] | None = None, prog: str = PROG) -> int:
    return run(mic(parser(prog).parse_args(arguments), Console()))


if __name__ == "__main__":
    sys.exit(main())
