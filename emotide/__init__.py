"""Emotide: live speech in, rolling emotion scores out.

The Python client: `stream` sends live audio to a server, `subscribe` receives the events of many
streams; both survive broken connections. The command line is `emotide --help`.
"""

from client import Backoff, Call, Event, Refused, Unreachable, stream, subscribe
from stream import __version__

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
