"""One Chromium for the tests of a module, and a new profile without problems for each test."""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from playwright.sync_api import Browser, Playwright, sync_playwright

from tests.browser.browsing import ALLOW, DEVICE, Background, Tab, background, launch
from tests.browser.recordings_view import config
from tests.support.running import Server, running_server
from tests.support.utterances import RATE, clip

FAKE_RATE = 48_000


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


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An angry EmoDB sentence with pauses, in the format of the fake device."""
    pause = np.random.default_rng(3).integers(-8, 9, RATE).astype(np.int16)
    speech = np.concatenate([pause, clip("03a01Wa.flac"), pause]).astype(np.float32) / 32768
    pcm = (soxr.resample(speech, RATE, FAKE_RATE) * 32767).astype("<i2")
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    with wave.open(str(path), "wb") as wav:
        wav.setparams((1, 2, FAKE_RATE, 0, "NONE", ""))
        wav.writeframes(pcm.tobytes())
    return path


@pytest.fixture(scope="module")
def speaking(playwright: Playwright, voice: Path) -> Iterator[Browser]:
    browser = launch(playwright, DEVICE, ALLOW, f"--use-file-for-fake-audio-capture={voice}")
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
