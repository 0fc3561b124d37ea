"""Which Host headers are served, with and without keys."""

from __future__ import annotations

import pytest

from stream.config import ServerConfig
from stream.server.access.origins import is_local, known_host

EVERYWHERE = ServerConfig(host="0.0.0.0", origins=("https://emotide.example.com",))
LOCAL = ServerConfig(origins=("https://emotide.example.com",))


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8765",
        "127.0.0.1:8765",
        "192.168.1.20:8765",
        "[::1]:8765",
        "[fe80::1]",
        "emotide.example.com",
        "emotide.example.com:8765",
    ],
)
@pytest.mark.parametrize("config", [EVERYWHERE, LOCAL])
def test_addresses_and_configured_names_are_served(host: str, config: ServerConfig) -> None:
    assert known_host(host, config, is_open=True)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "attacker.example",
        "attacker.example:8765",
        "localhost.attacker.example",
        "127.0.0.1.attacker.example",
        "emotide.example.com.attacker.example",
        "[::1].attacker.example",
        "127.1.attacker",
        "[",
    ],
)
@pytest.mark.parametrize("config", [EVERYWHERE, LOCAL])
def test_other_names_are_refused_without_keys(host: str, config: ServerConfig) -> None:
    """A page of any name could reach a server on 0.0.0.0 without keys (DNS rebinding)."""
    assert not known_host(host, config, is_open=True)


def test_the_configured_host_is_a_name_of_the_server() -> None:
    assert known_host("emotide.lan:8765", ServerConfig(host="emotide.lan"), is_open=True)


def test_keys_protect_a_public_server_under_any_name() -> None:
    assert known_host("any.example", EVERYWHERE, is_open=False)
    assert not known_host("any.example", LOCAL, is_open=False)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)],
)
def test_is_local(host: str, local: bool) -> None:
    assert is_local(ServerConfig(host=host)) is local
