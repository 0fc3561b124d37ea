"""HTTP POST to a webhook, in a thread: no redirects, and public addresses only."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

MAX_ANSWER = 65_536
"""Bytes of an answer that are read; a longer one ends the connection."""

_NAT64 = IPv6Network("64:ff9b::/96")


class Unreachable(Exception):
    """No answer: the reason, without the URL, whose path may be secret."""


def is_public(address: str) -> bool:
    """Return whether an IP address belongs to the public Internet, or stands for one that does."""
    ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            ip = inner
    return ip.is_global and not ip.is_multicast


class Poster:
    """Connection to one receiver, kept open between messages. `post` is for one thread."""

    def __init__(self, url: str, timeout_s: float, allow_private: bool) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._netloc = parts.netloc
        self._tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._timeout_s = timeout_s
        self._allow_private = allow_private
        self._context = ssl.create_default_context() if self._tls else None
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None

    def post(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, float | None]:
        """Send a message; return the status and the seconds of `Retry-After`.

        Raises `Unreachable`.
        """
        reused = self._connection is not None
        try:
            return self._post(body, headers)
        except (http.client.HTTPException, OSError) as error:
            self.close()
            # The receiver may have closed an idle connection in the meantime.
            if not reused or isinstance(error, TimeoutError):
                raise Unreachable(_reason(error)) from None
        try:
            return self._post(body, headers)
        except (http.client.HTTPException, OSError) as error:
            self.close()
            raise Unreachable(_reason(error)) from None

    def _post(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, float | None]:
        connection = self._connection or self._connect()
        connection.request("POST", self._target, body, {"Host": self._netloc, **headers})
        answer = connection.getresponse()
        answer.read(MAX_ANSWER)
        if not answer.isclosed() or answer.will_close:
            self.close()
        wait = answer.headers.get("Retry-After", "")
        return answer.status, float(wait) if wait.isdecimal() else None

    def _connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        # Never let http.client connect by itself: it would look the host up again, without TLS.
        connection.auto_open = 0
        connection.sock = self._socket = self._open()
        self._connection = connection
        return connection

    def _open(self) -> socket.socket:
        """Connect to an address that was checked: a second look-up might give another one."""
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not self._allow_private and not all(map(is_public, addresses)):
            raise Unreachable(
                "the host has a private address; set allow_private = true for this webhook if it "
                "is meant"
            )
        deadline, last = time.monotonic() + self._timeout_s, OSError("the host has no address")
        for address in addresses:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            try:
                plain = socket.create_connection((address, self._port), remaining)
            except OSError as error:
                last = error
                continue
            plain.settimeout(self._timeout_s)
            # Otherwise the body, which follows the head, waits for its ACK: 40 ms a message.
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is None:
                return plain
            return self._context.wrap_socket(plain, server_hostname=self._host)
        raise last

    def abort(self) -> None:
        """Make a `post` that runs in another thread fail, if the receiver drips its answer."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the next message opens a new one."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._socket = None


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"{type(error).__name__}: {error}"
