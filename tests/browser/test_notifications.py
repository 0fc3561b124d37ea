"""Sound and desktop notifications of alerts, with a real server and real permissions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.browsing import Tab, background, eventually, findings, too_wide
from tests.browser.test_alerts import RULES
from tests.browser.test_monitor import Streams, visit
from tests.support.running import Server, running_server

OpenTab = Callable[..., Tab]

RECORD = """
window.shown = [];
window.tones = 0;
const Real = window.Notification;
window.Notification = class extends Real {
  constructor(title, options) {
    super(title, options);
    window.shown.push({ title, ...options });
    window.newest = this;
  }
};
const start = OscillatorNode.prototype.start;
OscillatorNode.prototype.start = function (...when) {
  window.tones += 1;
  return start.apply(this, when);
};
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server(config=RULES) as running:
        yield running


@pytest.fixture
def streams(server: Server) -> Iterator[Streams]:
    with background() as loop:
        streams = Streams(server, loop)
        yield streams
        streams.close()


def prepared(open_tab: OpenTab, *permissions: str) -> Tab:
    tab = open_tab()
    tab.context.add_init_script(RECORD)
    tab.context.grant_permissions(list(permissions))
    return tab


def switches(page: Page) -> Any:
    node = page.locator(".notify")
    if node.get_attribute("open") is None:
        node.locator("summary").click()
    return node


def count(page: Page) -> list[int]:
    found: list[int] = page.evaluate("[shown.length, tones]")
    return found


def test_nothing_is_signalled_until_it_is_switched_on(
    open_tab: OpenTab, server: Server, streams: Streams
) -> None:
    tab = prepared(open_tab, "notifications")
    page = visit(tab, server)
    expect(switches(page).get_by_label("Sound")).not_to_be_checked()
    expect(switches(page).get_by_label("Desktop notification")).not_to_be_checked()
    streams.open("first", 8.0)
    streams.send_loud("first")
    expect(page.locator(".alert-badge")).to_have_count(1)
    assert count(page) == [0, 0]
    assert findings(page) == []
    page.set_viewport_size({"width": 360, "height": 740})
    assert too_wide(page) <= 0
    assert tab.unexpected == []


def test_each_alert_is_signalled_once_in_one_of_two_tabs(
    open_tab: OpenTab, server: Server, streams: Streams
) -> None:
    tab = prepared(open_tab, "notifications")
    page = visit(tab, server)
    switches(page).get_by_label("Desktop notification").check()
    switches(page).get_by_label("Sound").check()
    page.wait_for_function("() => tones === 1")  # switching it on lets the user hear it
    page.evaluate("tones = 0")
    other = tab.context.new_page()
    other.goto(f"{server.url}#microphone")
    # The choice is remembered, and it holds whichever view is shown.
    expect(other.locator("#status")).to_have_attribute("data-state", "live")
    streams.open("angry", 8.0)
    streams.send_loud("angry")
    expect(page.locator(".stream", has_text="angry").locator(".alert-badge")).to_have_count(
        1, timeout=15_000
    )
    both = "shown.length + tones"
    eventually(lambda: page.evaluate(both) + other.evaluate(both) < 1 + 3 and "not signalled")
    page.wait_for_timeout(300)
    assert page.evaluate(both) + other.evaluate(both) == 1 + 3, "one, and three tones: critical"
    one = page if page.evaluate("shown.length") else other
    [shown] = one.evaluate("shown")
    assert shown["title"] == "Critical: angry_caller"
    assert "angry · speaker · indicator: angry at or above 0.5" in shown["body"]
    one.evaluate("newest.onclick()")
    expect(one.locator(".detail h2")).to_have_text("angry")
    page.goto(f"{server.url}#monitor")
    page.reload()
    expect(page.get_by_role("link", name="angry")).to_be_visible()
    expect(switches(page).get_by_label("Desktop notification")).to_be_checked()
    page.get_by_role("link", name="angry").click()
    expect(page.locator(".alerts li")).to_have_count(1)
    assert count(page) == [0, 0], "an alert in a snapshot or in the history is not new"
    assert tab.unexpected == []


def test_a_browser_that_refuses_is_named_with_the_remedy(open_tab: OpenTab, server: Server) -> None:
    tab = open_tab()
    tab.context.add_init_script(
        "Notification.requestPermission = async () => 'denied';"
        "Object.defineProperty(Notification, 'permission', { get: () => 'denied' });"
        "localStorage.setItem('emotide.notify', '{\"desktop\":true}');"
    )
    page = visit(tab, server)
    box = switches(page).get_by_label("Desktop notification")
    expect(box).not_to_be_checked()
    box.click()
    expect(page.locator(".notify")).to_contain_text("Allow them in its settings")
    expect(box).not_to_be_checked()
    assert tab.unexpected == []
