"""The history in a real browser, on real servers with real databases."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import orjson
import pytest
from playwright.sync_api import Locator, Page, expect

from stream.history.storage.record import SessionRecord
from stream.server.access.auth import make_key
from tests.browser.browsing import DESK, PHONE, Background, Tab, findings, too_wide
from tests.browser.past_calls import ZONE, fill, past_calls
from tests.support.clients import connect
from tests.support.running import Server, running_server
from tests.support.utterances import speech

OpenTab = Callable[..., Tab]

expect.set_options(timeout=20_000)

PAGE_ROWS = 50
PATIENCE = 60_000
"""Timeout in ms for a call that ends, is written, and appears at the next refresh."""


def config(folder: Path, url: str, more: str = "") -> str:
    return f"""
[history]
url = "{url}"
spool = "{folder / "spool"}"
{more}
"""


@pytest.fixture(scope="module")
def calls() -> list[SessionRecord]:
    """Calls of the last three weeks, none of them today."""
    today = datetime.now(ZONE).replace(hour=0, minute=0, second=0, microsecond=0)
    return past_calls(today, days=22, per_day=10)


@pytest.fixture(scope="module")
def server(
    calls: list[SessionRecord], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("history")
    with running_server(config=config(folder, fill(folder / "history.db", calls))) as running:
        yield running


def visit(tab: Tab, server: Server, rest: str = "") -> Page:
    tab.page.goto(f"{server.url}#history{rest}")
    return tab.page


def rows(page: Page) -> Locator:
    return page.locator(".history-table tbody tr")


def loaded(page: Page) -> Locator:
    """Return the rows of the list, after they have been loaded."""
    expect(page.locator(".history-results[aria-busy=false]")).to_be_visible()
    return rows(page)


def field(page: Page, name: str) -> Locator:
    """Return a list or a field with suggestions."""
    return page.locator(".history-filters").get_by_role("combobox", name=name, exact=True)


def began(record: SessionRecord) -> datetime:
    return datetime.fromtimestamp(record.started_ms / 1000, ZONE)


def open_history(open_tab: OpenTab, **options: object) -> Tab:
    return open_tab(timezone_id="Europe/Berlin", **options)


def test_a_call_that_ended_appears_and_can_be_deleted(
    open_tab: OpenTab, tmp_path: Path, loop: Background
) -> None:
    """The first question of a supervisor is about the call that ended a moment ago."""
    clear = "[privacy]\nhash_ids = false"
    settings = config(tmp_path, f"sqlite:///{tmp_path / 'history.db'}", clear)
    with running_server(config=settings) as server:
        page = visit(open_history(open_tab), server)
        expect(page.get_by_text("no calls in this period")).to_be_visible()

        async def call() -> None:
            async with connect(server) as client:
                session = {"stream_id": "call-new", "tags": ["queue:x"]}
                await client.send("session.update", session=session)
                await client.until("session.updated")
                await client.audio(speech("03a01Wa.flac").tobytes())
                await client.send("session.close")
                await client.until("session.closed", timeout=20)

        loop.run(call(), timeout=40)
        # The list is loaded again by itself.
        expect(rows(page)).to_have_count(1, timeout=PATIENCE)
        expect(rows(page)).to_contain_text("queue:x")
        page.get_by_role("link", name="call-new").click()
        expect(page.get_by_role("heading", name="call-new")).to_be_focused()
        expect(page.locator(".history-call .utterances tbody tr").first).to_be_visible()
        page.get_by_role("button", name="Delete …").click()
        dialog = page.get_by_role("dialog", name="Delete call-new?")
        expect(dialog.get_by_role("button", name="Keep")).to_be_focused()
        assert not findings(page)
        page.keyboard.press("Escape")
        expect(page.get_by_role("heading", name="Utterances")).to_be_visible()
        page.get_by_role("button", name="Delete …").click()
        dialog.get_by_role("button", name="Delete").click()
        expect(page.get_by_text("The call was deleted.")).to_be_visible()
        expect(page.get_by_text("no calls in this period")).to_be_visible()
        assert server.json("/v1/history")["sessions"] == []
        page.close()  # it would miss its server


def test_the_list_has_pages_and_the_export_has_all_calls(
    open_tab: OpenTab, server: Server, calls: list[SessionRecord]
) -> None:
    page = visit(open_history(open_tab), server)
    expect(loaded(page)).to_have_count(PAGE_ROWS)
    newest = calls[-1].stream_id
    expect(rows(page).first).to_contain_text(newest)
    page.get_by_role("button", name="Show more").click()
    expect(rows(page)).to_have_count(2 * PAGE_ROWS)
    # The focus goes to the first of the new rows.
    expect(rows(page).nth(PAGE_ROWS).locator("a")).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(rows(page).nth(PAGE_ROWS - 1).locator("a")).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=newest)).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name=newest)).to_be_focused()
    expect(rows(page)).to_have_count(2 * PAGE_ROWS)
    with page.expect_download() as coming:
        page.get_by_role("button", name="Export as CSV").click()
    text = Path(coming.value.path()).read_text("utf-8")
    assert len(list(csv.DictReader(text.splitlines()))) == len(calls)
    assert re.fullmatch(r"history-[\d-]+-sessions\.csv", coming.value.suggested_filename)


def test_filters_are_kept_in_the_address(
    open_tab: OpenTab, server: Server, calls: list[SessionRecord]
) -> None:
    tab = open_history(open_tab)
    tab.expected.append("400")
    page = visit(tab, server)
    loaded(page)
    wanted = [one for one in calls if "queue:complaints" in one.tags and one.alerts]
    field(page, "Tag").fill("queue:complaints")
    field(page, "Alerts").select_option("any")
    expect(page.locator(".history-facts dd").first).to_have_text(str(len(wanted)))
    assert "tag=queue%3Acomplaints&alert=any" in page.url
    page.reload()
    expect(page.locator(".history-facts dd").first).to_have_text(str(len(wanted)))
    expect(field(page, "Tag")).to_have_value("queue:complaints")
    first = rows(page).first
    expect(first).to_contain_text(wanted[-1].stream_id)
    # Another view and back: the filters stay.
    page.get_by_role("link", name="Microphone").click()
    page.get_by_role("link", name="History").click()
    expect(page.locator(".history-facts dd").first).to_have_text(str(len(wanted)))
    field(page, "Alerts").select_option("rule")
    page.get_by_role("textbox", name="Rule").fill("dead_air")
    page.keyboard.press("Enter")
    silent = [one for one in wanted if any(a.rule == "dead_air" for a in one.alerts)]
    expect(page.locator(".history-facts dd").first).to_have_text(str(len(silent)))
    page.locator(".history-filters").get_by_role("button", name="Remove the filters").click()
    expect(page.locator(".history-facts dd").first).to_have_text(str(len(calls)))
    assert page.url.endswith("#history")
    # The server refuses what contradicts itself, and the filters stay for a correction.
    page.goto(f"{server.url}#history?min_activation=0.5&max_activation=0.2")
    expect(page.get_by_role("alert").filter(has_text="max_activation")).to_be_visible()
    page.get_by_role("spinbutton", name="Activation to").fill("60")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="max_activation")).to_have_count(0)


def test_a_day_and_an_hour_are_chosen_in_the_picture(
    open_tab: OpenTab, server: Server, calls: list[SessionRecord]
) -> None:
    page = visit(open_history(open_tab), server)
    loaded(page)
    busiest = began(calls[-1]).date().isoformat()
    of_day = [one for one in calls if began(one).date().isoformat() == busiest]
    column = page.locator(f".picture-column[data-key='{busiest}']")
    expect(column).to_have_attribute("aria-label", re.compile(f"{len(of_day)} calls"))
    column.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".history-facts dd").first).to_have_text(str(len(of_day)))
    # The focus stays in the picture, which now has other columns.
    expect(page.locator("a.picture-column:focus")).to_have_count(1)
    expect(rows(page)).to_have_count(len(of_day))
    assert f"from={busiest}&to={busiest}" in page.url
    hour = str(began(of_day[-1]).hour)
    of_hour = [one for one in of_day if str(began(one).hour) == hour]
    page.locator(f".picture-column[data-key='{hour}']").click()
    expect(rows(page)).to_have_count(len(of_hour))
    expect(page.locator(".picture-column[aria-current]")).to_have_attribute("data-key", hour)
    # The picture still has the whole day, and a second click shows all of its calls.
    expect(page.locator(".history-facts dd").first).to_have_text(str(len(of_day)))
    page.locator(f".picture-column[data-key='{hour}']").click()
    expect(rows(page)).to_have_count(len(of_day))
    page.get_by_role("button", name="Show as a table").click()
    expect(page.get_by_role("region", name="Calls over time").locator("tbody tr")).to_have_count(
        len({began(one).hour for one in of_day})
    )
    page.get_by_role("button", name="Previous period").click()
    before = (began(calls[-1]).date() - timedelta(days=1)).isoformat()
    expect(page).to_have_url(re.compile(f"from={before}&to={before}"))


def test_a_call_is_shown_with_its_alerts_and_utterances(
    open_tab: OpenTab, server: Server, calls: list[SessionRecord]
) -> None:
    call = next(one for one in reversed(calls) if one.alerts)
    page = visit(open_history(open_tab), server, f"/{call.uid}?tag=queue:x")
    expect(page.get_by_role("heading", name=call.stream_id)).to_be_visible()
    table = page.locator(".history-call .utterances tbody tr")
    expect(table).to_have_count(len(call.utterances))
    expect(page.locator(".history-call .conversation tr")).to_have_count(7)
    alert = page.locator(".history-call .alerts li").first
    expect(alert).to_contain_text("upset_customer")
    alert.get_by_role("button").click()
    timeline = page.locator(".result-timeline")
    expect(timeline).to_have_attribute("aria-valuenow", f"{call.alerts[0].started_ms / 1000:.1f}")
    timeline.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    expect(timeline).to_have_attribute("aria-valuetext", re.compile(r"utterance 1"))
    page.keyboard.press("Enter")
    expect(table.first.get_by_role("button")).to_be_focused()
    with page.expect_download() as coming:
        page.get_by_role("button", name="JSON", exact=True).click()
    saved = orjson.loads(Path(coming.value.path()).read_bytes())
    assert (saved["id"], len(saved["utterances"])) == (call.uid, len(call.utterances))
    with page.expect_download() as coming:
        page.get_by_role("button", name="CSV", exact=True).click()
    text = Path(coming.value.path()).read_text("utf-8")
    assert len(list(csv.DictReader(text.splitlines()))) == len(call.utterances)
    # The address of the list behind it was in that of the call.
    page.get_by_role("link", name="All calls").click()
    expect(page.get_by_text("No call in this period matches")).to_be_visible()


@pytest.mark.parametrize(
    ("theme", "locale", "viewport"), [("light", "zh-CN", PHONE), ("dark", "en-US", DESK)]
)
def test_the_view_is_accessible(
    open_tab: OpenTab, server: Server, theme: str, locale: str, viewport: dict[str, int]
) -> None:
    tab = open_history(open_tab, color_scheme=theme, locale=locale, viewport=viewport)
    page = visit(tab, server, "?tag=queue:complaints&alert=any&range=7d")
    expect(loaded(page).first).to_be_visible()
    page.locator(".history-more summary").click()
    rows(page).first.locator("a").scroll_into_view_if_needed()
    assert not findings(page)
    assert "history." not in page.locator("#view-history").inner_text()
    assert too_wide(page) <= 0
    rows(page).first.locator("a").click()
    expect(page.locator(".history-call .utterances tbody tr").first).to_be_visible()
    assert not findings(page)
    assert "history." not in page.locator("#view-history").inner_text()
    assert too_wide(page) <= 0


def test_a_server_without_a_history_explains_how_to_keep_one(open_tab: OpenTab) -> None:
    with running_server() as server:
        page = open_tab(viewport=PHONE).page
        page.goto(server.url)
        expect(page.locator("#about")).to_contain_text("not kept")
        page.get_by_role("link", name="History").click()
        expect(page.get_by_text("pip install 'emotide[history]'")).to_be_visible()
        expect(page.locator(".history-filters")).to_be_hidden()
        assert too_wide(page) <= 0
        assert not findings(page)
        page.close()


def test_the_tab_is_for_keys_that_may_read_the_history(open_tab: OpenTab, tmp_path: Path) -> None:
    """Calls of another tenant are shown to a key that watches it, and cannot be deleted by it."""
    today = datetime.now(ZONE).replace(hour=0, minute=0, second=0, microsecond=0)
    own, other = past_calls(today, days=7, per_day=5)[-2:]
    values = {name: getattr(other, name) for name in SessionRecord.__slots__}
    records = [own, SessionRecord(**{**values, "tenant": "acme"})]
    (key, digest), (limited, other_digest) = make_key(), make_key()
    settings = config(
        tmp_path,
        fill(tmp_path / "history.db", records),
        f"""
