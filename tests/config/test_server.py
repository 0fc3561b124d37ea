"""The name of a node."""

from __future__ import annotations

import pytest

from stream.config import Config
from stream.config_file import load


def test_a_node_without_a_name_gets_a_valid_one_from_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "büro pc/1" + "x" * 99)
    name = Config().server.name
    assert len(name) == 64
    assert not set(name) & set(" /#+")
    assert load(environ={"EMOTIDE_SERVER__NODE": "box-1"}).server.name == "box-1"
