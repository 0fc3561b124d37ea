"""Actions of a user in the recordings view, and their results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from playwright.sync_api import Locator, Page, expect

from tests.browser.browsing import Tab
from tests.support.audio_files import Pcm
from tests.support.running import Server
from tests.support.utterances import speech

PATIENCE = 80_000
"""Timeout in ms: a recording is decoded in a process that starts for it."""

expect.set_options(timeout=60_000)


def config(folder: Path, more: str = "") -> str:
    """Return a configuration with its results in `folder`; `more` are settings of [files]."""
    return f'[files]\nfolder = "{folder / "outputs"}"\n{more}'


def visit(tab: Tab, server: Server) -> Page:
    tab.page.goto(f"{server.url}#recordings")
    expect(tab.page.locator(".drop-zone")).to_be_visible()
    # The page shows the limits after the server has sent them.
    expect(tab.page.locator(".drop-zone")).to_contain_text("200 MB")
    return tab.page


def give(page: Page, *paths: Path) -> None:
    page.set_input_files("#recordings-file", list(paths))


def job(page: Page, name: str) -> Locator:
    return page.locator(".job", has=page.get_by_role("button", name=name, exact=True))


def text(path: Path) -> Path:
    path.write_text("Dear diary, this is not a recording.\n" * 40, encoding="utf-8")
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def call() -> Pcm:
    """Return the audio of two speakers, one on each channel."""
    left, right = speech("03a01Wa.flac"), speech("08a01Fd.flac", pause_s=1.2)
    size = max(len(left), len(right))
    both = [np.pad(side, (0, size - len(side))) for side in (left, right)]
    return np.stack(both, axis=1).astype(np.int16)


def done(page: Page, name: str, state: str = "done") -> Locator:
    row = job(page, name)
    expect(row).to_have_attribute("data-state", state, timeout=PATIENCE)
    return row


def shown(page: Page) -> Locator:
    """Return the result that is open, with its audio and frames."""
    expect(page.locator(".result[data-complete=true]")).to_be_visible(timeout=PATIENCE)
    return page.locator(".result")


def fetch(page: Page, button: str) -> tuple[str, bytes]:
    """Press a button of the downloads; return the name and the content of the file."""
    with page.expect_download() as coming:
        page.locator(".downloads").get_by_role("button", name=button).click()
    path = Path(coming.value.path())
    return coming.value.suggested_filename, path.read_bytes()
