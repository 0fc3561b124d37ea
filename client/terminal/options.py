"""Connection options, signals and exit statuses that all commands share."""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from client.audio.errors import NotAudio
from client.remote.endpoint import DEFAULT_URL, STREAM, Endpoint
from client.remote.errors import Refused, Unreachable
from stream.printable import printable

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


_HANGUP = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []


class CommandError(Exception):
    """Error that ends a command; the message names the problem and the remedy."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


def add_url(parser: argparse.ArgumentParser) -> None:
    """Add the address of the server as the optional last argument."""
    parser.add_argument(
        "url",
        nargs="?",
        default=DEFAULT_URL,
        metavar="URL",
        help=f"address of the server (default: {DEFAULT_URL})",
    )


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add the options for the connection to a server."""
    group = parser.add_argument_group("connection")
    group.add_argument(
        "--api-key",
        default=os.environ.get("EMOTIDE_API_KEY"),
        metavar="KEY",
        help="key for the server, or for a proxy in front of it (default: $EMOTIDE_API_KEY)",
    )
    group.add_argument(
        "--ca-file",
        type=Path,
        metavar="PEM",
        help="certificate of the authority that signed a wss:// server's certificate",
    )


def server_of(options: argparse.Namespace) -> Endpoint:
    """Return the server in the options. Raises `CommandError` for an invalid address or file."""
    server = Endpoint(options.url, options.api_key, options.ca_file)
    if options.ca_file is not None and not options.ca_file.is_file():
        raise CommandError(f"{options.ca_file}: no such file", USAGE)
    try:
        server.address(STREAM)
    except ValueError as error:
        raise CommandError(str(error), USAGE) from None
    return server


def is_url(text: str) -> bool:
    return "://" in text


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` at the first Ctrl-C, SIGTERM or SIGHUP; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    signals = [signal.SIGINT, signal.SIGTERM, *_HANGUP]

    def on_signal() -> None:
        stop.set()
        for number in signals:
            loop.remove_signal_handler(number)

    with suppress(NotImplementedError):  # Windows: KeyboardInterrupt only
        for number in signals:
            loop.add_signal_handler(number, on_signal)


def run(command: Coroutine[Any, Any, int]) -> int:
    """Run a command and return its exit status; print failures on stderr."""
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show
    try:
        return asyncio.run(command)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout has exited, as with `| head`. Redirect stdout, so that the flush at
        # exit does not fail as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except CommandError as stop:
        status, text = stop.status, str(stop)
    except NotAudio as error:
        status, text = USAGE, str(error)
    except Refused as refused:
        status, text = FAILED, f"refused by the server: {refused}"
    except Unreachable as error:
        status, text = FAILED, f"{error}\nstart a server with: .venv/bin/python server.py"
    print(*map(printable, text.splitlines()), sep="\n", file=sys.stderr)
    return status
