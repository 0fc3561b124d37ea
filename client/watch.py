"""A terminal dashboard of everything a server hears."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator

import orjson
from rich.console import Console, RenderableType

from client.remote.endpoint import DEFAULT_URL, Endpoint
from client.remote.event_queue import Event
from client.remote.subscription import subscribe
from client.terminal.dashboard import COLOURS, Dashboard
from client.terminal.live import redrawing
from client.terminal.options import OK, add_connection, run, server_of, stop_on_signals
from client.terminal.text import line

EXAMPLES = """\
examples:
  python -m client.watch
      everything, as a table that moves
  python -m client.watch wss://emotions.example.com --streams 'call-*' --label angry
      some streams; the sparklines follow anger
  python -m client.watch --once
      what is going on now, as a table, and exit
  python -m client.watch --json | jq 'select(.type == "emotion.segment")'
      every event as a line of JSON
"""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m client.watch",
        description="Watch the streams of an Emotide server. Piped, it prints plain lines.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", nargs="?", default=DEFAULT_URL, metavar="URL")
    parser.add_argument("--streams", action="append", metavar="GLOB", help="default: *")
    parser.add_argument("--tag", action="append", default=[], help="only streams with this tag")
    parser.add_argument(
        "--rate-hz", type=float, default=2.0, metavar="N", help="scores a second and side (2)"
    )
    parser.add_argument("--label", choices=sorted(COLOURS), help="what the sparklines follow")
    parser.add_argument("--horizon", default="10s", help="which rolling scores (default: 10s)")
    parser.add_argument("--once", action="store_true", help="print what is known now, and exit")
    parser.add_argument("--json", action="store_true", help="events as JSON lines")
    add_connection(parser)
    return parser


async def watch(options: argparse.Namespace, console: Console) -> int:
    server = server_of(options)
    screen = Dashboard(options.label, options.horizon)
    stop = asyncio.Event()
    stop_on_signals(stop)
    if options.once:
        await _once(server, options, screen, console)
        return OK
    showing = asyncio.create_task(_show(server, options, screen, console))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({showing, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not showing.done():
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)
        return OK
    showing.result()
    return OK


async def _once(
    server: Endpoint, options: argparse.Namespace, screen: Dashboard, console: Console
) -> None:
    async for event in _events(server, options):
        if event["type"] == "snapshot":
            if options.json:
                _print_json(event)
            else:
                screen.hear(event, time.monotonic())
                console.print(screen.render(time.monotonic(), console.width))
            return


async def _show(
    server: Endpoint, options: argparse.Namespace, screen: Dashboard, console: Console
) -> None:
    if options.json or not console.is_terminal:
        async for event in _events(server, options):
            if options.json:
                _print_json(event)
            elif (text := line(event)) is not None:
                print(f"{event.get('stream_id', server.url)}: {text}", flush=True)
        return

    def render() -> RenderableType:
        return screen.render(time.monotonic(), console.width, console.height)

    async with redrawing(console, render, whole=True):
        async for event in _events(server, options):
            screen.hear(event, time.monotonic())


def _events(server: Endpoint, options: argparse.Namespace) -> AsyncIterator[Event]:
    return subscribe(
        server.url,
        streams=options.streams or ["*"],
        tags=options.tag,
        rate_hz=options.rate_hz,
        api_key=server.api_key,
        ca_file=server.ca_file,
    )


def _print_json(event: Event) -> None:
    sys.stdout.buffer.write(orjson.dumps(event) + b"\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    return run(watch(parser().parse_args(arguments), Console()))


if __name__ == "__main__":
    sys.exit(main())
