"""Servers for test modules without one of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.running import Server, running_server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """Run a server with a folder for results."""
    with running_server("--set", f"files.folder={folder}") as server:
        yield server


@pytest.fixture(scope="module")
def unpaced() -> Iterator[Server]:
    """Run a server that analyses audio as fast as it comes."""
    with running_server("--set", "limits.ahead_s=1000") as server:
        yield server
