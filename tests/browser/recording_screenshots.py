"""Screenshots of the recordings view: `python -m tests.browser.recording_screenshots`.

They show a real server with the embedded model and the sample. Takes half a minute.
"""

from __future__ import annotations

from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright

from tests.browser.browsing import launch
from tests.browser.screenshots import IMAGES, MOST_BYTES, THEMES, squeezed, visit
from tests.support.running import ROOT, running_server

SIZE = {"width": 1100, "height": 1010}


def main() -> None:
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        config = f'[files]\nfolder = "{folder}"\n'
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
                path = IMAGES / f"recordings-{theme}.png"
                path.write_bytes(squeezed(page.screenshot(animations="disabled")))
                size = path.stat().st_size
                print(f"{path.relative_to(ROOT)}: {size // 1000} kB")
                assert size < MOST_BYTES, "too large for the repository"
                page.close()
            browser.close()


if __name__ == "__main__":
    main()
