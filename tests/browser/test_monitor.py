"""The monitor with 50 streams on a real server: order, filter, detail, table, languages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.browser.browsing import (
    PHONE,
    Background,
    Tab,
    background,
    findings,
    keep_moving,
    too_long,
    too_wide,
    wait_until_drawn,
)
from tests.support.clients import Client, connect
from tests.support.running import Server, running_server
from tests.support.utterances import clip, speech

OpenTab = Callable[..., Tab]
LOUD, ALL = 5, 50


class Streams:
    """Producers that stay after a sentence; the model `fast` scores loud ones as angry."""

    def __init__(self, server: Server, loop: Background) -> None:
        self._server = server
        self._loop = loop
        self._stack = AsyncExitStack()
        self.clients: dict[str, Client] = {}

    def open(self, name: str, gain: float, utterances: int = 0, **session: object) -> None:
        self._loop.run(self._open(name, gain, utterances, session))

    def fill(self) -> None:
        async def all_of_them() -> None:
            for number in range(ALL):
                loud = number % (ALL // LOUD) == 3
                tag = "queue:complaints" if loud else f"queue:{number % 3}"
                await self._open(f"call-{number}", 8.0 if loud else 0.05, 0, {"tags": [tag]})

        self._loop.run(all_of_them(), 90)

    async def _open(
        self, name: str, gain: float, utterances: int, session: dict[str, object]
    ) -> None:
        client = await self._stack.enter_async_context(connect(self._server))
        client.checks = False
        self.clients[name] = client
        await client.send("session.update", session={"stream_id": name, **session})
        await client.until("session.updated")
        if utterances:
            await client.audio(speech("03a01Wa.flac", "08a01Fd.flac").tobytes())
            await client.until("emotion.segment", utterances)
        await client.audio(sentence(gain))
        await client.until("emotion.score")

    def send_loud(self, name: str) -> None:
        """Send loud speech that fills the last 10 s."""
        self._loop.run(self.clients[name].audio(3 * sentence(8.0)))

    def annotate(self, name: str, **attrs: str) -> None:
        self._loop.run(self.clients[name].send("session.annotate", attrs=attrs))

    def end(self, name: str) -> None:
        self._loop.run(self.clients.pop(name).close_session())

    def close(self) -> None:
        self._loop.run(self._stack.aclose(), 60)


def sentence(gain: float) -> bytes:
    pcm = clip("03a01Wa.flac").astype(np.float32) * gain
    data: bytes = np.clip(pcm, -32768, 32767).astype(np.int16).tobytes()
    return data


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server("--set", "limits.idle_timeout_s=300") as running:
        yield running


@pytest.fixture(scope="module")
def streams(server: Server) -> Iterator[Streams]:
    with background() as loop:
        streams = Streams(server, loop)
        streams.fill()
        yield streams
        streams.close()


def visit(tab: Tab, server: Server, path: str = "") -> Page:
    tab.page.goto(f"{server.url}#monitor{path}")
    expect(tab.page.locator("#status")).to_have_attribute("data-state", "live")
    return tab.page


def ids(page: Page) -> list[str]:
    return page.locator(".stream .id").all_text_contents()


def settled(page: Page) -> list[str]:
    """Return the order of the rows once they have kept it: they change places every two seconds."""
    page.evaluate("""async () => {
      const names = () => [...document.querySelectorAll(".stream .id")];
      const order = () => names().map((name) => name.textContent).join();
      for (let before = order(), kept = 0; kept < 25; kept += 1) {
        await new Promise((done) => setTimeout(done, 100));
        if (order() !== before) [before, kept] = [order(), 0];
      }
    }""")
    return ids(page)


def test_fifty_streams_are_shown_and_the_angry_come_first(
    open_tab: OpenTab, server: Server, streams: Streams
) -> None:
    page = visit(open_tab(), server)
    expect(page.locator(".stream")).to_have_count(ALL)
    expect(page.locator("#count")).to_have_text(f"{ALL} streams")
    loud = {f"call-{number}" for number in range(3, ALL, ALL // LOUD)}
    expect(page.locator(".stream[data-attention=high]")).to_have_count(LOUD)
    order = settled(page)
    assert set(order[:LOUD]) == loud
    first = page.locator(".stream").first
    expect(first).to_contain_text("needs attention")
    expect(first.locator(".emotion")).to_contain_text("angry")
    expect(first.locator(".emotion")).to_contain_text("%")
    expect(first).to_contain_text("queue:complaints")
    page.wait_for_timeout(2_500)
    assert ids(page) == order, "rows moved although nothing changed"
    expect(page.locator("#announcement")).to_contain_text("5 streams need attention")


def test_no_row_moves_under_the_pointer(
    open_tab: OpenTab, server: Server, streams: Streams
) -> None:
    """A user about to click a row must not hit another one that became urgent."""
    streams.open("late", 0.05)
    page = visit(open_tab(), server)
    expect(page.locator(".stream")).to_have_count(ALL + 1)
    order = settled(page)
    assert order.index("late") >= LOUD
    box = page.locator(".stream").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 300, box["y"] + 20)
    keep_moving(page, ".stream")
    streams.send_loud("late")
    late = page.locator(".stream").filter(has=page.get_by_role("link", name="late", exact=True))
    expect(late).to_have_attribute("data-attention", "high")
    page.wait_for_timeout(2_500)
    assert ids(page) == order
    page.evaluate("clearInterval(moving)")
    page.mouse.move(5, 5)
    expect(page.locator(".stream .id").nth(LOUD)).to_have_text("late")
    streams.end("late")


def test_the_filter_finds_ids_tags_roles_and_emotions(
    open_tab: OpenTab, server: Server, streams: Streams
) -> None:
    page = visit(open_tab(), server)
    expect(page.locator(".stream")).to_have_count(ALL)
    field = page.get_by_label("Filter")
    rows = page.locator(".stream:visible")
    for typed, count in (
        ("complaints", LOUD),
        ("ANGRY", LOUD),
        ("call-13", 1),
        ("speaker queue:0", 15),
        ("angry queue:0", 0),
    ):
        field.fill(typed)
        expect(rows).to_have_count(count)
        expect(page.locator("#count")).to_have_text(f"{count} of {ALL} streams")
    expect(page.get_by_text("No stream matches")).to_be_visible()
    page.get_by_role("button", name="Show all").click()
    expect(rows).to_have_count(ALL)
    expect(field).to_be_focused()


def test_enter_opens_the_detail_and_escape_closes_it(
    open_tab: OpenTab, server: Server, streams: Streams
) -> None:
    page = visit(open_tab(), server)
    link = page.get_by_role("link", name="call-13", exact=True)
    link.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="call-13")).to_be_focused()
    assert page.url.endswith("#monitor/call-13")
    expect(page.locator(".portrait .emotion")).to_contain_text("angry")
    expect(page.locator(".panel .signal")).to_contain_text("dBFS")
    # The producer did not ask for frames, so the page loads those of the shown stream.
    expect(page.get_by_role("img", name="frames of 20 ms")).to_be_visible()
    expect(page.get_by_role("heading", name="The call so far")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".stream")).to_have_count(ALL)
    expect(page.get_by_role("link", name="call-13", exact=True)).to_be_focused()


def test_a_click_anywhere_on_a_row_opens_it(
    open_tab: OpenTab, server: Server, streams: Streams
) -> None:
    page = visit(open_tab(), server)
    box = page.locator(".stream .trend").first.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 20, box["y"] + 10)
    expect(page.locator(".detail .panel")).to_be_visible()
    page.get_by_role("link", name="All streams").click()
    expect(page.locator(".stream")).to_have_count(ALL)


def test_the_detail_shows_events_from_before_the_page(
    open_tab: OpenTab, server: Server, streams: Streams
) -> None:
    streams.open("talk", 0.5, utterances=2, attrs={"line": "sip-7"}, analysis={"frames": True})
    page = visit(open_tab(), server, "/talk")
    rows = page.locator(".utterances tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("%")
    plots = page.locator(".panel .plot-canvas canvas")
    expect(plots).to_have_count(2)
    wait_until_drawn(plots.first)
    wait_until_drawn(plots.last)
    timeline = page.get_by_role("img", name="Shares over the last")
    expect(timeline).to_be_visible()
    expect(page.get_by_role("img", name="frames of 20 ms")).to_be_visible()
    page.get_by_role("button", name="Stacked").first.click()
    expect(page.get_by_role("button", name="Stacked").first).to_have_attribute(
        "aria-pressed", "true"
    )
    assert not findings(page)
    page.get_by_role("button", name="Show as a table").first.click()
    expect(timeline).to_be_hidden()
    table = page.get_by_role("region", name="Timeline").get_by_role("table")
    expect(table.get_by_role("columnheader")).to_have_text(
        ["Time", "angry", "sad", "neutral", "happy"]
    )
    assert table.get_by_role("row").count() > 2
    page.get_by_role("button", name="Show as a chart").click()
    expect(timeline).to_be_visible()
    # Texts for screen readers extended the page far below its end, more with each row.
    many = "(row) => { for (let n = 0; n < 60; n += 1) row.before(row.cloneNode(true)); }"
    rows.first.evaluate(many)
    assert too_long(page) <= 40
    streams.end("talk")
    expect(page.get_by_role("heading", name="The whole call")).to_be_visible()
    expect(page.locator(".detail .state")).to_have_text("ended")


def test_an_unknown_stream_is_reported(open_tab: OpenTab, server: Server, streams: Streams) -> None:
    page = visit(open_tab(), server, "/nobody")
    expect(page.get_by_text("There is no live stream “nobody”")).to_be_visible()


def test_ids_and_attributes_are_text(open_tab: OpenTab, server: Server, streams: Streams) -> None:
    """Texts from producers must never become markup of the page."""
    streams.open("evil", 0.5, attrs={"<b>x</b>": "<script>alert(1)</script>"})
    page = visit(open_tab(), server, "/evil")
    streams.annotate("evil", note="<img src=x>")
    expect(page.locator(".notes")).to_contain_text("<img src=x>")
    assert page.locator(".notes img").count() == 0
    streams.end("evil")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", ["", "/call-13"])
def test_axe_finds_nothing_serious(
    open_tab: OpenTab, server: Server, streams: Streams, path: str, theme: str
) -> None:
    page = visit(open_tab(color_scheme=theme), server, path)
    expect(page.locator(".stream" if not path else ".panel").first).to_be_visible()
    assert not findings(page)


def test_a_phone_shows_everything_in_chinese(
    open_tab: OpenTab, server: Server, streams: Streams
) -> None:
    tab = open_tab(viewport=PHONE, locale="zh-CN", color_scheme="dark")
    page = visit(tab, server)
    expect(page.locator(".stream")).to_have_count(ALL)
    expect(page.locator("#count")).to_have_text(f"{ALL} 路语音流")
    expect(page.locator(".stream[data-attention=high]").first).to_contain_text("愤怒")
    assert too_wide(page) <= 0
    page.get_by_label("筛选").fill("愤怒")
    expect(page.locator(".stream:visible")).to_have_count(LOUD)
    visit(tab, server, "/call-13")
    expect(page.locator(".portrait .emotion")).to_contain_text("愤怒")
    assert too_wide(page) <= 0
    page.get_by_role("button", name="English").click()
    expect(page.locator(".portrait .emotion")).to_contain_text("angry")
    expect(page.get_by_role("heading", name="Utterances")).to_be_visible()
