"""Options of the whole suite: `--unit` runs the tests that need nothing but the core packages."""

from __future__ import annotations

from pathlib import Path

import pytest

NEEDS = (
    "import torch",
    "small_emotion2vec",
    "from training",
    "from bench",
    "tests.support.broker",
    "tests.support.postgres",
    "tests.support.running",
    "subprocess",
    "tests.support.confined",
    "tests.fuzz import media",
    "docs.site",
)
"""Words in a test file that show that it needs more than the core packages."""

HERE = Path(__file__)
FOLDERS = ("bench", "browser", "faults", "gpu", "history", "training", "web")
"""Folders of tests that all need more."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--unit",
        action="store_true",
        help="run only tests without torch, a browser, a broker, node, or processes of their own",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests with a browser and those with network interfaces of their own in one worker.

    Chromium aborts its requests when an interface appears or goes (ERR_NETWORK_CHANGED). The tests
    with PostgreSQL share one server, which takes seconds to start.
    """
    for item in items:
        if "history" in item.path.parts:
            item.add_marker(pytest.mark.xdist_group("history"))
        path = item.path
        if path.parent.name == "browser" or path.name in (
            "test_rows_network.py",
            "test_fault_tools.py",
        ):
            item.add_marker(pytest.mark.xdist_group("network"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if not config.getoption("--unit") or collection_path.suffix != ".py":
        return None
    if collection_path.parent.name in FOLDERS:
        return True
    text = collection_path.read_text("utf-8")
    return True if any(word in text for word in NEEDS) and collection_path != HERE else None
