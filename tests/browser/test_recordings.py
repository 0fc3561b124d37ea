"""The recordings view in a real browser, on a real server with real speech."""

from __future__ import annotations

import csv
import io
import json
import re
import wave
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft7Validator
from playwright.sync_api import Browser, Locator, Page, expect

from tests import result_schema
from tests.audio_files import Pcm, cut, protected, record
from tests.browser.browsing import PHONE, Tab, findings, too_wide
from tests.contract import check_result
from tests.running import RATE, Gate, Server, running_server, speech, started_server

OpenTab = Callable[..., Tab]

PATIENCE = 40_000
"""A recording is decoded in a process that has yet to start."""

expect.set_options(timeout=20_000)
STAGES = ["upload", "decode", "analysis", "write"]
EVERYTHING = {
    "result.json",
    "frames.csv",
    "embedding.npy",
    "embeddings_utterances.npy",
    "processed_audio.wav",
}


def config(folder: Path, more: str = "") -> str:
    return f'[files]\nfolder = "{folder / "outputs"}"\n{more}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recordings")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with running_server(config=config(folder)) as running:
        yield running


def visit(tab: Tab, server: Server) -> Page:
    tab.page.goto(f"{server.url}#recordings")
    expect(tab.page.locator(".zone")).to_be_visible()
    # Only a server that has answered knows its bounds.
    expect(tab.page.locator(".zone")).to_contain_text("200 MB")
    return tab.page


def give(page: Page, *paths: Path) -> None:
    page.set_input_files("#recordings-file", list(paths))


def job(page: Page, name: str) -> Locator:
    return page.locator(".job", has=page.get_by_role("button", name=name, exact=True))


def text(path: Path) -> Path:
    path.write_text("Dear diary, this is no recording.\n" * 40, encoding="utf-8")
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def call() -> Pcm:
    """Two speakers, one on each channel."""
    left, right = speech("03a01Wa.flac"), speech("08a01Fd.flac", pause_s=1.2)
    size = max(len(left), len(right))
    both = [np.pad(side, (0, size - len(side))) for side in (left, right)]
    return np.stack(both, axis=1).astype(np.int16)


def done(page: Page, name: str, state: str = "done") -> Locator:
    row = job(page, name)
    expect(row).to_have_attribute("data-state", state, timeout=PATIENCE)
    return row


def shown(page: Page) -> Locator:
    """The result that is looked at, with its sound and frames."""
    expect(page.locator(".opened[data-complete=true]")).to_be_visible(timeout=PATIENCE)
    return page.locator(".opened")


def fetch(page: Page, button: str) -> tuple[str, bytes]:
    """Press a button of the downloads; the file's name and bytes."""
    with page.expect_download() as coming:
        page.locator(".downloads").get_by_role("button", name=button).click()
    path = Path(coming.value.path())
    return coming.value.suggested_filename, path.read_bytes()


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
    with running_server("--port", str(port), config=config(tmp_path)):
        page.locator(".away").get_by_role("button", name="Try now").click()
        done(page, "talk.wav")
        expect(page.locator(".away")).to_be_hidden()


