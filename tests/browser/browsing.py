"""The system's Chromium on the real page, and an event loop in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # no types
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Playwright, TimeoutError

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
        self.context.set_default_timeout(60_000)
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


WATCH_TEXTS = """(selector) => {
  const texts = ((window.textsSeen ??= {})[selector] = []);
  const note = () => {
    const text = document.querySelector(selector)?.textContent ?? "";
    if (text !== texts.at(-1)) texts.push(text);
  };
  note();
  const changes = { childList: true, characterData: true, subtree: true };
  new MutationObserver(note).observe(document.body, changes);
}"""


class Texts:
    """All texts that an element has from now on, also those that end before the test looks.

    The page retries by itself after less than 0.2 s, and a notice or an utterance ends by itself.
    """

    def __init__(self, page: Page, selector: str) -> None:
        self._page, self._selector = page, selector
        page.evaluate(WATCH_TEXTS, selector)

    @property
    def all(self) -> list[str]:
        found: list[str] = self._page.evaluate("(of) => textsSeen[of]", self._selector)
        return found

    def expect(self, pattern: str) -> None:
        """Wait until the element has, or has had, a text that matches."""
        seen = "([of, pattern]) => textsSeen[of].some((text) => new RegExp(pattern).test(text))"
        try:
            self._page.wait_for_function(seen, arg=[self._selector, pattern], timeout=60_000)
        except TimeoutError:
            raise AssertionError(f"no {pattern!r} in {self.all}") from None


def eventually(problem: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Wait, while the pages go on, until `problem()` is false; fail with what it returned."""
    deadline = time.monotonic() + timeout_s
    while found := problem():
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def keep_moving(page: Page, selector: str) -> None:
    """Let the pointer move over an element until the test ends or `clearInterval(moving)`.

    Moves that come from outside are late on a busy machine, and the pointer would count as still.
    """
    page.evaluate(
        """(selector) => {
          const node = document.querySelector(selector);
          const move = () => node.dispatchEvent(new PointerEvent("pointermove", { bubbles: true }));
          window.moving = setInterval(move, 100);
        }""",
        selector,
    )


def wait_until_drawn(canvas: Locator) -> None:
    """Wait until a canvas has a pixel that is not empty; it is drawn after its data has come."""
    canvas.evaluate("""async (c) => {
      const empty = () => !c.width ||
        !c.getContext("2d").getImageData(0, 0, c.width, c.height).data.some((value) => value);
      while (empty()) await new Promise((done) => setTimeout(done, 50));
    }""")


class Background:
    """Event loop in a thread, because Playwright's calls block the thread of the test."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float = 60.0) -> T:
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
