"""`emotide check`: one line per check, and an exit status for scripts."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from emotide.cli import main


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def check(*options: str) -> int:
    return main(["check", "--port", "0", "--model", "embedded", *options])


def test_a_good_configuration_passes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert check() == 0
    printed = capsys.readouterr().out
    assert "ok      configuration: valid" in printed
    assert "ok      model: embedded" in printed
    assert "FAILED" not in printed
    assert list(tmp_path.iterdir()) == [], "a check creates nothing"


def test_the_levels_of_the_decoders_confinement_are_listed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert check() == 0
    printed = capsys.readouterr().out
    for name in ("limits", "PID namespace", "network namespace", "Landlock", "seccomp"):
        assert f"ok      decoder: {name}: " in printed
    check("--set", "files.enabled=false")
    assert "decoder" not in capsys.readouterr().out


def test_an_invalid_configuration_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--set", "vad.detector=ears") == 2
    assert "vad.detector: 'ears' is not one of webrtcvad, silero" in capsys.readouterr().err


def test_a_port_in_use_is_named(taken: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--port", str(taken)) == 1
    assert f"FAILED  port: cannot listen on 127.0.0.1:{taken}" in capsys.readouterr().out


def test_a_broker_that_cannot_be_reached_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    assert check("--set", "mqtt.host=127.0.0.1", "--set", f"mqtt.port={port}") == 1
    assert f"FAILED  MQTT: 127.0.0.1:{port} cannot be reached" in capsys.readouterr().out


def test_a_broker_that_answers_passes(taken: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--set", "mqtt.host=127.0.0.1", "--set", f"mqtt.port={taken}") == 0
    assert f"ok      MQTT: 127.0.0.1:{taken} accepts connections" in capsys.readouterr().out


def test_the_database_of_the_history_is_tried(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        away = f"history.url=postgresql://127.0.0.1:{unused.getsockname()[1]}/x"
        assert check("--set", away, "--set", "privacy.hash_key=key") == 1
    assert "FAILED  history: the database cannot be reached" in capsys.readouterr().out
    spool = f"history.spool={tmp_path}/spool"
    assert check("--set", f"history.url=sqlite:///{tmp_path}/h.db", "--set", spool) == 0
    assert list(tmp_path.iterdir()) == [], "a check creates nothing"
    (tmp_path / "h.db").touch()
    assert check("--set", f"history.url=sqlite:///{tmp_path}/h.db", "--set", spool) == 0
    printed = capsys.readouterr().out
    assert "ok      history: sqlite accepts connections; sessions are kept for 90 days" in printed


def test_servers_that_share_a_history_need_the_same_key(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each would hash with a key of its own, and no id could be found on another machine."""
    assert check("--set", "history.url=postgresql://db/x") == 2
    assert "privacy.hash_key" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["mysql://db/x", "sqlite://", "sqlite:///:memory:", "h.db"])
def test_a_url_of_another_database_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--set", f"history.url={url}") == 2
    assert "history.url" in capsys.readouterr().err


def test_an_open_port_without_keys_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--host", "0.0.0.0") == 1
    assert "make keys with `emotide keys NAME`" in capsys.readouterr().out


def test_an_unknown_model_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--model", "none") == 1
    assert 'FAILED  model: model "none" is neither' in capsys.readouterr().out


def test_the_keys_are_listed_by_tenant(capsys: pytest.CaptureFixture[str]) -> None:
    sha = '"' + "0" * 64 + '"'
    keys = (
        f'{{calls = {{sha256 = {sha}, scopes = ["stream"], tenant = "acme"}}, '
        f'ops = {{sha256 = {sha}, scopes = ["subscribe"], tenants = ["*"]}}}}'
    )
    assert check("--set", f"auth.keys={keys}") == 0
    printed = capsys.readouterr().out
    assert "ok      keys: tenant acme: calls (stream)\n" in printed
    assert "ok      keys: tenant default: ops (subscribe, watches *)\n" in printed
