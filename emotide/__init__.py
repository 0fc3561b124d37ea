"""Emotide: live speech in, rolling emotion scores out.

The Python client: `stream` sends live audio to a server, `subscribe` receives the events of many
streams; both survive broken connections. The command line is `emotide --help`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stream import __version__

if TYPE_CHECKING:
    from client import Backoff, Call, Event, Refused, Unreachable, stream, subscribe

__all__ = [
    "Backoff",
    "Call",
    "Event",
    "Refused",
    "Unreachable",
    "__version__",
    "stream",
    "subscribe",
]


def __getattr__(name: str) -> Any:
    """Import the client at its first use, so that a server starts without it (PEP 562)."""
    if name in __all__:
        import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
