"""emotide.js in pages of another origin: the lines of the README, the example, interruptions."""

from __future__ import annotations

import functools
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.browsing import Tab
from tests.support.running import ROOT, Server, running_server

OpenTab = Callable[..., Tab]
README_SERVER = "http://127.0.0.1:8765"
BLANK = "<!doctype html><title>Shop</title><link rel=icon href=data:,>"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, without a log."""

    def log_message(self, format: str, *values: object) -> None:
        pass


@dataclass(frozen=True)
class Shop:
    """A web server of somebody else, whose pages use the client."""

    folder: Path
    origin: str

    def page(self, html: str) -> str:
        """Return the address of a page with this content."""
        (self.folder / "page.html").write_text(html, "utf-8")
        return f"{self.origin}/page.html"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield Shop(folder, f"http://localhost:{web.server_port}")
        web.shutdown()
        thread.join(10)


@pytest.fixture(scope="module")
def server(shop: Shop) -> Iterator[Server]:
    """Server that pages of the shop may use."""
    with running_server("--set", f'server.origins=["{shop.origin}"]') as running:
        yield running


def embedded(page: Page, server: Server, options: str = "") -> None:
    """Start a microphone on a page of the shop; `seen` are the client's events but the levels."""
    page.evaluate(f"""async () => {{
      const {{ Emotide }} = await import("{server.url}client.js");
      window.seen = [];
      window.microphone = await new Emotide().microphone({{ stream_id: "shop" {options} }});
      microphone.on("*", (event) => {{
        if (event.type.startsWith("client.") && event.type !== "client.level") seen.push(event);
      }});
    }}""")
    page.wait_for_function("seen.some(({ type }) => type === 'client.connected')")


def seen(page: Page, kind: str) -> list[dict[str, object]]:
    page.wait_for_function(f"seen.some(({{ type }}) => type === '{kind}')")
    found: list[dict[str, object]] = page.evaluate(
        f"seen.filter(({{ type }}) => type === '{kind}')"
    )
    return found


def test_the_lines_of_the_readme_show_an_emotion(
    open_tab: OpenTab, speaking: Browser, server: Server, shop: Shop
) -> None:
    """The README's page had its own capture with a deprecated node, and never reconnected."""
    [lines] = re.findall(r"```html\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    assert len(lines.splitlines()) <= 10
    assert README_SERVER in lines
    page = open_tab(browser=speaking).page
    page.goto(shop.page(BLANK + lines.replace(README_SERVER, server.url.rstrip("/"))))
    page.get_by_role("button", name="Start").click()
    expect(page.locator("output")).to_have_text(re.compile(r"^\w+ 0?\.?\d+"))
    page.goto("about:blank")


def test_the_example_starts_shows_and_stops(
    open_tab: OpenTab, speaking: Browser, server: Server, shop: Shop
) -> None:
    example = (ROOT / "examples" / "microphone.html").read_text("utf-8")
    page = open_tab(browser=speaking).page
    address = shop.page(example.replace("<title>", "<link rel=icon href=data:,><title>"))
    page.goto(f"{address}?server={server.url.rstrip('/')}")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#emotion")).to_contain_text(re.compile(r"^\w+ \d+ %$"))
    page.wait_for_function("document.querySelector('meter').value > 0.01")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status")).to_contain_text(re.compile(r"^\d+\.\d s of speech$"))
    expect(page.get_by_role("button", name="Start")).to_be_enabled()


def test_a_page_of_another_origin_cannot_import_the_client(
    open_tab: OpenTab, speaking: Browser, server: Server, shop: Shop
) -> None:
    tab = open_tab(browser=speaking)
    tab.expected += ["blocked by CORS policy", "Failed to load resource"]
    tab.page.goto(shop.page(BLANK).replace("localhost", "127.0.0.1"))
    load = f'import("{server.url}client.js").then(() => "loaded", ({{ name }}) => name)'
    assert tab.page.evaluate(load) == "TypeError"


SLEEP = """
// The audio thread's clock, as it is after a sleep of the computer.
window.slept = 0;
globalThis.AudioWorkletNode = class extends AudioWorkletNode {
  constructor(...options) {
    super(...options);
    const { port } = this;
    const { set } = Object.getOwnPropertyDescriptor(MessagePort.prototype, "onmessage");
    Object.defineProperty(port, "onmessage", {
      set: (listener) => set.call(port, (event) => {
        if (event.data.at) event.data.at += slept;
        listener(event);
      }),
    });
  }
};
"""


def test_a_sleep_of_the_computer_passes_on_the_streams_clock(
    open_tab: OpenTab, speaking: Browser, server: Server, shop: Shop
) -> None:
    """The time for which a laptop was closed was missing from the positions of all later events."""
    page = open_tab(browser=speaking).page
    page.add_init_script(SLEEP)
    page.goto(shop.page(BLANK))
    embedded(page, server)
    page.evaluate("slept = 60_000")
    [continued] = seen(page, "client.continued")
    assert 59_000 < int(str(continued["ms"])) < 62_000
    page.wait_for_timeout(300)
    closed = page.evaluate("microphone.close()")
    assert 60_000 < closed["totals"]["audio_ms"] < 90_000
    assert page.evaluate("microphone.ended")


def test_a_track_of_the_page_is_sent_and_not_stopped(
    open_tab: OpenTab, speaking: Browser, server: Server, shop: Shop
) -> None:
    """A softphone has a track already; a second request would ask its user again."""
    page = open_tab(browser=speaking).page
    page.goto(shop.page(BLANK))
    page.evaluate("""async () => {
      window.source = await navigator.mediaDevices.getUserMedia({ audio: true });
      navigator.mediaDevices.getUserMedia = null;
    }""")
    embedded(page, server, ", source")
    page.evaluate("""() => {
      source.getTracks()[0].stop();
      source.getTracks()[0].dispatchEvent(new Event("ended"));
    }""")
    [failed] = seen(page, "client.failed")
    assert failed["code"] == "lost"
    assert page.evaluate("microphone.ended")


def test_a_refused_setting_releases_the_device(
    open_tab: OpenTab, speaking: Browser, server: Server, shop: Shop
) -> None:
    tab = open_tab(browser=speaking)
    page = tab.page
    page.goto(shop.page(BLANK))
    page.evaluate(f"""async () => {{
      const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      navigator.mediaDevices.getUserMedia = async (wanted) => (window.media = await ask(wanted));
      const {{ Emotide }} = await import("{server.url}client.js");
      window.microphone = await new Emotide().microphone({{ streamId: "shop" }});
      window.seen = [];
      microphone.on("client.failed", (event) => seen.push(event));
    }}""")
    [failed] = seen(page, "client.failed")
    assert (failed["code"], failed["error"]["param"]) == ("refused", "session.streamId")  # type: ignore[index]  # any JSON
    page.wait_for_function("media.getTracks()[0].readyState === 'ended'")