def test_a_connection_that_breaks_in_the_middle_starts_again(
    open_tab: OpenTab, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")
    options = {"model": "tests.plugins:blocked", "env": {"EMOTEST_BLOCK": str(gate.path)}}
    with running_server(config=config(tmp_path), **options) as server:
        tab = open_tab()
        tab.page.add_init_script("""
          const Plain = WebSocket;
          window.sockets = [];
          window.WebSocket = class extends Plain {
            constructor(...of) { super(...of); window.sockets.push(this); }
          };
        """)
        page = visit(tab, server)
        gate.shut()
        give(page, record(tmp_path / "talk.wav"))
        expect(job(page, "talk.wav").locator(".what")).to_contain_text("analysis")
        page.evaluate("window.sockets.filter(({url}) => url.endsWith('files')).at(-1).close()")
        expect(page.locator(".opened")).to_contain_text("Connection lost")
        gate.open()
        done(page, "talk.wav")
        assert len(leftovers(tmp_path)) == 1


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


# -- what comes out ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("talk") / "a talk.mp3")


@pytest.fixture(scope="module")
def result(chromium: Browser, server: Server, talk: Path) -> Iterator[Page]:
    """A page with one recording analysed in full, which several tests look at."""
    tab = Tab(chromium)
    page = visit(tab, server)
    page.get_by_label("Frames").check()
    page.get_by_label("Embedding").check()
    give(page, talk)
    done(page, talk.name)
    shown(page)
    yield page
    unexpected = [said for said in tab.unexpected if "404" not in said]
    tab.close()
    assert not unexpected, unexpected


def test_every_download_opens_and_says_the_same(result: Page, talk: Path) -> None:
    page = result
    name, content = fetch(page, "result.json")
    assert name == "a_talk.result.json"
    whole = json.loads(content)
    check_result(whole)
    Draft7Validator(json.loads(result_schema.PATH.read_text(encoding="utf-8"))).validate(whole)
    assert whole["file"]["name"] == talk.name
    assert whole["options"]["granularity"] == "frame"
    frames = whole["frames"]["channels"][0]
    labels = whole["frames"]["labels"]

    rows = list(csv.reader(io.StringIO(fetch(page, "frames.csv")[1].decode())))
    assert rows[0] == ["channel", "start_s", *labels]
    assert len(rows) - 1 == len(frames["start_s"]) == len(frames["posteriors"]) > 100

    embedding = np.load(io.BytesIO(fetch(page, "embedding.npy")[1]))
    assert (embedding.shape, embedding.dtype) == ((len(rows) - 1, 2), np.float32)
    utterances = np.load(io.BytesIO(fetch(page, "embeddings_utterances.npy")[1]))
    assert utterances.shape == (len(whole["channels"][0]["utterances"]), 2)

    with wave.open(io.BytesIO(fetch(page, "processed_audio.wav")[1])) as audio:
        assert (audio.getframerate(), audio.getnchannels(), audio.getsampwidth()) == (16_000, 1, 2)
        assert audio.getnframes() / 16_000 == pytest.approx(whole["file"]["duration_s"], abs=0.01)

    name, picture = fetch(page, "PNG")
    assert name == "a_talk.png"
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(picture) > 20_000

    name, archive = fetch(page, "All as one ZIP")
    assert name == "a_talk.zip"
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        assert packed.testzip() is None
        files = {entry.removeprefix("a_talk/") for entry in packed.namelist()}
        assert files == EVERYTHING | {"a_talk.png"}
        assert json.loads(packed.read("a_talk/result.json")) == whole

    verdict = page.locator(".verdict")
    top = whole["channels"][0]["top"]
    expect(verdict.locator(".what")).to_contain_text(top["label"])
    expect(verdict.locator(".what")).to_contain_text(f"{round(top['score'] * 100)}\u00a0%")
    expect(verdict.locator(".bars li")).to_have_count(len(labels))


def test_what_the_server_has_deleted_is_told(open_tab: OpenTab, server: Server, talk: Path) -> None:
    tab = open_tab()
    tab.expected.append("404")
    page = visit(tab, server)
    page.route("**/v1/results/**", lambda route: route.fulfill(status=404))
    give(page, talk)
    done(page, talk.name)
    expect(page.locator(".course [role=alert]")).to_contain_text("no longer on the server")
    page.locator(".downloads").get_by_role("button", name="frames.csv").click()
    expect(page.get_by_role("alert").filter(has_text="has deleted it")).to_be_visible()


@pytest.mark.parametrize(("locale", "theme"), [("en-US", "dark"), ("zh-CN", "light")])
def test_the_sample_is_shown_in_full(
    open_tab: OpenTab, server: Server, locale: str, theme: str
) -> None:
    page = visit(open_tab(locale=locale, color_scheme=theme), server)
    english = locale == "en-US"
    page.get_by_label("Frames" if english else "按帧").check()
    page.get_by_role("button", name="Try the sample" if english else "试用示例").click()
    done(page, "emotions.flac")
    opened = shown(page)
    headings = {
        "en-US": ["Course", "Utterances", "Downloads", "What was done"],
        "zh-CN": ["变化过程", "语句", "下载", "处理过程"],
    }[locale]
    for heading in headings:
        expect(opened.get_by_role("heading", name=heading, exact=True)).to_be_visible()
    assert "recordings." not in page.locator("#view-recordings").inner_text()
    opened.locator("summary").click()
    expect(opened.locator(".journal li").first).to_contain_text("FLAC")
    assert not findings(page)
    opened.get_by_role("button", name="Table instead" if english else "改看表格").click()
    expect(opened.get_by_role("region").first.locator("tbody tr").nth(5)).to_be_visible()
    assert not findings(page)


def test_another_language_keeps_the_result(result: Page) -> None:
    result.get_by_role("button", name="中文").click()
    expect(shown(result).get_by_role("heading", name="下载")).to_be_visible()
    expect(result.locator(".job")).to_have_count(1)
    result.get_by_role("button", name="English").click()
    expect(shown(result).get_by_role("heading", name="Downloads")).to_be_visible()


def seconds(page: Page) -> float:
    return float(page.locator(".timeline").get_attribute("aria-valuenow") or "nan")


def test_it_plays_and_the_cursor_follows(result: Page) -> None:
    page = result
    page.get_by_role("button", name="Play", exact=True).click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(page.locator(".timeline")).to_have_attribute(
        "aria-valuenow", re.compile(r"0\.[4-9]|[1-9]\.")
    )
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    # One utterance, and not beyond its end.
    page.get_by_role("button", name=re.compile("Play utterance 1")).click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    end = page.locator("tbody tr").first.locator("td").nth(2).inner_text()
    assert seconds(page) == pytest.approx(float(end.split(":")[1]), abs=0.4)


def test_the_cursor_goes_where_mouse_and_keys_say(result: Page) -> None:
    page = result
    drawing = page.locator(".timeline")
    length = float(drawing.get_attribute("aria-valuemax") or 0)
    box = drawing.bounding_box()
    assert box is not None
    drawing.click(position={"x": box["width"] / 2, "y": 40})
    assert seconds(page) == pytest.approx(length / 2, abs=0.1)
    drawing.focus()
    page.keyboard.press("Home")
    expect(drawing).to_have_attribute("aria-valuenow", "0.0")
    page.keyboard.press("ArrowRight")
    expect(drawing).to_have_attribute("aria-valuenow", "1.0")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    expect(drawing).to_have_attribute("aria-valuetext", re.compile(r"utterance 1, \w+ \d+\s%"))
    page.keyboard.press("End")
    assert seconds(page) == pytest.approx(length, abs=0.1)
    page.keyboard.press("Home")
    for _ in range(2):
        page.keyboard.press("+")
    # A quarter is in view, so that its middle is an eighth of the whole.
    drawing.click(position={"x": box["width"] / 2, "y": 40})
    assert seconds(page) == pytest.approx(length / 8, abs=0.1)


def test_both_channels_of_a_call_are_shown(
    open_tab: OpenTab, server: Server, tmp_path: Path
) -> None:
    page = visit(open_tab(), server)
    give(page, record(tmp_path / "call.wav", call()))
    done(page, "call.wav")
    expect(shown(page).locator(".doubts")).to_contain_text("Channel left out")
    expect(page.locator(".verdict")).to_have_count(1)
    page.locator(".options summary").click()
    page.get_by_label("Stereo recordings").select_option("speakers")
    page.get_by_role("button", name="Again: call.wav").click()
    expect(page.locator(".verdict")).to_have_count(2, timeout=PATIENCE)
    shown(page)
    expect(page.locator(".verdict .whose").last).to_have_text("Channel 2 · speaker")
    expect(page.locator(".doubts", has_text="Channel left out")).to_have_count(0)
    # What was chosen for calls holds for a recording of one channel too.
    give(page, record(tmp_path / "mono.wav"))
    done(page, "mono.wav")


def test_no_speech_is_an_answer(open_tab: OpenTab, server: Server, tmp_path: Path) -> None:
    page = visit(open_tab(), server)
    hush = np.random.default_rng(1).integers(-8, 9, 3 * RATE).astype(np.int16)
    give(page, record(tmp_path / "room.wav", hush))
    expect(done(page, "room.wav").locator(".what")).to_have_text("No speech found")
    expect(shown(page).locator(".verdict")).to_contain_text("nobody speaks in it")
    expect(page.locator(".doubts")).to_contain_text("No speech")
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_enabled()
    assert not findings(page)


def test_an_option_that_cannot_be_had_says_why(open_tab: OpenTab, tmp_path: Path) -> None:
    settings = config(tmp_path, "denoise = false") + "\n[privacy]\nrequire_disclosure = true\n"
    with running_server(config=settings) as server:
        page = visit(open_tab(), server)
        expect(page.get_by_label("Noise suppression")).to_be_disabled()
        expect(page.locator(".options")).to_contain_text("does not offer it")
        box = page.locator(".options").bounding_box()
        # Another view's style sheet once stood its labels on end, letter below letter.
        assert box is not None
        assert box["height"] < 750
        page.locator("#recordings-file").set_input_files(record(tmp_path / "talk.wav"))
        expect(page.locator(".zone [role=alert]")).to_contain_text("only people who were told")
        expect(page.locator(".job")).to_have_count(0)
        page.get_by_label("The speakers know").check()
        give(page, tmp_path / "talk.wav")
        done(page, "talk.wav")


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_a_phone_needs_no_sideways_scrolling(
    open_tab: OpenTab, server: Server, talk: Path, locale: str
) -> None:
    page = visit(open_tab(viewport=PHONE, locale=locale), server)
    assert too_wide(page) <= 0
    page.locator("input[value=frame]").check()
    give(page, talk)
    assert too_wide(page) <= 0
    done(page, talk.name)
    shown(page)
    assert too_wide(page) <= 0


@pytest.mark.parametrize(
    ("locale", "words"), [("en-US", ["stuck", "songs"]), ("zh-CN", ["卡住", "歌曲"])]
)
def test_six_questions_are_answered(
    open_tab: OpenTab, server: Server, locale: str, words: list[str]
) -> None:
    page = visit(open_tab(locale=locale), server)
    page.locator(".questions > summary").click()
    asked = page.locator(".answers > details")
    expect(asked).to_have_count(6)
    for word in words:
        expect(page.locator(".answers")).to_contain_text(word)
    asked.first.locator("summary").click()
    expect(asked.first.locator("li").first).to_be_visible()
    assert not findings(page)


def test_what_the_answers_quote_is_what_the_page_says() -> None:
    """docs/questions.md names what the page shows, in bold; it must be there word for word."""
    from stream.http import QUESTIONS, WEB

    text = QUESTIONS.read_text(encoding="utf-8")
    halves = {"en": text.split("## 中文")[0].split("## English")[1], "zh": text.split("## 中文")[1]}
    for language, answers in halves.items():
        words = (WEB / "words" / f"recordings.{language}.js").read_text(encoding="utf-8")
        quoted: list[Any] = re.findall(r"\*\*([^*]+)\*\*", answers)
        assert len(quoted) > 8
        for quote in quoted:
            assert re.sub(r"\s+", " ", quote) in words, (language, quote)


def test_a_server_that_takes_no_recordings_says_so(open_tab: OpenTab, tmp_path: Path) -> None:
    with running_server(config=config(tmp_path, "enabled = false")) as server:
        tab = open_tab()
        tab.expected += ["404", "WebSocket connection"]
        tab.page.goto(f"{server.url}#recordings")
        expect(tab.page.locator(".away")).to_contain_text("takes no recordings")