[auth.keys.supervisor]
sha256 = "{digest}"
scopes = ["subscribe", "history"]
tenants = ["acme"]
[auth.keys.wall]
sha256 = "{other_digest}"
scopes = ["subscribe"]
[auth.keys.acme]
tenant = "acme"
sha256 = "{"0" * 64}"
scopes = ["stream"]
""",
    )
    with running_server(config=settings) as server:
        tab = open_history(open_tab)
        tab.expected += ["401", "403"]
        page = visit(tab, server)
        page.get_by_label("Key").fill(limited)
        page.keyboard.press("Enter")
        expect(page.get_by_text("Your key may not read the history")).to_be_visible()
        expect(page.locator("#status")).to_have_attribute("data-state", "live")
        expect(page.get_by_role("link", name="History")).to_be_hidden()
        page.evaluate("sessionStorage.clear()")
        page.reload()
        page.get_by_role("button", name="Not now").click()
        page.locator(".history-notice").get_by_role("button", name="Sign in").click()
        page.get_by_label("Key").fill(key)
        page.keyboard.press("Enter")
        expect(rows(page)).to_have_count(2)
        page.locator(".history-more summary").click()
        field(page, "Tenant").select_option("acme")
        expect(rows(page)).to_have_count(1)
        rows(page).locator("a").click()
        expect(page.get_by_role("heading", name=other.stream_id)).to_be_visible()
        expect(page.get_by_role("heading", name="Utterances")).to_be_visible()
        expect(page.get_by_role("button", name="Delete …")).to_have_count(0)
        page.close()


def test_a_server_that_is_away_is_shown_and_found_again(open_tab: OpenTab, server: Server) -> None:
    tab = open_history(open_tab)
    tab.expected += ["net::ERR_", "WebSocket connection"]
    page = visit(tab, server)
    expect(loaded(page)).to_have_count(PAGE_ROWS)
    tab.context.set_offline(True)
    field(page, "Time").select_option("all")
    expect(page.get_by_text("The server does not answer")).to_be_visible()
    tab.context.set_offline(False)
    page.locator(".history-notice").get_by_role("button", name="Try now").click()
    expect(loaded(page)).to_have_count(PAGE_ROWS)
    expect(page.get_by_text("The server does not answer")).to_have_count(0)
