"""Recordings in a real browser: cancelling, retrying, and lost connections."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.browsing import Tab, Texts, no_timers
from tests.browser.recordings_view import (
    PATIENCE,
    config,
    done,
    give,
    job,
    visit,
)
from tests.support.audio_files import record
from tests.support.broker import free_port
from tests.support.running import Gate, running_server, started_server

OpenTab = Callable[..., Tab]

SLOW_NETWORK = """
  window.slow = true;
  const real = Object.getOwnPropertyDescriptor(WebSocket.prototype, "bufferedAmount");
  Object.defineProperty(WebSocket.prototype, "bufferedAmount", {
    get() { return window.slow && this.url.endsWith("files") ? 1e9 : real.get.call(this); },
  });
"""
"""A network that sends nothing, as the page sees it."""


def leftovers(folder: Path) -> list[str]:
    outputs = folder / "outputs"
    return [path.name for path in outputs.iterdir()] if outputs.is_dir() else []


def test_an_upload_can_be_cancelled(open_tab: OpenTab, tmp_path: Path) -> None:
    with running_server(config=config(tmp_path)) as server:
        tab = open_tab()
        tab.page.add_init_script(SLOW_NETWORK)
        page = visit(tab, server)
        give(page, record(tmp_path / "talk.wav"))
        expect(job(page, "talk.wav").locator(".outcome")).to_contain_text("upload 0 %")
        page.get_by_role("button", name="Cancel: talk.wav").click()
        expect(done(page, "talk.wav", "cancelled")).to_contain_text("cancelled")
        assert not leftovers(tmp_path)
        page.evaluate("window.slow = false")
        page.get_by_role("button", name="Try again: talk.wav").click()
        done(page, "talk.wav")


def test_an_analysis_can_be_cancelled(open_tab: OpenTab, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    options = {"model": "tests.support.plugins:blocked", "env": {"EMOTEST_BLOCK": str(gate.path)}}
    with running_server(config=config(tmp_path), **options) as server:
        page = visit(open_tab(), server)
        gate.shut()
        give(page, record(tmp_path / "one.wav"), record(tmp_path / "two.wav"))
        expect(job(page, "one.wav").locator(".outcome")).to_contain_text("analysis")
        bar = job(page, "one.wav").get_by_role("progressbar")
        expect(bar).to_have_attribute("aria-valuetext", re.compile("analysis"))
        expect(job(page, "two.wav").locator(".outcome")).to_have_text("waiting, next")
        page.get_by_role("button", name="Cancel: one.wav").click()
        done(page, "one.wav", "cancelled")
        gate.open()
        done(page, "two.wav")
        assert len(leftovers(tmp_path)) == 1


def test_a_waiting_recording_can_be_cancelled_and_removed(
    open_tab: OpenTab, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")
    options = {"model": "tests.support.plugins:blocked", "env": {"EMOTEST_BLOCK": str(gate.path)}}
    with running_server(config=config(tmp_path), **options) as server:
        page = visit(open_tab(), server)
        gate.shut()
        give(page, record(tmp_path / "one.wav"), record(tmp_path / "two.wav"))
        page.get_by_role("button", name="Cancel: two.wav").click()
        done(page, "two.wav", "cancelled")
        page.get_by_role("button", name="Remove: two.wav").click()
        expect(page.locator(".job")).to_have_count(1)
        gate.open()
        done(page, "one.wav")


def test_a_lost_server_is_shown_and_the_file_continues_later(
    open_tab: OpenTab, tmp_path: Path
) -> None:
    """The page also tries by itself, which once came first and took the button away."""
    tab = open_tab()
    tab.page.clock.install()
    tab.expected += ["net::ERR_", "WebSocket connection", "503"]
    port = ("--port", str(free_port()))
    with running_server(*port, config=config(tmp_path)) as first:
        page = visit(tab, first)
    page.context.set_default_timeout(PATIENCE)
    give(page, record(tmp_path / "talk.wav"))
    expect(page.locator(".connection-notice")).to_contain_text("does not answer")
    expect(job(page, "talk.wav")).to_have_attribute("data-state", "waiting")
    # The first recording was shown as waiting for others.
    expect(page.locator(".result")).to_contain_text("waits for the server")
    give(page, record(tmp_path / "more.wav"))
    expect(page.locator(".result")).to_contain_text("starts when those before it are finished")
    job(page, "talk.wav").get_by_role("button", name="Cancel").click()
    expect(page.locator(".result")).to_contain_text("waits for the server")
    job(page, "talk.wav").get_by_role("button", name="Try again").click()
    with contextlib.ExitStack() as stack:
        with no_timers(page):
            stack.enter_context(running_server(*port, config=config(tmp_path)))
            page.locator(".connection-notice").get_by_role("button", name="Try now").click()
            expect(page.locator(".connection-notice")).to_be_hidden()
        done(page, "talk.wav")


KEEP_SOCKETS = """
  const Plain = WebSocket;
  window.sockets = [];
  window.WebSocket = class extends Plain {
    constructor(...of) { super(...of); window.sockets.push(this); }
  };
