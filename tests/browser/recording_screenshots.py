"""Screenshots of the recordings view: `python -m tests.browser.recording_screenshots`.

They show a real server with the embedded model, the sample, and rules tried on a call. Takes a
minute.
"""

from __future__ import annotations

from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright

from tests.browser.browsing import launch
from tests.browser.screenshots import IMAGES, MOST_BYTES, THEMES, squeezed, visit
from tests.support.running import ROOT, running_server

SIZE = {"width": 1100, "height": 1010}

RULES = """
[[alerts.rules]]
name = "negative_customer"
index = "negative"
above = 0.45
clear_below = 0.4
roles = ["customer"]
severity = "critical"
[[alerts.rules]]
name = "long_silence"
conversation = "dead_air"
above = 2
"""


def main() -> None:
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        config = f'[files]\nfolder = "{folder}"\n{RULES}'
        with running_server(model="embedded", config=config) as server:
            browser = launch(playwright)
            for theme in THEMES:
                page = visit(browser, f"{server.url}#recordings", theme, viewport=SIZE)
                page.get_by_label("Frames").check()
                page.get_by_role("button", name="Try the sample").click()
                page.locator(".result[data-complete=true]").wait_for(timeout=60_000)
                page.locator(".result-timeline").focus()
                for _ in range(3):
                    page.keyboard.press("ArrowDown")
                page.mouse.click(2, 2)
                page.evaluate("scrollTo(0, document.querySelector('.queue').offsetTop - 12)")
                save(f"recordings-{theme}.png", page.screenshot(animations="disabled"))
                page.close()
                page = visit(browser, f"{server.url}#recordings", theme, viewport=SIZE)
                page.get_by_text("Alerts to try").click()
                page.get_by_label("Rules of the server").check()
                page.set_input_files("#recordings-file", ROOT / "client/samples/call.flac")
                page.locator(".result[data-complete=true]").wait_for(timeout=60_000)
                page.mouse.click(2, 2)
                picture = page.locator(".trials").screenshot(animations="disabled")
                save(f"trials-{theme}.png", picture)
                page.close()
            browser.close()


def save(name: str, picture: bytes) -> None:
    """Write an image of the documentation."""
    path = IMAGES / name
    path.write_bytes(squeezed(picture))
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {size // 1000} kB")
    assert size < MOST_BYTES, "too large for the repository"


if __name__ == "__main__":
    main()
