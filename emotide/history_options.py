"""Options of `emotide history`, and the help that teaches them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

from emotide.overrides import add_overrides
from stream.labels import LABELS
from stream.protocol.wire.history import HistoryKind

PROG = "emotide history"

EXAMPLES = """\
examples:
  emotide history list --config server.toml                       the newest sessions
  emotide history list --config server.toml --from 2026-11-01 --tag queue:billing --alert any
  emotide history list --config server.toml --label angry --share 0.4 --min-duration 60
  emotide history show ID --config server.toml                    a call as a timeline
  emotide history export --config server.toml --from 2026-11-01 --out november.csv
  emotide history export --config server.toml --rows utterances --out november.parquet
  emotide history erase --config server.toml --attribute customer:4711

The commands work on the database in `history.url` of the configuration, whether the server runs or
not. `show` draws a strip for each voice:

  customer    ▂▂▃    ▅▆▇▇     ▃▂      the colour is the strongest label,
  alerts             ▲───             the height the activation: 0 calm, 1 excited

docs/history.md explains the fields, and `emotide history COMMAND --help` the options.
"""

LIST_EXAMPLES = """\
examples:
  emotide history list --config server.toml --limit 100
  emotide history list --config server.toml --from 2026-11-28 --tz Europe/Berlin
  emotide history list --config server.toml --json | jq -r '.stream_id'

All conditions hold. A date as --to includes that day.
"""

EXPORT_EXAMPLES = """\
examples:
  emotide history export --config server.toml --out sessions.csv
  emotide history export --config server.toml --rows utterances --out utterances.parquet
  emotide history export --config server.toml --format jsonl | gzip > sessions.jsonl.gz

The end of FILE decides the format: .csv, .jsonl or .parquet. Parquet needs pyarrow:
pip install 'emotide[parquet]'. The newest sessions come first.
"""

ERASE_EXAMPLES = """\
examples:
  emotide history erase --config server.toml --id 7c0d7c2a5c0f4a51b3f1a3d7b0e7c9aa
  emotide history erase --config server.toml --stream call-123
  emotide history erase --config server.toml --attribute customer:4711 --tenant acme
  emotide history erase --config server.toml --tenant acme --yes      all sessions of a tenant

Erased sessions leave all tables, the roll-ups and the spool; the audit log says that they were
erased. It cannot be undone.
"""

FORMATS = ("csv", "jsonl", "parquet")


def parser(prog: str = PROG) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = _parser(None, prog, "Search, show, export and erase finished sessions.", EXAMPLES)
    commands = top.add_subparsers(required=True, metavar="COMMAND", dest="command")

    command = _parser(commands, "list", "list sessions, the newest first", LIST_EXAMPLES)
    _add_filter(command)
    command.add_argument("--limit", default="20", metavar="N", help="sessions (default: 20)")
    command.add_argument("--json", action="store_true", help="print a line of JSON per session")

    command = _parser(commands, "show", "show one session as a timeline", "")
    command.add_argument("id", metavar="ID", help="id of the list")
    _add_configuration(command)
    command.add_argument("--tz", default="UTC", metavar="ZONE", help="zone of times, by IANA name")
    command.add_argument("--json", action="store_true", help="print it as JSON")

    command = _parser(commands, "export", "write sessions or utterances to a file", EXPORT_EXAMPLES)
    _add_filter(command)
    command.add_argument("--out", type=Path, metavar="FILE", help="default: standard output")
    command.add_argument("--format", choices=FORMATS, help="default: as FILE ends, or csv")
    command.add_argument("--rows", choices=("sessions", "utterances"), default="sessions")

    command = _parser(commands, "erase", "erase sessions for good", ERASE_EXAMPLES)
    what = command.add_mutually_exclusive_group()
    what.add_argument("--id", metavar="ID", help="one session")
    what.add_argument("--stream", metavar="ID", help="all sessions of a stream")
    what.add_argument("--attribute", metavar="NAME:VALUE", help="all with this attribute")
    command.add_argument("--tenant", metavar="T", help="of this tenant; alone: all that it has")
    _add_configuration(command)
    command.add_argument("--yes", action="store_true", help="do not ask")
    return top


def _parser(commands: Any, name: str, text: str, epilog: str) -> argparse.ArgumentParser:
    options: dict[str, Any] = {
        "description": text[0].upper() + text[1:].rstrip(".") + ".",
        "epilog": epilog,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }
    if commands is None:
        return argparse.ArgumentParser(prog=name, **options)
    made: argparse.ArgumentParser = commands.add_parser(name, help=text, **options)
    return made


def _add_configuration(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("database")
    group.add_argument(
        "--config", type=Path, metavar="FILE", help="configuration of the server, with history.url"
    )
    add_overrides(group)


def _add_filter(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("sessions")
    group.add_argument("--from", dest="from", metavar="TIME", help="that began at a date or time")
    group.add_argument("--to", metavar="TIME", help="... or before: a date includes that day")
    group.add_argument("--tz", metavar="ZONE", help="zone of dates (default: UTC)")
    group.add_argument("--tag", metavar="TAG")
    group.add_argument("--role", metavar="ROLE", help="with a channel of this role")
    group.add_argument("--label", choices=LABELS, help="their strongest label")
    group.add_argument("--share", metavar="0…1", help="... or any label with at least this share")
    group.add_argument("--min-activation", metavar="0…1")
    group.add_argument("--max-activation", metavar="0…1")
    group.add_argument("--alert", metavar="RULE", help="any, none, or the name of a rule")
    group.add_argument("--min-duration", dest="min_duration_s", metavar="SECONDS")
    group.add_argument("--max-duration", dest="max_duration_s", metavar="SECONDS")
    group.add_argument("--kind", choices=get_args(HistoryKind))
    group.add_argument("--tenant", metavar="T")
    group.add_argument("--stream", metavar="ID", help="of the stream with this id")
    _add_configuration(command)
