"""Results of recordings in a real browser: verdicts, playback, and downloads."""

from __future__ import annotations

import csv
import io
import json
import re
import wave
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from jsonschema import Draft7Validator
from playwright.sync_api import Browser, Page, expect

from stream.server.access.auth import make_key
from tests.browser.browsing import PHONE, Tab, Texts, findings, too_wide
from tests.browser.recordings_view import (
    PATIENCE,
    call,
    config,
    done,
    fetch,
    give,
    shown,
    visit,
)
from tests.support.audio_files import record
from tests.support.contract import check_result
from tests.support.running import Server, running_server
from tests.support.utterances import RATE

OpenTab = Callable[..., Tab]

SCHEMA_FILE = Path(__file__).parents[2] / "docs/result.schema.json"
EVERYTHING = {
    "result.json",
    "frames.csv",
    "embedding.npy",
    "embeddings_utterances.npy",
    "processed_audio.wav",
}


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("talk") / "a talk.mp3")


@pytest.fixture(scope="module")
def result(chromium: Browser, server: Server, talk: Path) -> Iterator[Page]:
    """A page with the complete result of one recording, for several tests."""
    tab = Tab(chromium)
    page = visit(tab, server)
    page.get_by_label("Frames").check()
    page.get_by_label("Embedding").check()
    give(page, talk)
    done(page, talk.name)
    shown(page)
    yield page
    unexpected = [problem for problem in tab.unexpected if "404" not in problem]
    tab.close()
    assert not unexpected, unexpected


def test_every_download_is_valid_and_has_the_same_scores(result: Page, talk: Path) -> None:
    page = result
    name, content = fetch(page, "result.json")
    assert name == "a_talk.result.json"
    whole = json.loads(content)
    check_result(whole)
    Draft7Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))).validate(whole)
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
    expect(verdict.locator(".verdict-label")).to_contain_text(top["label"])
    expect(verdict.locator(".verdict-label")).to_contain_text(f"{round(top['score'] * 100)}\u00a0%")
    expect(verdict.locator(".bars li")).to_have_count(len(labels))


def test_only_the_key_of_the_user_can_fetch_the_results(
    open_tab: OpenTab, tmp_path: Path, talk: Path
) -> None:
    """Uploads, playback and downloads require the key."""
    key, digest = make_key()
    settings = config(tmp_path) + f'[auth.keys.desk]\nsha256 = "{digest}"\n'
    with running_server(config=settings) as server:
        tab = open_tab()
        page = tab.page
        page.goto(f"{server.url}#recordings")
        dialog = page.get_by_role("dialog", name="Sign in")
        dialog.get_by_label("Key").fill(key)
        page.keyboard.press("Enter")
        expect(page.locator(".drop-zone")).to_contain_text("200 MB")
        give(page, talk)
        done(page, talk.name)
        shown(page)
        expect(page.get_by_role("button", name="Play", exact=True)).to_be_enabled()
        _, archive = fetch(page, "All as one ZIP")
        with zipfile.ZipFile(io.BytesIO(archive)) as packed:
            assert packed.testzip() is None
            assert len(packed.namelist()) == 4
        with page.expect_request("**/v1/results/**") as asked:
            page.get_by_role("button", name=f"Analyse again: {talk.name}").click()
        address = asked.value.url
        assert asked.value.headers["authorization"] == f"Bearer {key}"
        done(page, talk.name)
        path = urlsplit(address).path
        assert server.get(path)[0] == 401
        assert server.get(path, headers={"Authorization": f"Bearer {key}"})[0] == 200


def test_deleted_files_are_reported(open_tab: OpenTab, server: Server, talk: Path) -> None:
    tab = open_tab()
    tab.expected.append("404")
    page = visit(tab, server)
    page.route("**/v1/results/**", lambda route: route.fulfill(status=404))
    give(page, talk)
    done(page, talk.name)
    expect(page.locator(".timeline-card [role=alert]")).to_contain_text("deleted the audio")
    page.locator(".downloads").get_by_role("button", name="frames.csv").click()
    expect(page.get_by_role("alert").filter(has_text="has deleted this file")).to_be_visible()


