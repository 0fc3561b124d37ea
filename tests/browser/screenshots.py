"""Screenshots of docs/images: `python -m tests.browser.screenshots`.

They show a real server with the embedded model, the demo call and EmoDB sentences as live streams,
and Chromium's fake microphone. Takes about two minutes.
"""

from __future__ import annotations

import subprocess
import sys
import wave
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.browsing import launch
from tests.support.running import ROOT, Server, running_server
from tests.support.utterances import CLIPS, RATE, clip

IMAGES = ROOT / "docs" / "images"
Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")
WIDTH = 1000
MOST_BYTES = 150_000
PAUSE_S = 1.2

STREAMS = {
    "call-1041": (["queue:complaints", "site:berlin"], ["03a01Wa", "08a01Wa", "03a01Nc"]),
    "call-1042": (["queue:billing"], ["08a01Fd", "03a01Nc", "08a01Fd"]),
    "call-1043": (["queue:complaints"], ["13a01Ac", "13a01Ec", "03a01Wa"]),
    "call-1044": (["queue:sales"], ["08a02Tb", "13a01Lb"]),
    "kiosk-7": (["site:lobby"], ["13a01Lb", "08a01Fd"]),
}


def conversation(path: Path, names: list[str], rate: int = RATE) -> Path:
    """Write the sentences with pauses between them as a WAV file."""
    pause = np.random.default_rng(3).integers(-8, 9, int(PAUSE_S * RATE)).astype(np.int16)
    pcm = np.concatenate([part for name in names for part in (clip(f"{name}.flac"), pause)])
    with wave.open(str(path), "wb") as wav:
        wav.setparams((1, 2, rate, 0, "NONE", ""))
        wav.writeframes(pcm.tobytes())
    return path


@contextmanager
def streaming(server: Server, folder: Path) -> Iterator[None]:
    """Stream the demo call and the conversations in a loop."""
    command = [sys.executable, "-m", "emotide", "replay", "--loop", "--quiet"]
    call = ROOT / "client/samples/call.flac"
    runs: list[tuple[str, str, Sequence[str], Path]] = [
        ("call-1040", "customer,agent", ["queue:billing"], call)
    ]
    for name, (tags, clips) in STREAMS.items():
        role = "customer" if name.startswith("call") else "speaker"
        runs.append((name, role, tags, conversation(folder / f"{name}.wav", clips)))
    started = [
        subprocess.Popen(
            [
                *command,
                *(str(path), server.ws, "--stream-id", name, "--roles", roles),
                *(part for tag in tags for part in ("--tag", tag)),
            ],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )
        for name, roles, tags, path in runs
    ]
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(10)


def visit(browser: Browser, url: str, theme: Theme, **options: Any) -> Page:
    settings: dict[str, Any] = {
        "viewport": {"width": WIDTH, "height": 660},
        "locale": "en-US",
        **options,
    }
    page = browser.new_context(color_scheme=theme, **settings).new_page()
    page.goto(url)
    return page


def shoot(page: Page, name: str, height: int | None = None) -> None:
    if height:
        page.set_viewport_size({"width": WIDTH, "height": height})
        page.wait_for_timeout(600)
    path = IMAGES / f"{name}.png"
    page.mouse.move(2, 2)
    page.screenshot(path=path, animations="disabled")
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {size // 1000} kB")
    assert size < MOST_BYTES, "too large for the repository"


def main() -> None:
    with (
        TemporaryDirectory() as name,
        sync_playwright() as playwright,
        running_server(model="embedded") as server,
        streaming(server, Path(name)),
    ):
        voice = conversation(Path(name) / "voice.wav", [p.stem for p in sorted(CLIPS.glob("*Wa*"))])
        flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
        browser = launch(playwright, *flags, f"--use-file-for-fake-audio-capture={voice}")
        monitors = {theme: visit(browser, server.url, theme) for theme in THEMES}
        next(iter(monitors.values())).wait_for_timeout(65_000)
        for theme, page in monitors.items():
            shoot(page, f"monitor-{theme}")
            page.get_by_role("link", name="call-1041", exact=True).click()
            page.locator(".utterances tbody tr").nth(2).wait_for()
            page.wait_for_timeout(1_000)
            shoot(page, f"detail-{theme}", 860)
            page.close()
        for theme in THEMES:
            page = visit(browser, f"{server.url}#microphone", theme)
            page.get_by_role("button", name="Start").click()
            page.locator(".utterances tbody tr").nth(2).wait_for()
            page.wait_for_timeout(1_500)
            shoot(page, f"microphone-{theme}", 860)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
