"""Header and footer of the page on a real server: views, languages, about, sign-in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.browsing import PHONE, Tab, findings, no_timers, too_wide
from tests.support.broker import free_port
from tests.support.running import Server, running_server

OpenTab = Callable[..., Tab]
VIEWS = ("monitor", "microphone", "recordings")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


def visit(tab: Tab, server: Server, view: str = "") -> Page:
    tab.page.goto(f"{server.url}#{view}")
    expect(tab.page.locator("#status")).to_have_attribute("data-state", "live")
    return tab.page


def test_the_footer_names_the_model_and_the_notice(open_tab: OpenTab, server: Server) -> None:
    page = visit(open_tab(), server)
    about = page.locator("#about")
    expect(about).to_contain_text("fast (1)")
    expect(about).to_contain_text("Licence")
    expect(page.locator(".notice")).to_contain_text("indicators")
    expect(page.get_by_role("heading", name="No live streams")).to_be_visible()


def test_views_are_reached_by_keyboard_and_kept_in_the_url(
    open_tab: OpenTab, server: Server
) -> None:
    page = visit(open_tab(), server)
    page.keyboard.press("Tab")
    expect(page.locator("#skip")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#view-microphone")).to_be_visible()
    expect(page.locator("#view-monitor")).to_be_hidden()
    assert page.url.endswith("#microphone")
    expect(page.locator("nav a[aria-current=page]")).to_have_text("Microphone")
    expect(page).to_have_title(re.compile("Microphone"))
    page.go_back()
    expect(page.locator("#view-monitor")).to_be_visible()


def test_the_language_can_be_changed_and_is_stored(open_tab: OpenTab, server: Server) -> None:
    page = visit(open_tab(), server)
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.get_by_role("button", name="中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(page.locator("nav")).to_contain_text("麦克风")
    expect(page.get_by_role("heading", name="目前没有语音流")).to_be_visible()
    expect(page.locator("#about")).to_contain_text("许可")
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(page.locator("#status-text")).to_have_text("已连接")


def test_a_language_tag_that_is_none_does_not_stop_the_page(
    open_tab: OpenTab, server: Server
) -> None:
    """WebKit on Linux has the language "C" with LANG=C. uPlot threw, and the page stopped."""
    tab = open_tab()
    tab.page.add_init_script("""
      Object.defineProperty(Navigator.prototype, "language", { get: () => "C" });
      Object.defineProperty(Navigator.prototype, "languages", { get: () => ["C"] });
    """)
    page = visit(tab, server)
    expect(page.locator("nav a").first).to_have_text("Monitor")


@pytest.mark.parametrize(
    ("locale", "word"), [("zh-CN", "监控"), ("en-GB", "Monitor"), ("de-DE", "Monitor")]
)
def test_the_first_language_is_that_of_the_browser(
    open_tab: OpenTab, server: Server, locale: str, word: str
) -> None:
    page = visit(open_tab(locale=locale), server)
    expect(page.locator("nav a").first).to_have_text(word)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_axe_finds_nothing_serious(
    open_tab: OpenTab, server: Server, view: str, theme: str, locale: str
) -> None:
    page = visit(open_tab(color_scheme=theme, locale=locale), server, view)
    expect(page.locator(f"#view-{view}")).to_be_visible()
    assert not findings(page)


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_a_phone_needs_no_sideways_scrolling(
    open_tab: OpenTab, server: Server, locale: str
) -> None:
    tab = open_tab(viewport=PHONE, locale=locale)
    for view in VIEWS:
        page = visit(tab, server, view)
        expect(page.locator(f"#view-{view}")).to_be_visible()
        assert too_wide(page) <= 0, view


def test_a_lost_server_is_shown_and_found_again(open_tab: OpenTab) -> None:
    """The page's clock stands still meanwhile: a retry of its own would do the button's work."""
    tab = open_tab()
    tab.expected += ["net::ERR_", "WebSocket connection", "503"]
    port = ("--port", str(free_port()))
    tab.page.clock.install()
    with running_server(*port) as first:
        page = visit(tab, first)
    expect(page.locator("#status-text")).to_contain_text("not connected")
    with no_timers(page), running_server(*port):
        page.get_by_role("button", name="Try now").click()
        expect(page.locator("#status")).to_have_attribute("data-state", "live")


class Guarded:
    """Responses of a server that requires a key, in front of one that does not."""

    def __init__(self, page: Page, key: str, info: dict[str, Any]) -> None:
        self.key = key
        self._body = {**info, "login": True}
        self.tickets = 0
        page.route("**/v1/info", self._info)
        page.route("**/v1/token", self._token)

    def _info(self, route: Route) -> None:
        route.fulfill(json=self._body)

    def _token(self, route: Route) -> None:
        assert route.request.method == "POST"
        if route.request.headers.get("authorization") != f"Bearer {self.key}":
            route.fulfill(status=401, json={"error": "who are you?"})
            return
        self.tickets += 1
        route.fulfill(json={"ticket": f"ticket-{self.tickets}"})


def test_a_server_that_requires_a_key_receives_a_ticket(open_tab: OpenTab, server: Server) -> None:
    tab = open_tab()
    tab.expected.append("401")
    offered = """
      const Plain = WebSocket;
      window.offered = [];
      window.WebSocket = class extends Plain {
        constructor(url, protocols) { super(url, protocols); window.offered.push(protocols); }
      };
    """
    tab.page.add_init_script(offered)
    guard = Guarded(tab.page, "right", server.json("/v1/info"))
    tab.page.goto(server.url)
    dialog = tab.page.get_by_role("dialog", name="Sign in")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_label("Key")).to_be_focused()
    assert not findings(tab.page)
    dialog.get_by_label("Key").fill("wrong")
    tab.page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("rejected this key")
    dialog.get_by_label("Key").fill("right")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#status")).to_have_attribute("data-state", "live")
    assert tab.page.evaluate("window.offered[0]") == ["emotide.v1", "emotide.ticket.ticket-1"]
    # The key is kept for this tab, and each connection has its own ticket.
    tab.page.reload()
    expect(tab.page.locator("#status")).to_have_attribute("data-state", "live")
    assert guard.tickets == 2
    assert tab.page.evaluate("sessionStorage.length") == 1
    assert "right" not in tab.page.evaluate("JSON.stringify(localStorage)")


def test_a_user_who_declined_can_try_again(open_tab: OpenTab, server: Server) -> None:
    tab = open_tab()
    Guarded(tab.page, "right", server.json("/v1/info"))
    tab.page.goto(server.url)
    tab.page.get_by_role("button", name="Not now").click()
    expect(tab.page.locator("#status-text")).to_have_text("not signed in")
    tab.page.get_by_role("button", name="Try now").click()
    tab.page.get_by_label("Key").fill("right")
    tab.page.get_by_role("dialog").get_by_role("button", name="Sign in").click()
    expect(tab.page.locator("#status")).to_have_attribute("data-state", "live")
