"""Server with a results folder, for test modules without one."""

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
    with running_server("--set", f"files.folder={folder}") as server:
        yield server
