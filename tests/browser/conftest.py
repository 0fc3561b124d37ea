"""One Chromium for the tests of a module, and a new profile without problems for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from tests.browser.browsing import Background, Tab, background, launch
from tests.browser.recordings_view import config
from tests.support.running import Server, running_server


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """Playwright for one module: while it runs, no test on this thread may run an event loop."""
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    browser = launch(playwright)
    yield browser
    browser.close()


@pytest.fixture
def open_tab(chromium: Browser) -> Iterator[Callable[..., Tab]]:
    """Function `open_tab(browser=…, **context_options)`; no tab may have unexpected problems."""
    tabs: list[Tab] = []

    def open_one(browser: Browser | None = None, **options: Any) -> Tab:
        tabs.append(Tab(browser or chromium, **options))
        return tabs[-1]

    yield open_one
    unexpected = [problem for tab in tabs for problem in tab.unexpected]
    for tab in tabs:
        tab.close()
    assert not unexpected, "\n".join(unexpected)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recordings")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """Server that accepts recordings; some modules define another one."""
    with running_server(config=config(folder)) as running:
        yield running


@pytest.fixture
def loop() -> Iterator[Background]:
    with background() as running:
        yield running
