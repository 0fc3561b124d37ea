"""Recordings in a real browser: what comes in, what fails, what is cancelled or lost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Locator, expect

from tests.audio_files import cut, protected, record
from tests.browser.browsing import Tab, findings
from tests.browser.recordings_view import (
    PATIENCE,
    call,
    config,
    done,
    empty,
    give,
    job,
    shown,
    text,
    visit,
)
from tests.running import RATE, Gate, Server, running_server, speech, started_server

OpenTab = Callable[..., Tab]

STAGES = ["upload", "decode", "analysis", "write"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recordings")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with running_server(config=config(folder)) as running:
        yield running


# -- what comes in -----------------------------------------------------------------------------


CODECS = {"talk.ogg": "libopus", "talk.webm": "libopus", "talk.mp3": "libmp3lame"}
CODECS |= {"talk.wav": "pcm_s16le", "talk.flac": "flac"}


def test_every_format_is_analysed_in_one_queue(
    open_tab: OpenTab, server: Server, tmp_path: Path
) -> None:
    page = visit(open_tab(), server)
    names = [f"talk.{ending}" for ending in ("wav", "mp3", "m4a", "flac", "ogg", "webm")]
    files = [record(tmp_path / name, codec=CODECS.get(name), rate=48_000) for name in names]
    give(page, *files)
    expect(page.locator(".job")).to_have_count(len(names))
    for name in names:
        expect(done(page, name).locator(".what")).to_contain_text(re.compile(r"\d+\s%"))
    for name in names:
        page.get_by_role("button", name=name, exact=True).click()
        opened = shown(page)
        expect(opened.get_by_role("heading", name=name)).to_be_visible()
        expect(opened.locator("tbody tr").first).to_be_visible()
        assert opened.locator("tbody tr").count() >= 2, name
    expect(page.locator(".tags")).to_contain_text("opus")


def test_many_are_counted_and_the_one_that_is_opened_is_seen(
    open_tab: OpenTab, server: Server, tmp_path: Path
) -> None:
    """With twenty files a press on one seemed to do nothing: its result was far below the list."""
    page = visit(open_tab(), server)
    short = speech()[: 4 * RATE]
    files = [record(tmp_path / f"{number}.mp3", short) for number in range(11)]
    give(page, *files, text(tmp_path / "diary.mp3"))
    tally = page.locator(".tally")
    expect(tally).to_contain_text("12 recordings:")
    expect(tally).to_contain_text("waiting")
    expect(tally).to_have_text("12 recordings: 11 done · 1 failed", timeout=PATIENCE)
    # The one whose result is shown below came first, and the list had followed the work.
    assert page.locator(".queue").evaluate("({ scrollTop }) => scrollTop") == 0
    expect(job(page, "0.mp3")).to_have_attribute("data-open", "true")
    page.get_by_role("button", name="0.mp3", exact=True).click()
    expect(page.get_by_role("heading", name="0.mp3")).to_be_in_viewport()
    expect(page.locator(".verdict")).to_be_in_viewport()
    page.get_by_role("button", name="中文").click()
    expect(tally).to_have_text("共 12 个录音： 完成 11 个 · 失败 1 个")
    assert not findings(page)


def silent_film(path: Path) -> Path:
    return record(path, codec="", video=True)


BAD: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "letter.mp3": (text, "No audio file", "不是音频文件"),
    "nothing.wav": (empty, "Empty file", "空文件"),
    "film.mp4": (silent_film, "Video without sound", "视频没有声音"),
    "half.m4a": (lambda path: cut(record(path)), "Damaged file", "文件损坏"),
    "shop.m4a": (protected, "Copy protected", "受版权保护"),
}


def test_one_bad_file_never_stops_the_rest(
    open_tab: OpenTab, server: Server, tmp_path: Path
) -> None:
    page = visit(open_tab(), server)
    bad = [make(tmp_path / name) for name, (make, _, _) in BAD.items()]
    give(page, *bad, record(tmp_path / "good.wav"))
    done(page, "good.wav")
    for name, (_, english, _) in BAD.items():
        expect(done(page, name, "failed").locator(".what")).to_contain_text(english)
        page.get_by_role("button", name=name, exact=True).click()
        # The reason and what to do: two sentences at least.
        expect(page.locator(".opened .words h3")).to_contain_text(english)
        assert len(page.locator(".opened .words p").last.inner_text()) > 20, name
    page.get_by_role("button", name="中文").click()
    for name, (_, _, chinese) in BAD.items():
        expect(job(page, name).locator(".what")).to_contain_text(chinese)
        page.get_by_role("button", name=name, exact=True).click()
        assert not english_in(page.locator(".opened .words")), name
    assert not findings(page)


def english_in(node: Locator) -> list[str]:
    """Two and more English words in a row: a sentence that nobody has translated."""
    return re.findall(r"[A-Za-z]{2,}(?: [a-z]{2,})+", node.inner_text())


def test_the_log_speaks_the_pages_language(
    open_tab: OpenTab, server: Server, tmp_path: Path
) -> None:
    """It once showed the server's English words in the Chinese view, for want of the figures."""
    page = visit(open_tab(locale="zh-CN"), server)
    page.get_by_label("降噪").check()
    give(page, record(tmp_path / "call.wav", call()))
    done(page, "call.wav")
    opened = shown(page)
    opened.locator("summary").click()
    log = opened.locator(".journal")
    expect(log).to_contain_text("WAV 中的 PCM_S16LE，16 kHz，立体声，时长 0:0")
    expect(log).to_contain_text("未分析：声道 2 · 坐席")
    expect(log).to_contain_text("已开启降噪")
    assert not english_in(log)
    page.get_by_role("button", name="English").click()
    log = shown(page).locator(".journal")
    expect(log).to_contain_text("Not analysed: Channel 2 · agent.")


