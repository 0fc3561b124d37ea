"""The monitor as a supervisor uses it: many calls on one screen, filters, keys, and the wall."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, WebSocketRoute, expect

from tests.browser.browsing import (
    PHONE,
    background,
    findings,
    keep_moving,
    too_wide,
    wait_until_drawn,
)
from tests.browser.test_monitor import OpenTab, Streams, sentence, settled, visit
from tests.support.clients import connect
from tests.support.running import Server, running_server

LAPTOP = {"width": 1366, "height": 768}
SCREEN = {"width": 1920, "height": 1080}
CALLS, LOUD = 24, 3
PATIENT_MS = 30_000
"""For a page that loads, which takes seconds on a busy machine."""
CONFIG = """
[limits]
idle_timeout_s = 300
ahead_s = 1000
[privacy]
analyse_roles = ["customer", "agent", "speaker"]
employee_basis = "acted_recording"
[[alerts.rules]]
name = "angry_caller"
label = "angry"
horizon = "window"
above = 0.5
cooldown_s = 600
roles = ["speaker"]
severity = "critical"
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server(config=CONFIG) as running:
        yield running


@pytest.fixture(scope="module")
def streams(server: Server) -> Iterator[Streams]:
    """Return calls of two queues; the first ones are loud, so each has an open alert."""
    with background() as loop:
        streams = Streams(server, loop)
        loop.run(open_calls(streams, server), 90)
        yield streams
        streams.close()


async def open_calls(streams: Streams, server: Server) -> None:
    async def one_sided(number: int) -> None:
        loud = number < LOUD
        tag = f"queue:{'complaints' if loud else 'sales'}"
        name = f"call-{number:02}"
        await streams._open(name, 8.0 if loud else 0.05, 0, {"tags": [tag]})
        if loud:
            await streams.clients[name].audio(3 * sentence(8.0))

    await asyncio.gather(*map(one_sided, range(CALLS)), two_sided(streams, server))


async def two_sided(streams: Streams, server: Server) -> None:
    """Open a call with a loud customer and a quiet agent."""
    client = await streams._stack.enter_async_context(connect(server))
    client.checks = False
    session = {
        "stream_id": "duet",
        "audio": {"channels": 2},
        "analysis": {"analyse_channels": [0, 1]},
    }
    await client.send("session.update", session=session)
    await client.until("session.updated")
    loud, quiet = (np.frombuffer(sentence(gain), "<i2") for gain in (1.0, 0.5))
    silence = np.zeros_like(loud)
    turns = [np.stack([loud, silence], 1), np.stack([silence, quiet], 1)]
    await client.audio(np.concatenate(2 * turns).tobytes())
    await client.until("emotion.segment", 2)


def rows_in_view(page: Page) -> int:
    whole = "(row) => row.getBoundingClientRect().bottom <= innerHeight"
    return int(page.locator(".stream").evaluate_all(f"(rows) => rows.filter({whole}).length"))


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.textContent"))


def row(page: Page, name: str) -> Locator:
    return page.locator(".stream", has=page.get_by_role("link", name=name, exact=True))


def pending(page: Page) -> Locator:
    return page.locator('.stream[data-alert="critical"]')


def test_twenty_calls_fit_on_the_screen_of_a_laptop(
    open_tab: OpenTab, server: Server, streams: Streams
) -> None:
    """Six calls fitted, so a supervisor of twenty agents scrolled all day."""
    page = visit(open_tab(viewport=LAPTOP), server)
    expect(page.locator(".stream")).to_have_count(CALLS + 1)
    assert rows_in_view(page) >= 20
    assert too_wide(page) <= 0


def test_a_row_shows_both_voices_the_trend_the_talk_and_the_alerts(
    open_tab: OpenTab, server: Server, streams: Streams
) -> None:
    page = visit(open_tab(viewport=LAPTOP), server)
    expect(pending(page)).to_have_count(LOUD)
    duet = row(page, "duet")
    expect(duet.locator(".voice")).to_have_count(2)
    expect(duet.locator(".voice").last).to_contain_text("agent")
    expect(duet.locator(".negative")).to_contain_text("%")
    expect(duet.locator(".talk")).to_contain_text(re.compile("customer .+ · agent .+%"))
    trend = duet.locator(".trend")
    expect(trend).not_to_have_attribute("width", "300")
    wait_until_drawn(trend)
    page.locator(".stream .id").first.hover()
    expect(page.locator(".stream").first).to_have_attribute("title", re.compile("angry_caller: "))
    page.get_by_label("Role").select_option("agent")
    expect(page.locator(".stream:visible")).to_have_count(1)
    expect(duet.locator(".voice")).to_have_count(1)
    expect(duet.locator(".voice")).to_contain_text("agent")


