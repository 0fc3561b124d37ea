"""Rules of alerts tried on a recording: `emotide alerts test`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError
from rich.console import Console

from client.batch.analyser import AnalysisFailed
from client.terminal.options import OK, USAGE, CommandError, run
from client.terminal.trials import drawing
from stream.config_file import load
from stream.errors import ConfigError, ModelRefused
from stream.printable import printable, utf8
from stream.protocol.file_options import FileOptions
from stream.protocol.wire.result import Result

PROG = "emotide alerts"

PIPED_WIDTH = 100
"""Columns of the drawing if the output is not a terminal."""

EXAMPLES = """\
examples:
  emotide alerts test rules.toml call.wav
  emotide alerts test emotide.toml call.flac --rule angry_customer
      a configuration of the server will do; its analysis settings are used as well
  emotide alerts test rules.toml call.wav --roles agent,customer
      the agent is on the first channel
  emotide alerts test rules.toml call.wav --json | jq '.alerts[] | {rule, role, count}'

A file with one rule:
  [[alerts.rules]]
  name = "angry_customer"
  label = "angry"          # or index = "negative", or conversation = "dead_air"
  horizon = "10s"          # window, 10s, 30s, call
  above = 0.6              # an alert begins at this value ...
  clear_below = 0.4        # ... and ends below this one
  for_s = 3                # after the condition held this long
  roles = ["customer"]
  severity = "critical"

The recording is analysed in this process, as a server analyses a live call, and each rule is drawn:
  - filled columns are its value; where there are none, no score could be judged;
  - the dashed line is `above`, the dotted one `clear_below`;
  - the line below shows the alerts; dots show how long the condition held before (`for_s`).
Tags and tenants of a rule are ignored. docs/alerts.md explains all fields of a rule.

exit status: 0 the rules were tried, 1 the recording cannot be analysed, 2 invalid usage or rules
"""


def parser(prog: str = PROG) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Work with rules of alerts. `emotide alerts test --help` explains the rest.",
        epilog="examples:\n  emotide alerts test rules.toml call.wav\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    test = commands.add_parser(
        "test",
        help="show what rules would have done on a recording",
        description="Show what rules of alerts would have done on a recording.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    test.add_argument("rules", type=Path, metavar="RULES", help="TOML file with [[alerts.rules]]")
    test.add_argument("recording", type=Path, metavar="RECORDING", help="any audio or video file")
    test.add_argument(
        "--rule", action="append", default=[], metavar="NAME", help="only this rule; repeatable"
    )
    test.add_argument(
        "--roles",
        default="",
        metavar="A,B",
        help="roles of the channels (default: customer,agent, or speaker for one channel)",
    )
    test.add_argument(
        "--track", type=int, default=0, metavar="N", help="audio track, counted from 1"
    )
    test.add_argument(
        "--disclosed", action="store_true", help="the speakers were informed of the analysis"
    )
    test.add_argument("--model", metavar="NAME", help="model (default: that of RULES, or auto)")
    test.add_argument("--json", action="store_true", help="print JSON instead of a drawing")
    return parser


async def test(options: argparse.Namespace) -> int:
    """Analyse the recording with the rules, and print what they did."""
    console = Console(stderr=True)
    try:
        config = load(options.rules)
    except ConfigError as error:
        raise CommandError(str(error), USAGE) from None
    rules = config.alerts.rules
    if not rules:
        raise CommandError(f"{options.rules}: no rules; begin each with [[alerts.rules]]", USAGE)
    names = [rule.name for rule in rules]
    for name in options.rule:
        if name not in names:
            known = ", ".join(names)
            raise CommandError(f"--rule: {name!r} is not one of {known}", USAGE)
    if not options.recording.is_file():
        raise CommandError(f"{printable(str(options.recording))}: no such file", USAGE)
    try:
        roles = tuple(options.roles.split(",")) if options.roles else ()
        file_options = FileOptions(
            server_rules=True, roles=roles, track=options.track, disclosed=options.disclosed
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise CommandError(f"--{first['loc'][0]}: {first['msg']}", USAGE) from None
    # Imported late: a mistake in the rules is reported without the wait for the model's packages.
    from client.batch.local import LocalAnalyser, local_config

    chosen = tuple(rule for rule in rules if not options.rule or rule.name in options.rule)
    alerts = config.alerts.model_copy(update={"rules": _of_any_tenant(chosen)})
    config = config.model_copy(update={"alerts": alerts})
    analyser = LocalAnalyser(local_config(options.model or config.model.name, None, config))
    try:
        with console.status("analysing"), tempfile.TemporaryDirectory() as folder:
            await analyser.open()
            analysis = await analyser.analyse(
                options.recording, file_options, Path(folder), lambda stage, share: None
            )
    except (ModelRefused, ConfigError) as error:
        raise CommandError(str(error)) from None
    except AnalysisFailed as error:
        name = printable(options.recording.name)
        raise CommandError(f"{name}: {error.code}: {error}") from None
    finally:
        await analyser.close()
    for warning in analysis.warnings:
        console.print(printable(warning), style="yellow", markup=False)
    _print(options, analysis.result)
    return OK


def _of_any_tenant(rules: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(rule.model_copy(update={"tenants": ()}) for rule in rules)


def _print(options: argparse.Namespace, result: Result) -> None:
    trials, seconds = result["alerts"], result["file"]["duration_s"]
    if options.json:
        body = {
            "file": utf8(str(options.recording)),
            "duration_s": seconds,
            "model": result["model"]["id"],
            "alerts": trials,
        }
        sys.stdout.buffer.write(orjson.dumps(body, option=orjson.OPT_INDENT_2) + b"\n")
        sys.stdout.flush()
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPED_WIDTH)
    for trial in trials:
        console.print(*drawing(trial, seconds, console.width), sep="\n")
        console.print()
    console.print(f"model: {result['model']['id']}. {result['notice']}", style="dim", markup=False)


def main(arguments: Sequence[str] | None = None, prog: str = PROG) -> int:
    return run(test(parser(prog).parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
