"""Your microphone, analysed live in the terminal."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
import time
from typing import Any, get_args

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.text import Text

from client.audio.encoders import ENCODERS
from client.audio.files import level_dbfs
from client.audio.playback import run_call
from client.remote.call import Call, stream
from client.remote.endpoint import DEFAULT_URL
from client.remote.event_queue import Event
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
from client.terminal.text import closing, line
from stream.audio.decode import Pcm
from stream.types import Encoding

BLOCK_MS = 20
REFRESH_S = 0.1
FLOOR_DBFS = -60.0

NO_PORTAUDIO = """\
the microphone needs PortAudio, which is not installed:
  Debian, Ubuntu   sudo apt-get install libportaudio2
  Fedora           sudo dnf install portaudio
  macOS            brew install portaudio
Without it python -m client.replay FILE works"""

EXAMPLES = """\
examples:
  python -m client.mic
      the default microphone to a server on this machine
  python -m client.mic --list-devices
  python -m client.mic wss://emotions.example.com --device 3 --rate 48000
  python -m client.mic --device "USB Audio" --stream-id desk-7

Ctrl-C ends the call and shows what it came to.
"""


def sound() -> Any:
    """The `sounddevice` module. Raises `CommandError` that says what to install."""
    try:
        return importlib.import_module("sounddevice")
    except OSError:
        raise CommandError(NO_PORTAUDIO) from None
    except ImportError:
        raise CommandError("the microphone needs sounddevice: pip install sounddevice") from None


def devices(sounddevice: Any) -> list[str]:
    """One line for every microphone; the default one is marked."""
    default = sounddevice.default.device[0]
    return [
        f"{'*' if number == default else ' '} {number:3}  {device['name']}"
        f"  ({device['default_samplerate']:.0f} Hz)"
        for number, device in enumerate(sounddevice.query_devices())
        if device["max_input_channels"] > 0
    ]


class Microphone:
    """Blocks of PCM from PortAudio's thread to the event loop; `level` is the newest, in dBFS."""

    def __init__(self, sounddevice: Any, device: int | str | None, rate: int) -> None:
        self.level = -96.0
        self.pieces: asyncio.Queue[Pcm] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        try:
            self.stream = sounddevice.RawInputStream(
                samplerate=rate,
                blocksize=rate * BLOCK_MS // 1000,
                device=device,
                channels=1,
                dtype="int16",
                callback=self._heard,
            )
        except (sounddevice.PortAudioError, ValueError) as error:
            found = devices(sounddevice)
            known = "\n".join(found) if found else "  there is no microphone on this machine"
            raise CommandError(
                f"the microphone cannot be opened at {rate} Hz: {error}\n{known}\n"
                "choose with --device NUMBER and --rate HZ"
            ) from None

    def _heard(self, data: Any, frames: int, clock: Any, status: Any) -> None:
        pcm = np.frombuffer(bytes(data), np.int16).reshape(-1, 1)
        self.level = level_dbfs(pcm)
        self._loop.call_soon_threadsafe(self.pieces.put_nowait, pcm)


def meter(level: float, width: int = 30) -> Text:
    """A level in dBFS as a bar: green, and red near clipping."""
    style = "red" if level > -3 else "yellow" if level > -12 else "green"
    share = (level - FLOOR_DBFS) / -FLOOR_DBFS
    return Text.assemble("level ", (bar(share, width), style), f" {level:4.0f} dBFS")


async def listen(options: argparse.Namespace, console: Console) -> int:
    sounddevice = sound()
    if options.list_devices:
        found = devices(sounddevice)
        if not found:
            raise CommandError("there is no microphone on this machine")
        print(*found, sep="\n")
        return OK
    server = server_of(options)
    stop = asyncio.Event()
    stop_on_signals(stop)
    microphone = Microphone(sounddevice, options.device, options.rate)
    screen = Dashboard()

    def tell(event: Event) -> None:
        screen.hear(event, time.monotonic())
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

    async def talk() -> None:
        with microphone.stream:
            await _send(call, microphone, options.encoding, stop)

    def render() -> RenderableType:
        table = screen.render(time.monotonic(), console.width, console.height - 3)
        return Group(meter(microphone.level), table, Text("Ctrl-C ends the call", style="dim"))

    async with redrawing(console, render, every_s=REFRESH_S):
        closed = await run_call(call, talk, tell)
    print(*closing(closed), sep="\n")
    return OK


async def _send(
    call: Call, microphone: Microphone, encoding: Encoding, stop: asyncio.Event
) -> None:
    stopped = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            heard = asyncio.create_task(microphone.pieces.get())
            await asyncio.wait({heard, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not heard.done():
                heard.cancel()
                return
            await call.send(ENCODERS[encoding](heard.result()))
    finally:
        stopped.cancel()


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m client.mic",
        description="Send the microphone to an Emotide server and see the scores move.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", nargs="?", default=DEFAULT_URL, metavar="URL")
    parser.add_argument("--list-devices", action="store_true", help="show microphones and exit")
    parser.add_argument("--device", type=_device, metavar="D", help="number or part of the name")
    parser.add_argument("--rate", type=int, default=16_000, metavar="HZ", help="default: 16000")
    parser.add_argument("--encoding", choices=get_args(Encoding), default="linear16")
    parser.add_argument("--stream-id", metavar="ID", help="default: the server chooses")
    parser.add_argument("--role", default="speaker", help="default: speaker")
    add_connection(parser)
    return parser


def _device(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def main(arguments: list[str] | None = None) -> int:
    return run(listen(parser().parse_args(arguments), Console()))


if __name__ == "__main__":
    sys.exit(main())
