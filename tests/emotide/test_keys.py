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
