"""Finished sessions of a server: `emotide history list | show | export | erase`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from client.terminal.options import FAILED, INTERRUPTED, OK, USAGE, CommandError
from emotide.history_options import FORMATS, PROG, parser
from emotide.overrides import overrides
from stream.config import Config
from stream.config_file import load
from stream.errors import ConfigError
from stream.protocol.errors import ProtocolError
from stream.protocol.history import HistoryQuery, ListQuery, Parsed, parse_history

if TYPE_CHECKING:
    import sqlalchemy as sa

    from stream.history.queries.filters import Filter

PIPED_WIDTH = 160
"""Columns of a table or drawing if the output is not a terminal."""


def main(arguments: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Run one command; return the exit status: 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    options = parser(prog).parse_args(arguments)
    try:
        config = _configuration(options)
        with _database(config) as engine:
            return COMMANDS[options.command](options, config, engine)
    except (ConfigError, ProtocolError) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return USAGE
    except (CommandError, OSError) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return getattr(error, "status", FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED


def _configuration(options: argparse.Namespace) -> Config:
    config = load(options.config, overrides=overrides(options.set))
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
    file = config.history.sqlite_file
    if file is not None and not file.exists():
        raise ConfigError(f"history.url: there is no database {file} yet; the server makes it")
    engine = open_engine(config.history.url.get_secret_value())
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
    from stream.history.queries.export import exported
    from stream.protocol.history import ExportFormat

    connect, rows = engine.connect, options.rows
    text: ExportFormat = "jsonl" if form == "jsonl" else "csv"
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


COMMANDS: Mapping[str, Callable[[argparse.Namespace, Config, sa.Engine], int]] = {
    "list": _list,
    "show": _show,
    "export": _export,
    "erase": _erase,
}
