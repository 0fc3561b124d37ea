"""Results of recordings in a real browser: what is shown, what is played, what is taken home."""

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

from stream.server.auth import make_key
from tests.browser.browsing import PHONE, Tab, findings, too_wide
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
from tests.support import result_schema
from tests.support.audio_files import record
from tests.support.contract import check_result
from tests.support.running import Server, running_server
from tests.support.utterances import RATE

OpenTab = Callable[..., Tab]

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


def test_who_signs_in_takes_everything_home_and_others_nothing(
    open_tab: OpenTab, tmp_path: Path, talk: Path
) -> None:
    """A real server with a real key: uploads, playback and downloads are all behind it."""
    key, digest = make_key()
    settings = config(tmp_path) + f'[auth.keys.desk]\nsha256 = "{digest}"\n'
    with running_server(config=settings) as server:
        tab = open_tab()
        page = tab.page
        page.goto(f"{server.url}#recordings")
        dialog = page.get_by_role("dialog", name="Sign in")
        dialog.get_by_label("Key").fill(key)
        page.keyboard.press("Enter")
        expect(page.locator(".zone")).to_contain_text("200 MB")
        give(page, talk)
        done(page, talk.name)
        shown(page)
        expect(page.get_by_role("button", name="Play", exact=True)).to_be_enabled()
        _, archive = fetch(page, "All as one ZIP")
        with zipfile.ZipFile(io.BytesIO(archive)) as packed:
            assert packed.testzip() is None
            assert len(packed.namelist()) == 4
        with page.expect_request("**/v1/results/**") as asked:
            page.get_by_role("button", name=f"Again: {talk.name}").click()
        address = asked.value.url
        assert asked.value.headers["authorization"] == f"Bearer {key}"
        done(page, talk.name)
        path = urlsplit(address).path
        assert server.get(path)[0] == 401
        assert server.get(path, headers={"Authorization": f"Bearer {key}"})[0] == 200


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
    # Dates were the system's: 11/28/2026 in a Chinese sentence.
    until = re.compile(r"在服务器上保留到 \d{4}/\d{1,2}/\d{1,2} ")
    expect(result.get_by_text(until)).to_be_visible()
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
    # Not "no speech": there may be some, in no utterance or on a channel that is not analysed.
    expect(page.locator(".where")).to_contain_text("no utterance here")
    page.keyboard.press("Home")
    for _ in range(2):
        page.keyboard.press("+")
    # A quarter is in view, so that its middle is an eighth of the whole.
    drawing.click(position={"x": box["width"] / 2, "y": 40})
    assert seconds(page) == pytest.approx(length / 8, abs=0.1)


def tab_to(page: Page, name: str) -> None:
    """Go on with the Tab key to what a screen reader calls `name`."""
    wanted = """(name) => {
      const { ariaLabel, textContent } = document.activeElement;
      return (ariaLabel ?? textContent).trim().startsWith(name);
    }"""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(wanted, name):
            return
    raise AssertionError(f"{name} is not reached by the Tab key")


def test_the_whole_way_is_walked_by_keyboard(open_tab: OpenTab, server: Server) -> None:
    """And with reduced motion: nothing moves by itself, and playback is still followed."""
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
    expect(page.locator(".timeline")).to_have_attribute(
        "aria-valuenow", re.compile(r"0\.[4-9]|[1-9]\.")
    )
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_focused()
    tab_to(page, "Table instead")
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
    # Frames, Curves and Utterances were broken inside the word.
    for button in page.locator(".switch button:visible").all():
        assert button.evaluate(LINES) == 1, button.inner_text()


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
