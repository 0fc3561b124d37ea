"""Checks of the Host and Origin headers."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from stream.config import ServerConfig

HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]+))(?::[0-9]{1,5})?")
"""A Host header: an IPv6 address in brackets, or a name or IPv4 address; then a port."""

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


def known_host(host: str, config: ServerConfig, is_open: bool) -> bool:
    """Return whether a request with this Host header is served.

    Any DNS name can be pointed at a server (DNS rebinding), and a page of that name then reaches it
    from its visitor's network. A server that is local or `is_open` (no keys) therefore serves only
    IP addresses, local names, and the names in its configuration.
    """
    if not is_open and not is_local(config):
        return True
    match = HOST.fullmatch(host)
    if match is None:
        return False
    name = (match[1] or match[2]).lower()
    try:
        known = {*LOCAL_NAMES, config.host, *(urlsplit(o).hostname for o in config.origins)}
    except ValueError:
        return False
    return name in known or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def same_origin(origin: str, host: str, allowed: tuple[str, ...]) -> bool:
    """Return whether a page of `origin` may connect to `host`: the same origin, or allowed."""
    try:
        # The origin "null" has no host, and neither has a request of HTTP/1.0.
        return origin in allowed or urlsplit(origin).netloc == host != ""
    except ValueError:
        return False


def is_local(config: ServerConfig) -> bool:
    """Return whether the port is reachable from this machine only."""
    return config.host in ("127.0.0.1", "::1", "localhost")