def test_half_a_file_is_analysed_and_said_to_be_half(
    open_tab: OpenTab, server: Server, tmp_path: Path
) -> None:
    page = visit(open_tab(), server)
    give(page, cut(record(tmp_path / "half.flac")))
    done(page, "half.flac")
    expect(shown(page).locator(".doubts")).to_contain_text("Cut off")


def test_too_large_a_file_is_refused_with_a_remedy(open_tab: OpenTab, tmp_path: Path) -> None:
    with running_server(config=config(tmp_path, "max_mb = 0.1")) as server:
        page = open_tab().page
        page.goto(f"{server.url}#recordings")
        expect(page.locator(".zone")).to_contain_text("Up to 100 kB")
        give(page, record(tmp_path / "long.wav"), record(tmp_path / "ok.mp3"))
        expect(done(page, "long.wav", "failed").locator(".what")).to_contain_text("Too large")
        expect(page.locator(".opened")).to_contain_text("Cut it into parts")
        expect(page.locator(".opened")).to_contain_text("this server takes 0.1 MB")
        done(page, "ok.mp3")


def test_too_long_a_recording_is_refused_with_a_remedy(open_tab: OpenTab, tmp_path: Path) -> None:
    with running_server(config=config(tmp_path, "max_minutes = 0.1")) as server:
        page = visit(open_tab(locale="zh-CN"), server)
        long = record(tmp_path / "long.mp3", np.tile(speech(), 3))
        give(page, long, record(tmp_path / "ok.mp3", speech()[: 4 * RATE]))
        expect(done(page, "long.mp3", "failed").locator(".what")).to_contain_text("录音太长")
        expect(page.locator(".opened")).to_contain_text("最多接受 0.1 分钟")
        done(page, "ok.mp3")


def test_files_are_dropped_anywhere_in_the_view(
    open_tab: OpenTab, server: Server, tmp_path: Path
) -> None:
    page = visit(open_tab(), server)
    content = list(record(tmp_path / "drop.mp3").read_bytes())
    drop = """(content) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([new Uint8Array(content)], "drop.mp3"));
      const event = new DragEvent("drop",
        { dataTransfer: transfer, bubbles: true, cancelable: true });
      document.querySelector("#view-recordings h2").dispatchEvent(event);
      return event.defaultPrevented;
    }"""
    assert page.evaluate(drop, content)
    done(page, "drop.mp3")


