"""Recordings in a real browser: accepted and refused files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from playwright.sync_api import Locator, expect

from tests.browser.browsing import Tab, Texts, findings
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
from tests.support.audio_files import cut, protected, record
from tests.support.running import Server, running_server
from tests.support.utterances import RATE, speech

OpenTab = Callable[..., Tab]

STAGES = ["upload", "decode", "analysis", "write"]


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
        expect(done(page, name).locator(".outcome")).to_contain_text(re.compile(r"\d+\s%"))
    for name in names:
        page.get_by_role("button", name=name, exact=True).click()
        opened = shown(page)
        expect(opened.get_by_role("heading", name=name)).to_be_visible()
        expect(opened.locator("tbody tr").first).to_be_visible()
        assert opened.locator("tbody tr").count() >= 2, name
    expect(page.locator(".tags")).to_contain_text("opus")


def test_many_recordings_are_counted_and_an_opened_one_is_visible(
    open_tab: OpenTab, server: Server, tmp_path: Path
) -> None:
    """With twenty files a click seemed to do nothing: the result was far below the list."""
    page = visit(open_tab(), server)
    short = speech()[: 4 * RATE]
    files = [record(tmp_path / f"{number}.mp3", short) for number in range(11)]
    texts = Texts(page, ".tally")
    give(page, *files, text(tmp_path / "diary.mp3"))
    tally = page.locator(".tally")
    texts.expect("^12 recordings:.* waiting")
    expect(tally).to_have_text("12 recordings: 11 done · 1 failed", timeout=PATIENCE)
    # The open recording is the first, and the list had scrolled to the running ones.
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
    "letter.mp3": (text, "Not an audio file", "不是音频文件"),
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
        expect(done(page, name, "failed").locator(".outcome")).to_contain_text(english)
        page.get_by_role("button", name=name, exact=True).click()
        # The reason and the remedy: at least two sentences.
        expect(page.locator(".pending-text h3")).to_contain_text(english)
        assert len(page.locator(".pending-text p").last.inner_text()) > 20, name
    page.get_by_role("button", name="中文").click()
    for name, (_, _, chinese) in BAD.items():
        expect(job(page, name).locator(".outcome")).to_contain_text(chinese)
        page.get_by_role("button", name=name, exact=True).click()
        assert not english_in(page.locator(".pending-text")), name
    assert not findings(page)


def english_in(node: Locator) -> list[str]:
    """Return sequences of English words: sentences without a translation."""
    return re.findall(r"[A-Za-z]{2,}(?: [a-z]{2,})+", node.inner_text())


def test_the_log_has_the_language_of_the_page(
    open_tab: OpenTab, server: Server, tmp_path: Path
) -> None:
    """The Chinese view showed the server's English messages, because values were missing."""
    page = visit(open_tab(locale="zh-CN"), server)
    page.get_by_label("降噪").check()
    give(page, record(tmp_path / "call.wav", call()))
    done(page, "call.wav")
    opened = shown(page)
    opened.locator("summary").click()
    log = opened.locator(".log")
    expect(log).to_contain_text("WAV 中的 PCM_S16LE，16 kHz，立体声，时长 0:0")
    expect(log).to_contain_text("未分析：声道 2 · 坐席")
    expect(log).to_contain_text("已开启降噪")
    assert not english_in(log)
    page.get_by_role("button", name="English").click()
    log = shown(page).locator(".log")
    expect(log).to_contain_text("Not analysed: Channel 2 · agent.")


def test_half_a_file_is_analysed_with_a_hint(
    open_tab: OpenTab, server: Server, tmp_path: Path
) -> None:
    page = visit(open_tab(), server)
    give(page, cut(record(tmp_path / "half.flac")))
    done(page, "half.flac")
    expect(shown(page).locator(".caveats")).to_contain_text("Cut off")


def test_a_file_that_is_too_large_is_refused_with_a_remedy(
    open_tab: OpenTab, tmp_path: Path
) -> None:
    with running_server(config=config(tmp_path, "max_mb = 0.1")) as server:
        page = open_tab().page
        page.goto(f"{server.url}#recordings")
        expect(page.locator(".drop-zone")).to_contain_text("Each file may have 100 kB")
        give(page, record(tmp_path / "long.wav"), record(tmp_path / "ok.mp3"))
        expect(done(page, "long.wav", "failed").locator(".outcome")).to_contain_text("Too large")
        expect(page.locator(".result")).to_contain_text("Split it into parts")
        expect(page.locator(".result")).to_contain_text("This server accepts 0.1 MB")
        done(page, "ok.mp3")


def test_a_recording_that_is_too_long_is_refused_with_a_remedy(
    open_tab: OpenTab, tmp_path: Path
) -> None:
    with running_server(config=config(tmp_path, "max_minutes = 0.1")) as server:
        page = visit(open_tab(locale="zh-CN"), server)
        long = record(tmp_path / "long.mp3", np.tile(speech(), 3))
        give(page, long, record(tmp_path / "ok.mp3", speech()[: 4 * RATE]))
        expect(done(page, "long.mp3", "failed").locator(".outcome")).to_contain_text("录音太长")
        expect(page.locator(".result")).to_contain_text("最多接受 6 秒")
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


def test_progress_is_visible_at_once_and_announced(
    open_tab: OpenTab, server: Server, tmp_path: Path
) -> None:
    page = visit(open_tab(), server)
    page.evaluate("""() => {
      window.announced = [];
      const announcement = document.querySelector("#view-recordings .visually-hidden[role=status]");
      new MutationObserver(() => window.announced.push(announcement.textContent))
        .observe(announcement, { childList: true, characterData: true, subtree: true });
    }""")
    give(page, record(tmp_path / "talk.wav"))
    # Synchronously with the choice, before any response.
    assert page.locator(".job").count() == 1
    done(page, "talk.wav")
    announced = page.evaluate("window.announced")
    assert announced[0].startswith("talk.wav: upload"), announced
    assert re.search(r"talk.wav: \w+ \d+\s%", announced[-1]), announced
    order = [STAGES.index(x.split(": ")[1]) for x in announced[:-1]]
    assert order == sorted(set(order)), announced
