"""Make a key for a client: `emotide keys NAME`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pydantic import ValidationError

from stream.config import AuthConfig, KeyConfig
from stream.server.access.auth import SCOPES, make_key
from stream.tenants import DEFAULT

EXAMPLES = """\
examples:
  emotide keys dashboard --scopes subscribe
  emotide keys call-center --scopes stream
  emotide keys acme-calls --scopes stream --tenant acme
  emotide keys supervisor --scopes subscribe history
  emotide keys monitoring --scopes subscribe metrics --watch '*'
"""


def main(arguments: Sequence[str] | None = None, prog: str = "emotide keys") -> int:
    """Print a new key once, and the table of the configuration that admits it."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Make a key. It is printed once; the configuration holds only its hash.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help="name of its holder, for the log")
    parser.add_argument(
        "--scopes",
        nargs="+",
        choices=SCOPES,
        default=["stream", "subscribe", "files"],
        help="stream: send audio; subscribe: receive events; files: analyse recordings; feedback: "
        "mark utterances; metrics: read /metrics; alerts: set rules of alerts while subscribed; "
        "history: read and erase finished sessions (default: stream subscribe files)",
    )
    parser.add_argument(
        "--tenant",
        default=DEFAULT,
        metavar="T",
        help="whose streams and recordings it sends and sees (default: %(default)s)",
    )
    parser.add_argument(
        "--watch",
        nargs="+",
        default=[],
        metavar="T",
        help="other tenants whose live streams and history it may see; '*': those of all tenants",
    )
    options = parser.parse_args(arguments)
    key, digest = make_key()
    try:
        AuthConfig.model_validate({"keys": {options.name: {"sha256": digest}}})
        made = KeyConfig.model_validate(_table(options, digest))
    except ValidationError as error:
        problem = error.errors()[0]
        field = {"tenant": "--tenant", "tenants": "--watch"}.get(str(problem["loc"][0]), "name")
        parser.error(f"{field}: {problem['msg'].removeprefix('Value error, ')}")
    print(f"The key, for its holder:\n  {key}\n\nFor the server's configuration:")
    print(f"  [auth.keys.{options.name}]")
    for name, value in made.model_dump(exclude_unset=True).items():
        print(f"  {name} = {_toml(value)}")
    return 0


def _table(options: argparse.Namespace, digest: str) -> dict[str, object]:
    """Return the table of the configuration, without what has its default."""
    table: dict[str, object] = {"sha256": digest, "scopes": options.scopes}
    if options.tenant != DEFAULT:
        table["tenant"] = options.tenant
    if options.watch:
        table["tenants"] = options.watch
    return table


def _toml(value: str | Sequence[str]) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return f"[{', '.join(map(_toml, value))}]"
