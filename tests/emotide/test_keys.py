"""`emotide keys`."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

import pytest

from emotide.keys import main
from stream.config_file import load


def test_the_command_prints_a_valid_configuration(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["desk", "--scopes", "subscribe", "metrics"]) == 0
    key, _, snippet = capsys.readouterr().out.partition("For the server's configuration:")
    secret = next(word for word in key.split() if word.startswith("emk_"))
    path = tmp_path / "emotide.toml"
    path.write_text("\n".join(line.strip() for line in snippet.splitlines()))
    (name, read), *others = load(path, {}).auth.keys.items()
    assert (name, others) == ("desk", [])
    assert read.sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert read.scopes == ("subscribe", "metrics")
    assert secret not in path.read_text()
    assert tomllib.loads(path.read_text())


def printed(text: str) -> str:
    """Return the table of the configuration that the command printed."""
    snippet = text.partition("For the server's configuration:")[2]
    return "\n".join(line.strip() for line in snippet.splitlines())


def test_a_key_has_a_tenant_and_watches_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["desk", "--tenant", "acme", "--watch", "globex"]) == 0
    table = tomllib.loads(printed(capsys.readouterr().out))["auth"]["keys"]["desk"]
    assert (table["tenant"], table["tenants"]) == ("acme", ["globex"])
    assert main(["desk"]) == 0
    assert not {"tenant", "tenants"} & tomllib.loads(printed(capsys.readouterr().out)).keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["desk", "--tenant", "A/B"], "--tenant: a tenant's name has"),
        (["desk", "--watch", "+"], "--watch: a tenant's name has"),
        (["my desk"], "name: "),
    ],
)
def test_an_invalid_name_is_refused_before_a_key_is_made(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    told = capsys.readouterr()
    assert message in told.err
    assert "emk_" not in told.out