@pytest.mark.parametrize(("locale", "theme"), [("en-US", "dark"), ("zh-CN", "light")])
def test_the_result_of_the_sample_is_complete(
    open_tab: OpenTab, server: Server, locale: str, theme: str
) -> None:
    page = visit(open_tab(locale=locale, color_scheme=theme), server)
    english = locale == "en-US"
    page.get_by_label("Frames" if english else "按帧").check()
    page.get_by_role("button", name="Try the sample" if english else "试用示例").click()
    done(page, "emotions.flac")
    opened = shown(page)
    headings = {
        "en-US": ["Timeline", "Utterances", "Downloads", "Log"],
        "zh-CN": ["时间线", "语句", "下载", "日志"],
    }[locale]
    for heading in headings:
        expect(opened.get_by_role("heading", name=heading, exact=True)).to_be_visible()
    assert "recordings." not in page.locator("#view-recordings").inner_text()
    opened.locator("summary").click()
    expect(opened.locator(".log li").first).to_contain_text("FLAC")
    assert not findings(page)
    opened.get_by_role("button", name="Table" if english else "表格").click()
    expect(opened.get_by_role("region").first.locator("tbody tr").nth(5)).to_be_visible()
    assert not findings(page)


def test_a_change_of_language_keeps_the_result(result: Page) -> None:
    result.get_by_role("button", name="中文").click()
    expect(shown(result).get_by_role("heading", name="下载")).to_be_visible()
    expect(result.locator(".job")).to_have_count(1)
    # Dates had the format of the system: 11/28/2026 in a Chinese sentence.
    until = re.compile(r"服务器将这些文件保留到 \d{4}/\d{1,2}/\d{1,2} ")
    expect(result.get_by_text(until)).to_be_visible()
    result.get_by_role("button", name="English").click()
    expect(shown(result).get_by_role("heading", name="Downloads")).to_be_visible()


def seconds(page: Page) -> float:
    return float(page.locator(".result-timeline").get_attribute("aria-valuenow") or "nan")


SLOWLY = """() => {
  window.rate = 0.5;
  const { play } = HTMLMediaElement.prototype;
  HTMLMediaElement.prototype.play = function () {
    this.playbackRate = window.rate;
    return play.call(this);
  };
}"""
"""Time for a late click on Pause."""


def test_the_cursor_follows_the_playback(result: Page) -> None:
    page = result
    texts = Texts(page, ".result .play")
    page.evaluate(SLOWLY)
    page.get_by_role("button", name="Play", exact=True).click()
    texts.expect("❚❚")
    expect(page.locator(".result-timeline")).to_have_attribute(
        "aria-valuenow", re.compile(r"0\.[4-9]|[1-9]\.")
    )
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    # Playing one utterance stops at its end.
    page.evaluate("rate = 1")
    texts = Texts(page, ".result .play")
    page.get_by_role("button", name=re.compile("Play utterance 1")).click()
    texts.expect("❚❚")
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    end = page.locator("tbody tr").first.locator("td").nth(2).inner_text()
    assert seconds(page) == pytest.approx(float(end.split(":")[1]), abs=0.4)