def test_progress_is_seen_at_once_and_said_aloud(
    open_tab: OpenTab, server: Server, tmp_path: Path
) -> None:
    page = visit(open_tab(), server)
    page.evaluate("""() => {
      window.said = [];
      const spoken = document.querySelector("#view-recordings .unseen[role=status]");
      new MutationObserver(() => window.said.push(spoken.textContent))
        .observe(spoken, { childList: true, characterData: true, subtree: true });
    }""")
    give(page, record(tmp_path / "talk.wav"))
    # In the same turn of the page's loop as the choice, before any answer.
    assert page.locator(".job").count() == 1
    done(page, "talk.wav")
    said = page.evaluate("window.said")
    assert said[0].startswith("talk.wav: upload"), said
    assert re.search(r"talk.wav: \w+ \d+\s%", said[-1]), said
    order = [STAGES.index(x.split(": ")[1]) for x in said[:-1]]
    assert order == sorted(set(order)), said


# -- cancel, retry, loss -----------------------------------------------------------------------

SLOW_NETWORK = """
  window.slow = true;
  const real = Object.getOwnPropertyDescriptor(WebSocket.prototype, "bufferedAmount");
  Object.defineProperty(WebSocket.prototype, "bufferedAmount", {
    get() { return window.slow && this.url.endsWith("files") ? 1e9 : real.get.call(this); },
  });
"""
"""What the page sees of a network that takes nothing more."""


def leftovers(folder: Path) -> list[str]:
    outputs = folder / "outputs"
    return [path.name for path in outputs.iterdir()] if outputs.is_dir() else []


def test_cancel_while_it_uploads(open_tab: OpenTab, tmp_path: Path) -> None:
    with running_server(config=config(tmp_path)) as server:
        tab = open_tab()
        tab.page.add_init_script(SLOW_NETWORK)
        page = visit(tab, server)
        give(page, record(tmp_path / "talk.wav"))
        expect(job(page, "talk.wav").locator(".what")).to_contain_text("upload 0 %")
        page.get_by_role("button", name="Cancel: talk.wav").click()
        expect(done(page, "talk.wav", "cancelled")).to_contain_text("cancelled")
        assert not leftovers(tmp_path)
        page.evaluate("window.slow = false")
        page.get_by_role("button", name="Try again: talk.wav").click()
        done(page, "talk.wav")


