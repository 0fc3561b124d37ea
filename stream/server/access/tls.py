"""The TLS certificate of the server."""

from __future__ import annotations

import ssl
from pathlib import Path

from stream.errors import ConfigError


def tls_context(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Load the TLS certificate of the server; None without one. Raises `ConfigError`."""
    if cert is None:
        if key is not None:
            raise ConfigError("server.tls_key: needs server.tls_cert as well")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"server.tls_cert: cannot load {cert}"
            + (f" with key {key}" if key else "")
            + f": {error.strerror or error}; both must be PEM files that this user can read"
        ) from None
    return context