def test_mouse_and_keyboard_move_the_cursor(result: Page) -> None:
    page = result
    drawing = page.locator(".result-timeline")
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
    # Not "no speech": there may be speech outside utterances or on other channels.
    expect(page.locator(".position")).to_contain_text("no utterance here")
    page.keyboard.press("Home")
    for _ in range(2):
        page.keyboard.press("+")
    # A quarter is visible, so its middle is an eighth of the whole.
    drawing.click(position={"x": box["width"] / 2, "y": 40})
    assert seconds(page) == pytest.approx(length / 8, abs=0.1)


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the focused element has the accessible name `name`."""
    wanted = """(name) => {
      const { ariaLabel, textContent } = document.activeElement;
      return (ariaLabel ?? textContent).trim().startsWith(name);
    }"""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(wanted, name):
            return
    raise AssertionError(f"the Tab key does not reach {name}")


def test_everything_can_be_done_by_keyboard(open_tab: OpenTab, server: Server) -> None:
    """With reduced motion nothing is animated, and the cursor still follows the playback."""
    page = visit(open_tab(reduced_motion="reduce"), server)
    tab_to(page, "Try the sample")
    page.keyboard.press("Enter")
    done(page, "emotions.flac")
    shown(page)
    tab_to(page, "emotions.flac")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="emotions.flac")).to_be_in_viewport()
    tab_to(page, "Play")
    page.keyboard.press("Enter")
    expect(page.locator(".result-timeline")).to_have_attribute(
        "aria-valuenow", re.compile(r"0\.[4-9]|[1-9]\.")
    )
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_focused()
    tab_to(page, "Table")
    page.keyboard.press("Enter")
    expect(page.get_by_role("region").first.locator("tbody tr").first).to_be_visible()
    tab_to(page, "All as one ZIP")
    with page.expect_download() as coming:
        page.keyboard.press("Enter")
    assert coming.value.suggested_filename == "emotions.zip"
    expect(page.get_by_role("button", name="All as one ZIP")).to_be_focused()
    moving = "document.getAnimations().filter(({ playState }) => playState === 'running').length"
    assert page.evaluate(moving) == 0


def test_both_channels_of_a_call_are_shown(
    open_tab: OpenTab, server: Server, tmp_path: Path
) -> None:
    page = visit(open_tab(), server)
    give(page, record(tmp_path / "call.wav", call()))
    done(page, "call.wav")
    expect(shown(page).locator(".caveats")).to_contain_text("Channel not analysed")
    expect(page.locator(".verdict")).to_have_count(1)
    page.locator(".options > summary").click()
    page.get_by_label("Stereo recordings").select_option("speakers")
    page.get_by_role("button", name="Analyse again: call.wav").click()
    expect(page.locator(".verdict")).to_have_count(2, timeout=PATIENCE)
    shown(page)
    expect(page.locator(".verdict .channel-title").last).to_have_text("Channel 2 · speaker")
    expect(page.locator(".caveats", has_text="Channel not analysed")).to_have_count(0)
    # Roles for two channels must not prevent the analysis of one channel.
    give(page, record(tmp_path / "mono.wav"))
    done(page, "mono.wav")


def test_a_recording_without_speech_has_a_result(
    open_tab: OpenTab, server: Server, tmp_path: Path
) -> None:
    page = visit(open_tab(), server)
    hush = np.random.default_rng(1).integers(-8, 9, 3 * RATE).astype(np.int16)
    give(page, record(tmp_path / "room.wav", hush))
    expect(done(page, "room.wav").locator(".outcome")).to_have_text("No speech found")
    expect(shown(page).locator(".verdict")).to_contain_text("found no speech in it")
    expect(page.locator(".caveats")).to_contain_text("No speech")
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_enabled()
    assert not findings(page)


def test_an_unavailable_option_shows_the_reason(open_tab: OpenTab, tmp_path: Path) -> None:
    settings = config(tmp_path, "denoise = false") + "\n[privacy]\nrequire_disclosure = true\n"
    with running_server(config=settings) as server:
        page = visit(open_tab(), server)
        expect(page.get_by_label("Noise suppression")).to_be_disabled()
        expect(page.locator(".options")).to_contain_text("does not offer it")
        box = page.locator(".options").bounding_box()
        # The style sheet of another view made the labels one letter wide.
        assert box is not None
        assert box["height"] < 950
        page.locator("#recordings-file").set_input_files(record(tmp_path / "talk.wav"))
        expect(page.locator(".drop-zone [role=alert]")).to_contain_text(
            "only people who have been informed"
        )
        expect(page.locator(".job")).to_have_count(0)
        page.get_by_label("The speakers are informed").check()
        give(page, tmp_path / "talk.wav")
        done(page, "talk.wav")


LINES = """(node) => {
  const words = new Range();
  words.selectNodeContents(node);
  return words.getClientRects().length;
}"""


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
    # Frames, Curves and Utterances were wrapped inside the word.
    for button in page.locator(".switch button:visible").all():
        assert button.evaluate(LINES) == 1, button.inner_text()


@pytest.mark.parametrize(
    ("locale", "words"), [("en-US", ["stuck", "songs"]), ("zh-CN", ["卡住", "歌曲"])]
)
def test_the_view_shows_seven_questions_with_answers(
    open_tab: OpenTab, server: Server, locale: str, words: list[str]
) -> None:
    page = visit(open_tab(locale=locale), server)
    page.locator(".faq > summary").click()
    asked = page.locator(".answers > details")
    expect(asked).to_have_count(7)
    for word in words:
        expect(page.locator(".answers")).to_contain_text(word)
    asked.first.locator("summary").click()
    expect(asked.first.locator("li").first).to_be_visible()
    assert not findings(page)
