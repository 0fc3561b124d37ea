"""Alerts and the conversation on the monitor, with a real server."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser.browsing import background, findings
from tests.browser.test_monitor import OpenTab, Streams, sentence, visit
from tests.support.clients import connect
from tests.support.running import Server, running_server

RULES = """
[limits]
idle_timeout_s = 300
ahead_s = 1000
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
    with running_server(config=RULES) as running:
        yield running


def two_sided(count: int) -> bytes:
    """Return the customer and the agent in turn, each `count` times."""
    voice = np.frombuffer(sentence(1.0), "<i2")
    silence = np.zeros_like(voice)
    turns = [np.stack([voice, silence], 1), np.stack([silence, voice], 1)] * count
    return np.concatenate(turns).tobytes()


def test_a_stream_with_an_alert_comes_first_until_it_is_acknowledged(
    open_tab: OpenTab, server: Server
) -> None:
    with background() as loop:
        streams = Streams(server, loop)
        streams.open("calm", 0.05)
        tab = open_tab()
        page = visit(tab, server)
        expect(page.locator(".stream")).to_have_count(1)
        expect(page.locator(".alert-badge")).to_have_count(0)
        streams.open("angry", 8.0)
        streams.send_loud("angry")
        badge = page.locator(".stream .alert-badge")
        expect(badge).to_have_text("angry_caller")
        # Rows change places every two seconds at most.
        expect(page.locator(".stream .id").first).to_have_text("angry")
        page.get_by_role("searchbox").fill("angry_caller")
        expect(page.locator(".stream:visible")).to_have_count(1)
        page.get_by_role("searchbox").fill("")
        page.locator(".stream .id", has_text="angry").click()
        item = page.locator(".alerts li")
        expect(item).to_contain_text("indicator: angry at or above 0.5")
        expect(item).to_contain_text("Critical")
        assert findings(page) == []
        page.get_by_role("button", name="Acknowledge").click()
        expect(item).to_contain_text("acknowledged")
        expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)
        # Another supervisor knows it, too.
        second = visit(open_tab(), server)
        second.locator(".stream .id", has_text="angry").click()
        expect(second.locator(".alerts li")).to_contain_text("acknowledged")
        expect(second.get_by_role("button", name="Acknowledge")).to_have_count(0)
        streams.end("angry")
        expect(item).to_contain_text("ended with the stream")
        streams.close()
        assert tab.unexpected == []


def test_a_call_shows_who_talks(open_tab: OpenTab, server: Server) -> None:
    with background() as loop:
        streams = Streams(server, loop)
        page = visit(open_tab(), server)

        async def call() -> None:
            client = await streams._stack.enter_async_context(connect(server))
            audio = {"channels": 2}
            await client.send("session.update", session={"stream_id": "call", "audio": audio})
            await client.until("session.updated")
            await client.audio(two_sided(4))

        loop.run(call())
        talk = page.locator(".stream", has_text="call").locator(".talk")
        expect(talk).to_contain_text("customer")
        expect(talk).to_contain_text("agent")
        page.locator(".stream .id", has_text="call").click()
        expect(page.locator(".detail h2")).to_have_text("call")
        table = page.locator("table.conversation")
        expect(table).to_contain_text("Longest monologue")
        expect(table.locator("tr").nth(1).locator("td")).to_have_count(2)
        assert findings(page) == []
        streams.close()
