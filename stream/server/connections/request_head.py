"""Checks of a request's head that go beyond h11: what two servers could read in two ways.

RFC 9112, 11.2 (request smuggling): a proxy in front of this server may take another header of the
same name, or another end of the body, than this server does.
"""

from __future__ import annotations

import re

import h11

ONCE = frozenset(
    {
        b"authorization",
        b"connection",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"origin",
        b"range",
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers that decide how a request is served, and that must not come twice."""

_HEAD = re.compile(rb"(?:\r?\n)*(.*?\n)\r?\n", re.DOTALL)


class CheckedConnection(h11.Connection):
    """An `h11.Connection` of a server that refuses ambiguous heads; `fault` has the last reason."""

    def __init__(self, max_head: int | None = None) -> None:
        super().__init__(h11.SERVER, max_head if max_head is not None else 16_384)
        self.fault = ""

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next event. Raises `h11.RemoteProtocolError`."""
        # h11 merges equal Content-Length headers, so the bytes themselves are examined.
        raw = self.trailing_data[0] if self.their_state is h11.IDLE else b""
        try:
            event = super().next_event()
            if isinstance(event, h11.Request) and (found := fault(raw)):
                raise h11.RemoteProtocolError(found)
        except h11.RemoteProtocolError as error:
            # h11 adds the bytes as Python shows them, which is of no use to a client.
            reason = str(error).partition(": bytearray(")[0]
            self.fault = f"invalid HTTP request: {reason}"[:300]
            raise
        return event


def fault(raw: bytes) -> str:
    """Return why a head that h11 accepts is refused, or "". `raw` begins with the head."""
    found = _HEAD.match(raw)
    if found is None:
        return ""
    lines = found[1].split(b"\n")[:-1]
    if any(not line.endswith(b"\r") for line in lines):
        return "a line of the head does not end with CR LF"
    if any(line[:1] in (b" ", b"\t") for line in lines):
        return "a header is continued on the next line; send it on one"
    names = [line.partition(b":")[0].strip().lower() for line in lines[1:]]
    seen: set[bytes] = set()
    for name in names:
        if name in seen and name in ONCE:
            return f"the header {name.decode().title()} came twice; send it once"
        seen.add(name)
    if {b"content-length", b"transfer-encoding"} <= seen:
        return "Content-Length and Transfer-Encoding came together; send one of them"
    return ""
