"""The TLS certificate of a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.errors import ConfigError
from stream.server.access.tls import tls_context


def test_a_tls_context_needs_a_readable_certificate(tmp_path: Path) -> None:
    assert tls_context(None, None) is None
    with pytest.raises(ConfigError, match=r"server\.tls_key: needs server\.tls_cert"):
        tls_context(None, tmp_path / "key.pem")
    with pytest.raises(ConfigError, match=r"cannot load .*none\.pem"):
        tls_context(tmp_path / "none.pem", None)