def test_rows_out_of_view_are_not_drawn(
    open_tab: OpenTab, server: Server, streams: Streams
) -> None:
    """With two hundred calls, drawing those that nobody sees takes most of the time."""
    page = visit(open_tab(viewport={"width": 1366, "height": 400}), server)
    trends = page.locator(".stream .trend")
    expect(trends).to_have_count(CALLS + 1)
    # A canvas has a width of 300 until its first drawing.
    expect(trends.first).not_to_have_attribute("width", "300")
    assert trends.last.evaluate("(canvas) => canvas.width") == 300
    trends.last.scroll_into_view_if_needed()
    expect(trends.last).to_have_attribute("width", re.compile(r"^(?!300$)\d+$"))


def test_filters_combine_and_stay_in_the_address(
    open_tab: OpenTab, server: Server, streams: Streams
) -> None:
    page = visit(open_tab(), server)
    shown = page.locator(".stream:visible")
    expect(shown).to_have_count(CALLS + 1)
    page.get_by_label("Alerts", exact=True).select_option("rule:angry_caller")
    expect(shown).to_have_count(LOUD)
    page.get_by_label("Tag").select_option("queue:sales")
    expect(page.get_by_text("No stream matches")).to_be_visible()
    page.get_by_label("Alerts", exact=True).select_option("")
    expect(shown).to_have_count(CALLS - LOUD)
    page.get_by_label("Filter").fill("call-2")
    expect(shown).to_have_count(4)
    address = re.compile(r"\?find=call-2&tag=queue%3Asales#monitor")
    expect(page).to_have_url(address, timeout=PATIENT_MS)
    page.reload(wait_until="commit")
    expect(shown).to_have_count(4, timeout=PATIENT_MS)
    expect(page.get_by_label("Tag")).to_have_value("queue:sales")
    page.goto(f"{server.url}?tag=queue:tomorrow", wait_until="commit")
    expect(page.get_by_label("Tag")).to_have_value("queue:tomorrow", timeout=PATIENT_MS)
    page.get_by_role("button", name="Show all").click()
    expect(shown).to_have_count(CALLS + 1)


def test_a_supervisor_needs_no_mouse(open_tab: OpenTab, server: Server, streams: Streams) -> None:
    page = visit(open_tab(viewport=LAPTOP), server)
    expect(pending(page)).to_have_count(LOUD)
    order = settled(page)
    for key, expected in (
        ("j", 0),
        ("j", 1),
        ("ArrowDown", 2),
        ("k", 1),
        ("End", CALLS),
        ("j", CALLS),
        ("PageUp", CALLS - 10),
        ("Home", 0),
        ("ArrowUp", 0),
    ):
        page.keyboard.press(key)
        assert focused(page) == order[expected], key
    # The list is one stop for Tab: the row, then its button.
    assert page.locator(".stream [tabindex='0']:visible").count() == 2
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=order[0])).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name=order[0], exact=True)).to_be_focused()
    page.keyboard.press("/")
    field = page.get_by_label("Filter")
    expect(field).to_be_focused()
    page.keyboard.type("jawk?/")
    expect(field).to_have_value("jawk?/")
    page.keyboard.press("Escape")
    expect(field).to_have_value("")
    page.keyboard.press("Escape")
    assert focused(page) in order
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Help")
    expect(dialog).to_contain_text("acknowledge the stream's alerts")
    assert not findings(page)
    dialog.get_by_label("Use letters and signs").uncheck()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    for key in ("w", "a", "/", "?"):
        page.keyboard.press(key)
    assert focused(page) in order
    page.keyboard.press("ArrowDown")
    assert focused(page) in order
    expect(dialog).to_be_hidden()


def test_alerts_are_acknowledged_in_the_list(
    open_tab: OpenTab, server: Server, streams: Streams
) -> None:
    page = visit(open_tab(viewport=LAPTOP), server)
    expect(pending(page)).to_have_count(LOUD)
    settled(page)
    page.keyboard.press("j")
    page.keyboard.press("a")
    expect(pending(page)).to_have_count(LOUD - 1)
    page.get_by_role("button", name="Acknowledge the alerts of").first.click()
    expect(pending(page)).to_have_count(LOUD - 2)
    assert page.url.endswith("#monitor"), "the click opened the row"
    expect(page.locator(".alert-badge")).to_have_count(LOUD)
    page.get_by_label("Alerts", exact=True).select_option("pending")
    expect(page.locator(".stream:visible")).to_have_count(LOUD - 2)


