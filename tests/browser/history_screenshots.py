"""Screenshots of the history: `python -m tests.browser.history_screenshots`.

They show a real server with a month of made-up calls. Takes a minute.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Page, expect, sync_playwright

from tests.browser.browsing import launch
from tests.browser.past_calls import ZONE, fill, past_calls
from tests.browser.recording_screenshots import save
from tests.browser.screenshots import THEMES, visit
from tests.support.running import running_server

SIZE = {"width": 1100, "height": 1010}
UNTIL_HOUR = 16


def main() -> None:
    until = datetime.now(ZONE).replace(hour=UNTIL_HOUR, minute=0, second=0, microsecond=0)
    records = past_calls(until, days=30, per_day=60)
    opened = next(one for one in reversed(records) if len(one.alerts) > 1)
    with TemporaryDirectory() as name, sync_playwright() as playwright:
        url = fill(Path(name) / "history.db", records)
        config = f'[history]\nurl = "{url}"\nspool = "{name}/spool"\n'
        with running_server(model="embedded", config=config) as server:
            browser = launch(playwright)
            for theme in THEMES:
                page = visit(
                    browser,
                    f"{server.url}#history",
                    theme,
                    viewport=SIZE,
                    timezone_id=ZONE.key,
                )
                expect(page.locator(".history-table tbody tr").first).to_be_visible()
                shoot(page, f"history-{theme}.png")
                page.goto(f"{server.url}#history/{opened.uid}")
                expect(page.locator(".history-call .utterances tbody tr").first).to_be_visible()
                page.locator(".history-call .alerts button").first.click()
                page.evaluate("scrollTo(0, 0)")
                shoot(page, f"history-call-{theme}.png")
                page.close()
            browser.close()


def shoot(page: Page, name: str) -> None:
    page.mouse.move(2, 2)
    page.wait_for_timeout(500)
    save(name, page.screenshot(animations="disabled"))


if __name__ == "__main__":
    main()