"""
CLOSE_SOCKET = "window.sockets.filter(({url}) => url.endsWith('files')).at(-1).close()"
SOCKETS = "window.sockets.filter(({url}) => url.endsWith('files')).length"


@contextlib.contextmanager
def stuck(open_tab: OpenTab, folder: Path) -> Iterator[tuple[Page, Gate]]:
    """Open a page that keeps its sockets, on a server whose model waits for the gate."""
    gate = Gate(folder / "gate")
    options = {"model": "tests.support.plugins:blocked", "env": {"EMOTEST_BLOCK": str(gate.path)}}
    with running_server(config=config(folder), **options) as server:
        tab = open_tab()
        tab.page.add_init_script(KEEP_SOCKETS)
        page = visit(tab, server)
        gate.shut()
        yield page, gate


def test_a_lost_connection_starts_the_recording_again(open_tab: OpenTab, tmp_path: Path) -> None:
    with stuck(open_tab, tmp_path) as (page, gate):
        give(page, record(tmp_path / "talk.wav"))
        expect(job(page, "talk.wav").locator(".outcome")).to_contain_text("analysis")
        texts = Texts(page, ".result")
        page.evaluate(CLOSE_SOCKET)
        texts.expect("Connection lost")
        gate.open()
        done(page, "talk.wav")
        assert len(leftovers(tmp_path)) == 1


def test_a_recording_fails_after_three_lost_connections(open_tab: OpenTab, tmp_path: Path) -> None:
    """Then the next recording starts; the user can retry the first."""
    with stuck(open_tab, tmp_path) as (page, gate):
        give(page, record(tmp_path / "bad.wav"), record(tmp_path / "next.wav"))
        for _ in range(3):
            expect(job(page, "bad.wav").locator(".outcome")).to_contain_text("analysis")
            opened = page.evaluate(SOCKETS)
            page.evaluate(CLOSE_SOCKET)
            page.wait_for_function(f"() => {SOCKETS} > {opened}")
        expect(done(page, "bad.wav", "failed").locator(".outcome")).to_contain_text(
            "Connection lost"
        )
        expect(page.locator(".result")).to_contain_text("lost several times during this file")
        gate.open()
        done(page, "next.wav")
        page.get_by_role("button", name="Try again: bad.wav").click()
        done(page, "bad.wav")


def test_a_server_that_loads_its_model_is_shown(open_tab: OpenTab, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    gate.shut()
    options = {"model": "tests.support.plugins:loading", "env": {"EMOTEST_LOADING": str(gate.path)}}
    with started_server(config=config(tmp_path), **options) as server:
        server.wait_for_port()
        tab = open_tab()
        # 426: the server may have become ready while the page asks why it was refused.
        tab.expected += ["503", "426", "WebSocket connection"]
        page = tab.page
        page.goto(f"{server.url}#recordings")
        expect(page.locator(".connection-notice")).to_contain_text("The server is starting")
        give(page, record(tmp_path / "talk.wav"))
        gate.open()
        done(page, "talk.wav")
        expect(page.locator(".connection-notice")).to_be_hidden()


def test_a_server_without_recordings_is_shown(open_tab: OpenTab, tmp_path: Path) -> None:
    with running_server(config=config(tmp_path, "enabled = false")) as server:
        tab = open_tab()
        tab.expected += ["404", "WebSocket connection"]
        tab.page.goto(f"{server.url}#recordings")
        expect(tab.page.locator(".connection-notice")).to_contain_text("does not accept recordings")
