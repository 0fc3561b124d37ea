"""Host names and browser origins that may call this server."""

from __future__ import annotations

from urllib.parse import urlsplit

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


def known_host(host: str, allowed: tuple[str, ...], local: bool) -> bool:
    """Whether a request may call this server `host`.

    A `local` server is reached by any name that somebody points at this machine (DNS rebinding),
    so there it answers only to names that nobody else can own, and to those of `allowed` origins.
    """
    try:
        ours = urlsplit(f"//{host}").hostname in LOCAL_NAMES
        return not local or ours or any(urlsplit(origin).netloc == host for origin in allowed)
    except ValueError:
        return False


def same_origin(origin: str, host: str, allowed: tuple[str, ...]) -> bool:
    """Whether a browser at `origin` may connect to us at `host`: our own page, or one allowed."""
    try:
        return origin in allowed or urlsplit(origin).netloc == host
    except ValueError:
        return False
