"""The system's Chromium on the real page, and an event loop in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # no types
from playwright.sync_api import Browser, BrowserContext, Page, Playwright

T = TypeVar("T")

FLAGS = (
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
DEVICE = "--use-fake-device-for-media-stream"
ALLOW = "--use-fake-ui-for-media-stream"
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1200, "height": 800}

WATCH_POLICY = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
"""


def launch(playwright: Playwright, *flags: str) -> Browser:
    """Start the system's Chromium without a window; nothing is downloaded."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "the browser tests need Chromium: apt-get install chromium"
    return playwright.chromium.launch(executable_path=found, args=[*FLAGS, *flags])


class Tab:
    """A page with its own profile. `problems` are all errors on it.

    These are errors and warnings of the console, exceptions, violations of the page's policy, and
    requests to another host. A test that causes some adds a part of each to `expected`.
    """

    def __init__(self, browser: Browser, **options: Any) -> None:
        settings = {"viewport": DESK, "locale": "en-US", "color_scheme": "light", **options}
        self.context: BrowserContext = browser.new_context(**settings)
        self.context.set_default_timeout(20_000)
        self.page: Page = self.context.new_page()
        self.problems: list[str] = []
        self.expected: list[str] = []
        self._hosts: set[str | None] = set()
        self.page.add_init_script(WATCH_POLICY)
        self.page.on("console", lambda message: self._console(message.type, message.text))
        self.page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))
        self.page.on("request", lambda request: self._hosts.add(urlsplit(request.url).hostname))

    def _console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.problems.append(f"{kind}: {text}")

    @property
    def unexpected(self) -> list[str]:
        """Problems that the test did not expect, and requests to other hosts."""
        foreign = [f"request to {host}" for host in self._hosts - {"127.0.0.1", "localhost", None}]
        problems = foreign + self.problems
        return [item for item in problems if not any(part in item for part in self.expected)]

    def close(self) -> None:
        self.context.close()


def findings(page: Page) -> list[str]:
    """Return the serious and critical violations that axe-core finds, with the elements."""
    # During a transition, colours have values that the style sheet does not contain.
    page.wait_for_timeout(300)
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['impact']} {rule['id']}: {rule['help']}: "
        + "; ".join(node["html"][:160] for node in rule["nodes"][:4])
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


def too_wide(page: Page) -> int:
    """Return the number of CSS pixels by which the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))


def too_long(page: Page) -> int:
    """Return the number of empty CSS pixels below the footer, without its margin."""
    return int(
        page.evaluate("""() => {
          const { bottom } = document.querySelector("footer").getBoundingClientRect();
          return document.documentElement.scrollHeight - scrollY - bottom;
        }""")
    )


@contextlib.contextmanager
def no_timers(page: Page) -> Iterator[None]:
    """Stop the page's timers, so that it does nothing by itself until the end of the block.

    `page.clock.install()` must come before the page is opened.
    """
    page.clock.pause_at(page.evaluate("Date.now() / 1000 + 1"))
    yield
    page.clock.resume()


class Background:
    """Event loop in a thread, because Playwright's calls block the thread of the test."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float = 30.0) -> T:
        return self.start(coroutine).result(timeout)

    def stop(self) -> None:
        async def cancel() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.run(cancel())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@contextlib.contextmanager
def background() -> Iterator[Background]:
    loop = Background()
    try:
        yield loop
    finally:
        loop.stop()
