"""Make a key for a client: `emotide keys NAME`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from stream.server.auth import SCOPES, make_key

EXAMPLES = """\
examples:
  emotide keys dashboard --scopes subscribe
  emotide keys call-center --scopes stream
"""


def main(arguments: Sequence[str] | None = None, prog: str = "emotide keys") -> int:
    """Print a new key once, and the table of the configuration that admits it."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Make a key. It is shown this once; the configuration holds only its hash.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help="name of its holder, for the log")
    parser.add_argument(
        "--scopes",
        nargs="+",
        choices=SCOPES,
        default=["stream", "subscribe", "files"],
        help="stream: send audio; subscribe: receive events; files: analyse recordings; metrics: "
        "read /metrics (default: the first three)",
    )
    options = parser.parse_args(arguments)
    key, digest = make_key()
    scopes = ", ".join(f'"{scope}"' for scope in options.scopes)
    print(f"The key, for its holder:\n  {key}\n\nFor the server's configuration:")
    print(f'  [auth.keys.{options.name}]\n  sha256 = "{digest}"\n  scopes = [{scopes}]')
    return 0