def test_cancel_while_it_is_analysed(open_tab: OpenTab, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    options = {"model": "tests.plugins:blocked", "env": {"EMOTEST_BLOCK": str(gate.path)}}
    with running_server(config=config(tmp_path), **options) as server:
        page = visit(open_tab(), server)
        gate.shut()
        give(page, record(tmp_path / "one.wav"), record(tmp_path / "two.wav"))
        expect(job(page, "one.wav").locator(".what")).to_contain_text("analysis")
        bar = job(page, "one.wav").get_by_role("progressbar")
        expect(bar).to_have_attribute("aria-valuetext", re.compile("analysis"))
        expect(job(page, "two.wav").locator(".what")).to_have_text("waiting, next")
        page.get_by_role("button", name="Cancel: one.wav").click()
        done(page, "one.wav", "cancelled")
        gate.open()
        done(page, "two.wav")
        assert len(leftovers(tmp_path)) == 1


def test_what_waits_can_be_cancelled_and_removed(open_tab: OpenTab, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    options = {"model": "tests.plugins:blocked", "env": {"EMOTEST_BLOCK": str(gate.path)}}
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


def test_a_server_that_goes_away_is_told_and_the_file_goes_on(
    open_tab: OpenTab, tmp_path: Path
) -> None:
    tab = open_tab()
    tab.expected += ["ERR_CONNECTION", "WebSocket connection", "503", "ERR_EMPTY_RESPONSE"]
    with running_server(config=config(tmp_path)) as first:
        page = visit(tab, first)
        port = first.port
    page.context.set_default_timeout(PATIENCE)
    give(page, record(tmp_path / "talk.wav"))
    expect(page.locator(".away")).to_contain_text("does not answer")
    expect(job(page, "talk.wav")).to_have_attribute("data-state", "waiting")
    # It said that its turn comes when those before it are done, and was the first.
    expect(page.locator(".opened")).to_contain_text("It waits for the server")
    give(page, record(tmp_path / "more.wav"))
    expect(page.locator(".opened")).to_contain_text("Its turn comes when those before it are done")
    job(page, "talk.wav").get_by_role("button", name="Cancel").click()
    expect(page.locator(".opened")).to_contain_text("It waits for the server")
    job(page, "talk.wav").get_by_role("button", name="Try again").click()
    with running_server("--port", str(port), config=config(tmp_path)):
        page.locator(".away").get_by_role("button", name="Try now").click()
        done(page, "talk.wav")
        expect(page.locator(".away")).to_be_hidden()


KEEP_SOCKETS = """
  const Plain = WebSocket;
  window.sockets = [];
  window.WebSocket = class extends Plain {
    constructor(...of) { super(...of); window.sockets.push(this); }
  };
"""
HANG_UP = "window.sockets.filter(({url}) => url.endsWith('files')).at(-1).close()"


def test_a_connection_that_breaks_in_the_middle_starts_again(
    open_tab: OpenTab, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")
    options = {"model": "tests.plugins:blocked", "env": {"EMOTEST_BLOCK": str(gate.path)}}
    with running_server(config=config(tmp_path), **options) as server:
        tab = open_tab()
        tab.page.add_init_script(KEEP_SOCKETS)
        page = visit(tab, server)
        gate.shut()
        give(page, record(tmp_path / "talk.wav"))
        expect(job(page, "talk.wav").locator(".what")).to_contain_text("analysis")
        page.evaluate(HANG_UP)
        expect(page.locator(".opened")).to_contain_text("Connection lost")
        gate.open()
        done(page, "talk.wav")
        assert len(leftovers(tmp_path)) == 1


def test_a_file_that_breaks_the_connection_each_time_is_given_up(
    open_tab: OpenTab, tmp_path: Path
) -> None:
    """Three times, and then the next has its turn; it can be tried again by hand."""
    gate = Gate(tmp_path / "gate")
    options = {"model": "tests.plugins:blocked", "env": {"EMOTEST_BLOCK": str(gate.path)}}
    with running_server(config=config(tmp_path), **options) as server:
        tab = open_tab()
        tab.page.add_init_script(KEEP_SOCKETS)
        page = visit(tab, server)
        gate.shut()
        give(page, record(tmp_path / "bad.wav"), record(tmp_path / "next.wav"))
        for _ in range(3):
            expect(job(page, "bad.wav").locator(".what")).to_contain_text("analysis")
            page.evaluate(HANG_UP)
            expect(job(page, "bad.wav").locator(".what")).not_to_contain_text("analysis")
        expect(done(page, "bad.wav", "failed").locator(".what")).to_contain_text("Connection lost")
        expect(page.locator(".opened")).to_contain_text("It broke several times with this file")
        gate.open()
        done(page, "next.wav")
        page.get_by_role("button", name="Try again: bad.wav").click()
        done(page, "bad.wav")


def test_a_server_that_still_loads_says_so(open_tab: OpenTab, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    gate.shut()
    options = {"model": "tests.plugins:loading", "env": {"EMOTEST_LOADING": str(gate.path)}}
    with started_server(config=config(tmp_path), **options) as server:
        server.listens()
        tab = open_tab()
        tab.expected += ["503", "WebSocket connection"]
        page = tab.page
        page.goto(f"{server.url}#recordings")
        expect(page.locator(".away")).to_contain_text("The server is starting")
        give(page, record(tmp_path / "talk.wav"))
        gate.open()
        done(page, "talk.wav")
        expect(page.locator(".away")).to_be_hidden()


def test_a_server_that_takes_no_recordings_says_so(open_tab: OpenTab, tmp_path: Path) -> None:
    with running_server(config=config(tmp_path, "enabled = false")) as server:
        tab = open_tab()
        tab.expected += ["404", "WebSocket connection"]
        tab.page.goto(f"{server.url}#recordings")
        expect(tab.page.locator(".away")).to_contain_text("takes no recordings")
