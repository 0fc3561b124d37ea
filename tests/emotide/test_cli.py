"""The command `emotide`: every subcommand explains itself, and wrong use names the remedy."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

import emotide
from emotide.cli import COMMANDS, main


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name:<9} {command.help}" in text for name, command in COMMANDS.items())
    assert "examples:" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_teaches_by_examples(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([name, "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert f"emotide {name}" in text
    assert "examples:" in text or "environment:" in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"emotide {emotide.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["srve"], "'srve' is not a command; did you mean 'serve'?"),
        (["xyzzy"], "expected one of demo, serve"),
        ([], "usage: emotide COMMAND"),
    ],
)
def test_wrong_use_names_the_remedy(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert expected in capsys.readouterr().err


def test_the_script_is_installed() -> None:
    (script,) = entry_points(group="console_scripts", name="emotide")
    assert script.value == "emotide.cli:main"


def test_the_package_is_the_client() -> None:
    import client

    assert emotide.stream is client.stream
    assert emotide.subscribe is client.subscribe


def test_importing_it_loads_neither_the_server_nor_numpy() -> None:
    code = "import sys, emotide; print(*{'numpy', 'pydantic', 'av'} & {*sys.modules})"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (finished.stdout.strip(), finished.stderr) == ("", "")


def test_a_key_is_printed_with_the_table_that_admits_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "dashboard", "--scopes", "subscribe"]) == 0
    printed = capsys.readouterr().out
    assert "[auth.keys.dashboard]" in printed
    assert 'scopes = ["subscribe"]' in printed
    assert "emk_" in printed
