"""Checks of the Host and Origin headers."""

from __future__ import annotations

from urllib.parse import urlsplit

from stream.config import ServerConfig

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


def known_host(host: str, allowed: tuple[str, ...], local: bool) -> bool:
    """Return whether a request with this Host header is served.

    Any DNS name can be pointed at a `local` server (DNS rebinding), so it serves only the names in
    `LOCAL_NAMES`, which no attacker can own, and the hosts of the `allowed` origins.
    """
    try:
        loopback = urlsplit(f"//{host}").hostname in LOCAL_NAMES
        return not local or loopback or any(urlsplit(origin).netloc == host for origin in allowed)
    except ValueError:
        return False


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
