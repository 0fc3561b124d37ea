"""Screenshots of docs/images: `python -m tests.browser.screenshots`.

They show a real server with the embedded model and rules of alerts, two dozen two-sided calls of
EmoDB sentences in real time, and Chromium's fake microphone. Takes seven minutes, as the monitor
shows the last five.
"""

from __future__ import annotations

import io
import wave
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import av
import numpy as np
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from tests.browser.browsing import launch
from tests.browser.live_calls import RULES, calling
from tests.support.running import ROOT, running_server
from tests.support.utterances import CLIPS, RATE, clip

IMAGES = ROOT / "docs" / "images"
Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")
CALLS = 26
SECONDS = 330
LAPTOP: ViewportSize = {"width": 1366, "height": 768}
SCREEN: ViewportSize = {"width": 1920, "height": 1080}
WIDTH = 1000
MOST_BYTES = 150_000
PAUSE_S = 1.2


def sentences(path: Path, names: list[str]) -> Path:
    """Write the sentences with pauses between them as a WAV file."""
    pause = np.random.default_rng(3).integers(-8, 9, int(PAUSE_S * RATE)).astype(np.int16)
    pcm = np.concatenate([part for name in names for part in (clip(f"{name}.flac"), pause)])
    with wave.open(str(path), "wb") as wav:
        wav.setparams((1, 2, RATE, 0, "NONE", ""))
        wav.writeframes(pcm.tobytes())
    return path


def squeezed(png: bytes) -> bytes:
    """Return the same image in 256 colours, which is a third of the size."""
    with av.open(io.BytesIO(png), format="png_pipe") as container:
        picture = next(container.decode(video=0))
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=picture.width, height=picture.height, format=picture.format, time_base=Fraction(1, 25)
    )
    split, sink = graph.add("split"), graph.add("buffersink")
    palette = graph.add("palettegen", "reserve_transparent=0")
    use = graph.add("paletteuse", "dither=none")
    source.link_to(split)
    split.link_to(palette, 0)
    split.link_to(use, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    graph.push(picture)
    graph.push(None)
    frame = graph.pull()
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "pal8"
    encoder.options = {"compression_level": "9", "pred": "none"}
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def visit(browser: Browser, url: str, theme: Theme, **options: Any) -> Page:
    settings: dict[str, Any] = {
        "viewport": {"width": WIDTH, "height": 660},
        "locale": "en-US",
        **options,
    }
    page = browser.new_context(color_scheme=theme, **settings).new_page()
    page.goto(url)
    # A page that does not load fails here and not after the minutes that it should show.
    expect(page.locator("#status")).to_have_attribute("data-state", "live", timeout=30_000)
    return page


def shoot(page: Page, name: str, height: int | None = None) -> None:
    if height:
        page.set_viewport_size({"width": WIDTH, "height": height})
        page.wait_for_timeout(600)
    path = IMAGES / f"{name}.png"
    page.mouse.move(2, 2)
    path.write_bytes(squeezed(page.screenshot(animations="disabled")))
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {size // 1000} kB")
    assert size < MOST_BYTES, "too large for the repository"


def shoot_monitor(page: Page, theme: Theme) -> None:
    """Take the list, and the detail of the first call, which has an alert."""
    page.locator(".stream .acknowledge:visible").nth(1).click()
    page.wait_for_timeout(3_000)
    shoot(page, f"monitor-{theme}")
    page.locator(".stream .id").first.click()
    page.locator(".utterances tbody tr").nth(2).wait_for()
    page.wait_for_timeout(1_000)
    shoot(page, f"detail-{theme}", 860)
    page.close()


def shoot_microphone(browser: Browser, url: str, theme: Theme) -> None:
    page = visit(browser, f"{url}#microphone", theme)
    page.get_by_role("button", name="Start").click()
    page.locator(".utterances tbody tr").nth(2).wait_for()
    page.wait_for_timeout(1_500)
    shoot(page, f"microphone-{theme}", 860)
    page.close()


def main() -> None:
    with (
        TemporaryDirectory() as name,
        sync_playwright() as playwright,
        running_server(model="embedded", config=RULES) as server,
    ):
        voice = sentences(Path(name) / "voice.wav", [p.stem for p in sorted(CLIPS.glob("*Wa*"))])
        flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
        browser = launch(playwright, *flags, f"--use-file-for-fake-audio-capture={voice}")
        with calling(server, CALLS, SECONDS):
            monitors = {t: visit(browser, server.url, t, viewport=LAPTOP) for t in THEMES}
            wall = visit(browser, f"{server.url}?wall", "dark", viewport=SCREEN)
            wall.wait_for_timeout(SECONDS * 1_000)
            shoot(wall, "wall-dark")
            wall.close()
            for theme, page in monitors.items():
                shoot_monitor(page, theme)
        for theme in THEMES:
            shoot_microphone(browser, server.url, theme)
        browser.close()


if __name__ == "__main__":
    main()
