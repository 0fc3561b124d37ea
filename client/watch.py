"""Terminal dashboard of the streams of a server."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence

import orjson
from rich.console import Console, RenderableType

from client.remote.endpoint import Endpoint
from client.remote.events import Event
from client.remote.subscription import subscribe
from client.terminal.dashboard import COLOURS, Dashboard
from client.terminal.live import redrawing
from client.terminal.options import OK, add_connection, add_url, run, server_of, stop_on_signals
from client.terminal.text import line

PROG = "emotide watch"

EXAMPLES = """\
examples:
  emotide watch
      all streams, as a live table
  emotide watch wss://emotions.example.com --streams 'call-*' --label angry
      some streams; the sparklines show anger
  emotide watch --once
      print the current state as a table, and exit
  emotide watch --json | jq 'select(.type == "emotion.segment")'
      every event as a line of JSON
"""


def parser(prog: str = PROG) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Watch the streams of an Emotide server. Prints plain lines to a pipe.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_url(parser)
    parser.add_argument(
        "--streams",
        action="append",
        metavar="GLOB",
        help="only these streams; may be repeated (default: *)",
    )
    parser.add_argument(
        "--tag", action="append", default=[], help="only streams with this tag; may be repeated"
    )
    parser.add_argument(
        "--rate-hz",
        type=float,
        default=2.0,
        metavar="N",
        help="scores per second and channel (default: 2)",
    )
    parser.add_argument("--label", choices=sorted(COLOURS), help="label of the sparklines")
    parser.add_argument("--horizon", default="10s", help="rolling scores to show (default: 10s)")
    parser.add_argument("--once", action="store_true", help="print the current state, and exit")
    parser.add_argument("--json", action="store_true", help="events as JSON lines")
    add_connection(parser)
    return parser


async def watch(options: argparse.Namespace, console: Console) -> int:
    server = server_of(options)
    dashboard = Dashboard(options.label, options.horizon)
    stop = asyncio.Event()
    stop_on_signals(stop)
    if options.once:
        await _once(server, options, dashboard, console)
        return OK
    showing = asyncio.create_task(_show(server, options, dashboard, console))
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
    server: Endpoint, options: argparse.Namespace, dashboard: Dashboard, console: Console
) -> None:
    async for event in _events(server, options):
        if event["type"] == "snapshot":
            if options.json:
                _print_json(event)
            else:
                dashboard.handle(event, time.monotonic())
                console.print(dashboard.render(time.monotonic(), console.width))
            return


async def _show(
    server: Endpoint, options: argparse.Namespace, dashboard: Dashboard, console: Console
) -> None:
    if options.json or not console.is_terminal:
        async for event in _events(server, options):
            if options.json:
                _print_json(event)
            elif (text := line(event)) is not None:
                print(f"{event.get('stream_id', server.url)}: {text}", flush=True)
        return

    def render() -> RenderableType:
        return dashboard.render(time.monotonic(), console.width, console.height)

    async with redrawing(console, render, full_screen=True):
        async for event in _events(server, options):
            dashboard.handle(event, time.monotonic())


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


def main(arguments: Sequence[str] | None = None, prog: str = PROG) -> int:
    return run(watch(parser(prog).parse_args(arguments), Console()))


if __name__ == "__main__":
    sys.exit(main())