def test_the_wall_shows_numbers_and_the_urgent_calls_without_controls(
    open_tab: OpenTab, server: Server, streams: Streams
) -> None:
    page = open_tab(viewport=SCREEN, color_scheme="dark").page
    page.goto(f"{server.url}?wall")
    tiles = page.locator(".tile")
    expect(tiles.first).to_contain_text("angry_caller")
    for name, number in (("live", CALLS + 1), ("alerts", LOUD)):
        expect(page.locator(f".wall-number[data-of={name}] .big")).to_have_text(str(number))
    page.wait_for_function(f"""() => {{
      const hidden = {CALLS + 1} - document.querySelectorAll(".tile").length;
      const more = document.querySelector(".wall-more").textContent;
      return hidden > 0 && more === `There are ${{hidden}} more.`;
    }}""")
    for part in (".top", "footer", ".streams", ".filters"):
        expect(page.locator(part)).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollHeight") <= SCREEN["height"]
    assert too_wide(page) <= 0
    assert tiles.last.evaluate("(tile) => tile.getBoundingClientRect().bottom") < SCREEN["height"]
    assert (
        float(
            page.locator(".big").first.evaluate("(n) => parseFloat(getComputedStyle(n).fontSize)")
        )
        > 80
    )
    assert not findings(page)


def test_the_wall_is_left_by_key_or_button_and_kept_in_the_address(
    open_tab: OpenTab, server: Server, streams: Streams
) -> None:
    page = visit(open_tab(), server)
    expect(page.locator(".stream")).to_have_count(CALLS + 1)
    page.keyboard.press("w")
    expect(page.locator(".tile").first).to_be_visible()
    expect(page).to_have_url(f"{server.url}?wall#monitor")
    page.reload(wait_until="commit")
    expect(page.locator(".tile").first).to_be_visible(timeout=PATIENT_MS)
    page.keyboard.press("Escape")
    expect(page.locator(".stream").first).to_be_visible()
    expect(page.locator(".top")).to_be_visible()
    page.get_by_role("button", name="Wall").click()
    expect(page.locator(".tile").first).to_be_visible()
    page.mouse.move(300, 300)
    page.mouse.move(310, 310)
    keep_moving(page, ".tile")
    page.get_by_role("button", name="Leave the wall").click()
    expect(page.locator(".stream").first).to_be_visible()
    page.goto(f"{server.url}?wall&tag=queue:complaints#monitor")
    expect(page.locator(".tile")).to_have_count(LOUD)
    expect(page.locator(".wall-filters")).to_have_text("queue:complaints")
    # The detail of a stream is not part of the wall.
    page.goto(f"{server.url}?wall#monitor/duet")
    expect(page.get_by_role("heading", name="duet")).to_be_visible()
    expect(page.locator(".top")).to_be_visible()


def test_the_wall_says_that_the_connection_is_lost(
    open_tab: OpenTab, server: Server, streams: Streams
) -> None:
    """Values that no longer change look like a calm hour from across the room."""
    sockets: list[WebSocketRoute] = []

    def connect_once(socket: WebSocketRoute) -> None:
        if sockets:
            socket.close(code=1001)
        else:
            sockets.append(socket)
            socket.connect_to_server()

    page = open_tab().page
    page.route_web_socket("**/v1/subscribe", connect_once)
    page.goto(f"{server.url}?wall")
    expect(page.locator(".tile").first).to_be_visible()
    expect(page.locator(".wall-lost")).to_be_hidden()
    sockets[0].close(code=1001)
    expect(page.locator(".wall-lost")).to_be_visible()
    expect(page.locator(".wall-lost")).to_have_text("The connection to the server is lost.")


def test_a_phone_shows_the_list_and_the_wall_in_chinese(
    open_tab: OpenTab, server: Server, streams: Streams
) -> None:
    page = visit(open_tab(viewport=PHONE, locale="zh-CN", color_scheme="dark"), server)
    expect(pending(page)).to_have_count(LOUD)
    assert too_wide(page) <= 0
    assert not findings(page)
    page.get_by_role("button", name="大屏").click()
    expect(page.locator(".tile").first).to_contain_text("愤怒")
    assert too_wide(page) <= 0


def test_an_address_that_was_edited_by_hand_does_not_stop_the_page(
    open_tab: OpenTab, server: Server, streams: Streams
) -> None:
    """`%` without digits cannot be decoded, and the page stayed empty."""
    page = visit(open_tab(), server, "/50%")
    expect(page.get_by_text("There is no live stream “50%”")).to_be_visible()
