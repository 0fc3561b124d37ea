"""Rules of alerts tried on a recording, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.browsing import Tab, Texts, findings, too_wide
from tests.browser.recordings_view import call, config, done, give, job, shown, visit
from tests.support.audio_files import record
from tests.support.running import Server, running_server

OpenTab = Callable[..., Tab]

RULES = """
[[alerts.rules]]
name = "loud"
label = "angry"
horizon = "window"
above = 0.3
severity = "critical"
"""
OWN = """
[[alerts.rules]]
name = "my_silence"
conversation = "dead_air"
above = 0.5
[[alerts.rules]]
name = "nobody"
label = "sad"
above = 0.5
roles = ["pilot"]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("trials")
    with running_server(config=config(folder) + RULES) as running:
        yield running


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("call") / "call.wav", call())


def test_rules_of_the_server_and_others_are_drawn(
    open_tab: OpenTab, server: Server, recording: Path
) -> None:
    tab = open_tab()
    page = visit(tab, server)
    page.get_by_text("Alerts to try").click()
    page.get_by_label("Rules of the server").check()
    page.get_by_label("Other rules").fill(OWN)
    give(page, recording)
    done(page, recording.name)
    shown(page)
    trials = page.locator(".trial")
    expect(trials).to_have_count(3)
    loud, silence, nobody = (trials.nth(n) for n in range(3))
    expect(loud).to_contain_text("Critical loud · Channel 1 · customer · indicator: angry")
    expect(loud.get_by_role("img")).to_be_visible()
    expect(loud.locator(".span")).not_to_have_count(0)
    expect(loud.locator("li").first).to_contain_text("peak")
    expect(silence).to_contain_text("the whole recording")
    expect(nobody).to_contain_text("no analysed channel has a role of this rule")
    expect(nobody.get_by_role("img")).to_have_count(0)
    texts = Texts(page, ".result .play")
    loud.get_by_role("button", name="Play").first.click()
    texts.expect("❚❚")
    assert findings(page) == []
    page.set_viewport_size({"width": 360, "height": 740})
    assert too_wide(page) <= 0
    assert tab.unexpected == []


def test_a_mistake_in_the_rules_is_shown_with_its_field_and_can_be_corrected(
    open_tab: OpenTab, server: Server, recording: Path
) -> None:
    tab = open_tab()
    page = visit(tab, server)
    page.get_by_text("Alerts to try").click()
    page.get_by_label("Other rules").fill(OWN.replace("above = 0.5", "treshold = 0.5", 1))
    give(page, recording)
    expect(job(page, recording.name)).to_have_attribute("data-state", "failed")
    expect(page.locator(".result")).to_contain_text("rules.0.treshold: unknown key")
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("Other rules").fill(OWN)
    job(page, recording.name).get_by_role("button", name="Try again").click()
    done(page, recording.name)
    shown(page)
    expect(page.locator(".trial")).to_have_count(2)
    assert tab.unexpected == []
