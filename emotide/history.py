"""Finished sessions of a server: `emotide history list | show | export | erase`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import orjson

from client.terminal.options import FAILED, INTERRUPTED, OK, USAGE, CommandError
from stream.config import Config
from stream.config_file import load
from stream.errors import ConfigError
from stream.labels import LABELS
from stream.protocol.errors import ProtocolError
from stream.protocol.history import HistoryQuery, ListQuery, Parsed, parse_history
from stream.protocol.wire.history import HistoryKind

if TYPE_CHECKING:
    import sqlalchemy as sa

    from stream.history.queries.filters import Filter

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

PIPED_WIDTH = 160
"""Columns of a table or drawing if the output is not a terminal."""


def parser(prog: str = PROG) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = _parser(None, prog, "Search, show, export and erase finished sessions.", EXAMPLES)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    command = _parser(commands, "list", "list sessions, the newest first", LIST_EXAMPLES)
    _add_filter(command)
    command.add_argument("--limit", default="20", metavar="N", help="sessions (default: 20)")
    command.add_argument("--json", action="store_true", help="print a line of JSON per session")
    command.set_defaults(run=_list)

    command = _parser(commands, "show", "show one session as a timeline", "")
    command.add_argument("id", metavar="ID", help="id of the list")
    _add_configuration(command)
    command.add_argument("--tz", default="UTC", metavar="ZONE", help="zone of times, by IANA name")
    command.add_argument("--json", action="store_true", help="print it as JSON")
    command.set_defaults(run=_show)

    command = _parser(commands, "export", "write sessions or utterances to a file", EXPORT_EXAMPLES)
    _add_filter(command)
    command.add_argument("--out", type=Path, metavar="FILE", help="default: standard output")
    command.add_argument("--format", choices=FORMATS, help="default: as FILE ends, or csv")
    command.add_argument("--rows", choices=("sessions", "utterances"), default="sessions")
    command.set_defaults(run=_export)

    command = _parser(commands, "erase", "erase sessions for good", ERASE_EXAMPLES)
    what = command.add_mutually_exclusive_group()
    what.add_argument("--id", metavar="ID", help="one session")
    what.add_argument("--stream", metavar="ID", help="all sessions of a stream")
    what.add_argument("--attribute", metavar="NAME:VALUE", help="all with this attribute")
    command.add_argument("--tenant", metavar="T", help="of this tenant; alone: all that it has")
    _add_configuration(command)
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.set_defaults(run=_erase)
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
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="set any key of the configuration; may be repeated",
    )


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


def main(arguments: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Run one command; return the exit status: 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    options = parser(prog).parse_args(arguments)
    try:
        config = _configuration(options)
        with _database(config) as engine:
            status: int = options.run(options, config, engine)
            return status
    except (ConfigError, ProtocolError) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return USAGE
    except (CommandError, OSError) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return getattr(error, "status", FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED


def _configuration(options: argparse.Namespace) -> Config:
    overrides: dict[str, str] = {}
    for item in options.set:
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(f"--set {item}: expected SECTION.KEY=VALUE")
        overrides[key] = value
    config = load(options.config, overrides=overrides)
    if not config.history.enabled:
        where = options.config or "the configuration (name one with --config FILE)"
        raise ConfigError(f"history.url: is not set in {where}, so no history is kept")
    return config


@contextmanager
def _database(config: Config) -> Iterator[sa.Engine]:
    """Open the database, which must be there. Raises `ConfigError` and `CommandError`."""
    try:
        import sqlalchemy as sa

        from stream.history.storage.connect import open_engine
    except ImportError as error:
        raise ConfigError(
            f"history.url: the package {error.name} is not installed: pip install "
            "'emotide[history]'"
        ) from None
    url = config.history.url.get_secret_value()
    file = Path(url.removeprefix("sqlite:///"))
    if config.history.is_sqlite and not file.exists():
        raise ConfigError(f"history.url: there is no database {file} yet; the server makes it")
    engine = open_engine(url)
    try:
        yield engine
    except sa.exc.SQLAlchemyError as error:
        text = str(getattr(error, "orig", error)).splitlines()[0]
        missing = "no such" in text or "does not exist" in text
        remedy = "; the server of this version makes its tables at its start" if missing else ""
        raise CommandError(f"history.url: the database cannot be used: {text}{remedy}") from None
    finally:
        engine.dispose()


def _query(model: type[Parsed], options: argparse.Namespace) -> Parsed:
    """Return the query that the options state. Raises `CommandError`, which names the option."""
    names = [field.alias or name for name, field in model.model_fields.items()]
    given = {name: getattr(options, name, None) for name in names}
    try:
        return parse_history(model, {n: [str(v)] for n, v in given.items() if v is not None})
    except ProtocolError as error:
        name, colon, text = error.message.partition(": ")
        option = "--" + name.removesuffix("_s").replace("_", "-")
        raise CommandError(f"{option}{colon}{text}", USAGE) from None


def _filter(query: HistoryQuery, config: Config, engine: sa.Engine) -> Filter:
    from stream.history.queries.filters import Filter
    from stream.history.storage.erasure import tenants
    from stream.history.storage.identity import configured_identities

    identities = configured_identities(config.history, config.privacy)

    def stored(stream_id: str) -> frozenset[str]:
        # Each tenant's ids have other hashes.
        of = [query.tenant] if query.tenant else {*tenants(engine), *config.auth.tenants}
        return frozenset({stream_id, *(identities.stream(tenant, stream_id) for tenant in of)})

    return Filter.of(query, None, stored)


def _list(options: argparse.Namespace, config: Config, engine: sa.Engine) -> int:
    from rich.console import Console

    from emotide.history_drawing import listed
    from stream.history.queries.sessions import page

    query = _query(ListQuery, options)
    wanted = _filter(query, config, engine)
    with engine.connect() as connection:
        found = page(connection, wanted, query.limit)
    if options.json:
        for session in found["sessions"]:
            print(orjson.dumps(session).decode())
        return OK
    if not found["sessions"]:
        print("no session fulfils these conditions")
        return OK
    Console(highlight=False, width=_width()).print(listed(found["sessions"], query.zone))
    if found["next"] is not None:
        print(f"more than {query.limit}: narrow the conditions, or raise --limit")
    return OK


def _show(options: argparse.Namespace, config: Config, engine: sa.Engine) -> int:
    from rich.console import Console

    from emotide.history_drawing import call
    from stream.history.queries.sessions import one

    zone = _query(HistoryQuery, argparse.Namespace(tz=options.tz)).zone
    with engine.connect() as connection:
        found = one(connection, options.id, None)
    if found is None:
        raise CommandError(f"no session has the id {options.id!r}; `{PROG} list` shows ids")
    if options.json:
        print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        return OK
    console = Console(highlight=False, width=_width())
    for line in call(found, zone, console.width):
        console.print(line, no_wrap=True, overflow="ellipsis")
    return OK


def _width() -> int | None:
    return None if sys.stdout.isatty() else PIPED_WIDTH


def _export(options: argparse.Namespace, config: Config, engine: sa.Engine) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from stream.history.queries.export import count

    form = _format(options)
    query = _query(HistoryQuery, options)
    wanted = _filter(query, config, engine)
    with engine.connect() as connection:
        total = count(connection, wanted)
    # On stderr, so that it does not mix with an export on standard output.
    columns = ("exporting", BarColumn(), MofNCompleteColumn(), "sessions", TimeRemainingColumn())
    bars = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
    with bars:
        bar = bars.add_task("", total=total)

        def progress(sessions: int) -> None:
            bars.advance(bar, sessions)

        _write(engine, wanted, options, form, progress)
    if options.out is not None:
        print(f"{options.out}: {options.rows} of {total} sessions", file=sys.stderr)
    return OK


def _format(options: argparse.Namespace) -> str:
    """Return the format of an export. Raises `CommandError`."""
    ending = "" if options.out is None else options.out.suffix.removeprefix(".")
    form: str = options.format or (ending if ending in FORMATS else "csv")
    if form == "parquet" and options.out is None:
        raise CommandError("--format parquet: needs --out FILE", USAGE)
    if options.format is None and ending and ending not in FORMATS:
        raise CommandError(f"--out {options.out}: must end in .csv, .jsonl or .parquet", USAGE)
    return form


def _write(
    engine: sa.Engine,
    wanted: Filter,
    options: argparse.Namespace,
    form: str,
    progress: Callable[[int], None],
) -> None:
    """Write an export. A file has its name only when it is complete."""
    from stream.history.queries.export import Format, exported

    connect, rows = engine.connect, options.rows
    text: Format = "jsonl" if form == "jsonl" else "csv"
    if options.out is None:
        for piece in exported(connect, wanted, rows, text, progress):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    partial: Path = options.out.with_name(options.out.name + ".part")
    try:
        if form == "parquet":
            from stream.history.queries.parquet import write

            write(partial, connect, wanted, rows, progress)
        else:
            with partial.open("wb") as file:
                for piece in exported(connect, wanted, rows, text, progress):
                    file.write(piece)
        partial.replace(options.out)
    finally:
        partial.unlink(missing_ok=True)


def _erase(options: argparse.Namespace, config: Config, engine: sa.Engine) -> int:
    from stream.history.service import erase_offline
    from stream.history.storage.erasure import Selection, SelectionKind, tenants

    kinds: list[tuple[SelectionKind, str | None]] = [
        ("session", options.id),
        ("stream", options.stream),
        ("attribute", options.attribute),
        ("tenant", options.tenant),
    ]
    chosen = [(kind, value) for kind, value in kinds if value is not None]
    if not chosen:
        raise CommandError("name what to erase: --id, --stream, --attribute or --tenant", USAGE)
    kind, value = chosen[0]
    if kind == "attribute" and not value.partition(":")[2]:
        raise CommandError("--attribute: must be NAME:VALUE, like customer:4711", USAGE)
    of = [options.tenant] if options.tenant else {*tenants(engine), *config.auth.tenants}
    if not options.yes:
        _confirm(kind, value, options.tenant)
    erased = erase_offline(config, engine, Selection(kind, sorted(of), value))
    print(f"erased: {erased} session{'' if erased == 1 else 's'}")
    return OK


def _confirm(kind: str, value: str, tenant: str | None) -> None:
    """Ask before something is erased. Raises `CommandError` unless the answer is yes."""
    if not sys.stdin.isatty():
        raise CommandError("this cannot be undone; add --yes to erase without a question", USAGE)
    what = "every session" if kind == "tenant" else f"every session of the {kind} {value!r}"
    what = f"the session {value!r}" if kind == "session" else what
    where = f" of the tenant {tenant!r}" if tenant else ""
    if input(f"Erase {what}{where} for good? [y/N] ").strip().lower() not in ("y", "yes"):
        raise CommandError("nothing was erased")
