"""The command line: one command with a subcommand per task, each imported when it is used."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from stream import __version__

PROGRAM = "emotide"
USAGE = 2


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: the module whose `main(arguments)` runs it, and one line of help."""

    module: str
    help: str


COMMANDS = {
    "demo": Command("client.demo", "start a server, play a real call to it, show the scores"),
    "serve": Command("emotide.serve", "start the server"),
    "check": Command("emotide.check", "check a configuration and what this machine can run"),
    "replay": Command("client.replay", "play recordings to a server as live calls"),
    "mic": Command("client.mic", "stream this machine's microphone to a server"),
    "watch": Command("client.watch", "show live streams of a server in the terminal"),
    "analyze": Command("client.analyze", "analyse a folder of recordings into results on disk"),
    "alerts": Command("client.alerts", "try rules of alerts on a recording"),
    "history": Command("emotide.history", "search, show, export and erase finished sessions"),
    "models": Command("emotide.models", "list, download, verify and export models"),
    "keys": Command("emotide.keys", "make a key for a client of the server"),
}

EXAMPLES = """\
examples:
  emotide demo                           a real two-sided call, live, in your terminal
  emotide serve                          a server on http://127.0.0.1:8765/, with a page
  emotide replay recording.wav           play a recording to it as a live call
  emotide watch                          see every stream, in a second terminal
  emotide analyze recordings/ --out results
  emotide alerts test rules.toml call.wav
  emotide COMMAND --help                 options and examples of a command
"""


def usage() -> str:
    """Return the text of `emotide --help`."""
    rows = "\n".join(f"  {name:<9} {command.help}" for name, command in COMMANDS.items())
    return (
        f"usage: {PROGRAM} COMMAND [OPTIONS]\n\n"
        "Live speech in, rolling emotion scores out.\n\n"
        f"commands:\n{rows}\n\n{EXAMPLES}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand that the arguments name; return its exit status, 2 for wrong use."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    name, rest = (given[0], given[1:]) if given else ("", [])
    if name in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0
    if name in ("-V", "--version"):
        print(f"{PROGRAM} {__version__}")
        return 0
    if name not in COMMANDS:
        print(_refusal(name), file=sys.stderr)
        return USAGE
    run = import_module(COMMANDS[name].module).main
    return int(run(rest, prog=f"{PROGRAM} {name}") or 0)


def _refusal(name: str) -> str:
    if not name:
        return usage().rstrip()
    near = difflib.get_close_matches(name, COMMANDS, 1)
    remedy = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(COMMANDS)}"
    return f"{PROGRAM}: {name!r} is not a command; {remedy}"
