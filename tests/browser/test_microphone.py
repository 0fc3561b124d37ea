"""The microphone in a real browser: Chromium's fake device plays speech to a real server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import aiomqtt
import numpy as np
import orjson
import pytest
from playwright.sync_api import Browser, Locator, Page, Playwright, expect

from tests.browser.browsing import (
    ALLOW,
    DEVICE,
    PHONE,
    Background,
    Tab,
    Texts,
    findings,
    launch,
    too_wide,
)
from tests.support.broker import Broker, free_port
from tests.support.running import Server, running_server
from tests.support.tcp_proxy import TcpProxy
from tests.support.utterances import RATE, clip

OpenTab = Callable[..., Tab]
KEEP_TRACKS = """
window.tracks = [];
const ask = navigator.mediaDevices?.getUserMedia.bind(navigator.mediaDevices);
if (ask) navigator.mediaDevices.getUserMedia = async (wanted) => {
  window.wanted = wanted;
  const stream = await ask(wanted);
  window.tracks.push(...stream.getTracks());
  return stream;
};
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


def visit(tab: Tab, url: str) -> Page:
    tab.page.add_init_script(KEEP_TRACKS)
    tab.page.goto(f"{url}#microphone")
    expect(tab.page.locator("#status")).to_have_attribute("data-state", "live")
    return tab.page


def setting(page: Page, fact: str) -> Locator:
    """Return the capture setting that the browser applied, as the page shows it."""
    return page.locator(".capture-settings div").filter(has_text=fact).locator("dd")


def start(page: Page) -> None:
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()


def stop(page: Page) -> None:
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Start")).to_be_enabled(timeout=15_000)


def test_speech_is_scored_on_the_page_and_published_on_its_topic(
    open_tab: OpenTab, speaking: Browser, loop: Background, tmp_path: Path
) -> None:
    """From the device through worklet, socket and embedded model to the screen and the broker."""

    async def listen(port: int) -> list[aiomqtt.Message]:
        """Return all scores until the topic says that the stream has ended."""
        received = []
        async with aiomqtt.Client("127.0.0.1", port) as client:
            await client.subscribe("emotide/stream/+/+/score")
            async for message in client.messages:
                if orjson.loads(bytes(message.payload)).get("state") == "ended":
                    break
                received.append(message)
        return received

    with Broker(tmp_path) as broker:
        listening = loop.start(listen(broker.port))
        settings = ("mqtt.host=127.0.0.1", f"mqtt.port={broker.port}", "privacy.hash_ids=false")
        options = [option for setting in settings for option in ("--set", setting)]
        with running_server(*options, model="embedded") as server:
            tab = open_tab(browser=speaking)
            page = visit(tab, server.url)
            start(page)
            expect(page.locator(".portrait .emotion")).to_contain_text("%")
            expect(page.locator("#microphone-live")).to_be_visible()
            rows = page.locator(".utterances tbody tr")
            expect(rows.nth(1)).to_be_visible(timeout=30_000)
            expect(page.locator(".utterances")).to_contain_text("angry")
            expect(setting(page, "Automatic gain")).to_have_text("off")
            expect(setting(page, "Sample rate")).to_have_text(re.compile(r"^4\d+00 Hz → 16000 Hz$"))
            expect(page.get_by_role("img", name="frames of 20 ms")).to_be_visible()
            meter = page.get_by_role("meter", name="Level")
            assert -60 <= int(meter.get_attribute("aria-valuenow") or 1) <= 0
            name = (page.locator(".mic-card a").get_attribute("href") or "").partition("/")[2]
            snapshot = server.json(f"/v1/streams/{name}")
            assert snapshot["roles"] == ["speaker"]
            assert snapshot["tags"] == ["microphone"]
            stop(page)
            expect(page.locator(".mic-status")).to_contain_text("The stream lasted")
            expect(page.get_by_role("heading", name="Scores of the whole stream")).to_be_visible()
            expect(page.locator("#microphone-live")).to_be_hidden()
            assert page.evaluate("tracks.map((track) => track.readyState)") == ["ended"]
            wanted = page.evaluate("wanted.audio")
            assert wanted["autoGainControl"] is wanted["noiseSuppression"] is False
            published = listening.result(60)
    scores = [orjson.loads(bytes(message.payload)) for message in published]
    assert {str(message.topic) for message in published} == {f"emotide/stream/{name}/speaker/score"}
    assert any(score["top"] == "angry" for score in scores), scores


def test_a_lost_connection_is_resumed_without_loss_of_audio(
    open_tab: OpenTab, speaking: Browser, server: Server, loop: Background
) -> None:
    proxy = TcpProxy(server.port)
    loop.run(proxy.start())
    tab = open_tab(browser=speaking)
    tab.expected += ["WebSocket connection", "Failed to load resource"]
    page = visit(tab, f"http://127.0.0.1:{proxy.port}/")
    resumed = server.metric("emotide_resumes_total")
    start(page)
    expect(page.locator(".utterances tbody tr").first).to_be_visible(timeout=30_000)

    async def lose() -> None:
        proxy.refusing = True
        proxy.reset()

    status = page.locator(".mic-status")
    texts = Texts(page, ".mic-status")
    loop.run(lose())
    texts.expect("The connection is lost")
    texts.expect("keeps [2-9] s of your speech")
    proxy.refusing = False
    texts.expect("No audio was lost")
    assert server.metric("emotide_resumes_total") == resumed + 1
    rows = page.locator(".utterances tbody tr")
    before = rows.count()
    expect(rows.nth(before)).to_be_visible(timeout=30_000)
    stop(page)
    shown = minutes(page.locator(".mic-duration").inner_text())
    reported = minutes(re.findall(r"\d+:\d\d", status.inner_text())[0])
    assert abs(shown - reported) <= 2, "audio is missing from the stream"
    # Each repetition of the sentence is an utterance, also during the interruption.
    starts = [minutes(text) for text in rows.locator("td:first-child").all_inner_texts()][::-1]
    period = len(clip("03a01Wa.flac")) / RATE + 2
    gaps = np.diff(starts)
    assert gaps.max() <= period + 1.1, starts
    loop.run(proxy.stop())


def minutes(text: str) -> int:
    """Return m:ss in seconds."""
    parts = text.split(":")
    return int(parts[0]) * 60 + int(parts[1])


def test_the_stream_continues_while_another_view_is_shown(
    open_tab: OpenTab, speaking: Browser, server: Server
) -> None:
    page = visit(open_tab(browser=speaking), server.url)
    start(page)
    page.get_by_role("link", name="Open in the monitor").click()
    expect(page.locator("#view-monitor")).to_be_visible()
    expect(page.locator("#microphone-live")).to_be_visible()
    expect(page.locator("#view-monitor .portrait .emotion")).to_contain_text("%")
    page.get_by_role("link", name="Microphone").click()
    stop(page)


def test_automatic_gain_causes_a_warning(
    open_tab: OpenTab, speaking: Browser, server: Server
) -> None:
    """The browser applies automatic gain although the page asked for none."""
    tab = open_tab(browser=speaking)
    tab.page.add_init_script("""
      const getSettings = MediaStreamTrack.prototype.getSettings;
      MediaStreamTrack.prototype.getSettings = function () {
        return { ...getSettings.call(this), autoGainControl: true };
      };
    """)
    page = visit(tab, server.url)
    start(page)
    expect(page.locator(".mic-card .hints")).to_contain_text("adjusts the level automatically")
    expect(setting(page, "Automatic gain")).to_have_text("on")
    stop(page)


UNPLUG = """() => {
  const media = navigator.mediaDevices, ask = media.getUserMedia;
  media.getUserMedia = () => Promise.reject(new DOMException("", "NotFoundError"));
  window.plug = () => {
    media.getUserMedia = ask;
    media.dispatchEvent(new Event("devicechange"));
  };
  tracks[0].stop();
  tracks[0].dispatchEvent(new Event("ended"));
}"""


def test_a_disconnected_device_is_waited_for(
    open_tab: OpenTab, speaking: Browser, server: Server
) -> None:
    """The stream of a headset whose plug had slipped out for a second was over."""
    before = server.metric("emotide_sessions_total")
    page = visit(open_tab(browser=speaking), server.url)
    start(page)
    rows = page.locator(".utterances tbody tr")
    expect(rows.first).to_be_visible(timeout=30_000)
    page.evaluate(UNPLUG)
    status = page.locator(".mic-status")
    expect(status).to_contain_text("The microphone was disconnected")
    assert page.evaluate("tracks.every((track) => track.readyState === 'ended')")
    count = rows.count()
    texts = Texts(page, ".mic-status")
    page.evaluate("plug()")
    texts.expect("The microphone is back after")
    expect(rows.nth(count)).to_be_visible(timeout=30_000)
    assert server.metric("emotide_sessions_total") == before, "the same session"
    stop(page)
    assert page.evaluate("tracks.map((track) => track.readyState)") == ["ended"] * 2


def test_a_page_that_was_busy_loses_no_audio(
    open_tab: OpenTab, speaking: Browser, server: Server
) -> None:
    """Chunks that wait for the page's thread are late; they are not an interruption."""
    page = visit(open_tab(browser=speaking), server.url)
    start(page)
    expect(page.locator(".utterances tbody tr").first).to_be_visible(timeout=30_000)
    page.evaluate("{ const end = Date.now() + 900; while (Date.now() < end); }")
    page.wait_for_timeout(500)
    expect(page.locator(".mic-status")).not_to_contain_text("is back")
    stop(page)


KEEP_CONTEXTS = """
window.contexts = [];
globalThis.AudioContext = class extends AudioContext {
  constructor(...options) {
    super(...options);
    contexts.push(this);
  }
};
"""


def test_an_interrupted_microphone_waits_and_goes_on(open_tab: OpenTab, speaking: Browser) -> None:
    """After a phone call of 30 s the page said that the server refused, and was off for good.

    Chromium suspends like Safari interrupts: no samples, and a resume that is refused meanwhile.
    """
    with running_server("--set", "limits.idle_timeout_s=7") as server:
        tab = open_tab(browser=speaking)
        tab.page.add_init_script(KEEP_CONTEXTS)
        page = visit(tab, server.url)
        start(page)
        rows = page.locator(".utterances tbody tr")
        expect(rows.first).to_be_visible(timeout=30_000)
        page.evaluate("""() => {
          const [context] = contexts;
          window.back = context.resume.bind(context);
          context.resume = () => Promise.reject(new DOMException("", "InvalidStateError"));
          return context.suspend();
        }""")
        status = page.locator(".mic-status")
        expect(status).to_contain_text("The microphone is interrupted")
        page.wait_for_timeout(9_000)
        expect(status).to_contain_text("The microphone is interrupted")
        assert server.metric("emotide_sessions_active") == 1
        before = rows.count()
        texts = Texts(page, ".mic-status")
        page.evaluate("back()")
        texts.expect("The microphone is back after")
        expect(rows.nth(before)).to_be_visible(timeout=30_000)
        assert server.metric("emotide_sessions_total") == 0, "the same session"
        stop(page)
        expect(status).to_contain_text("The stream lasted")
        shown = minutes(page.locator(".mic-duration").inner_text())
        reported = minutes(re.findall(r"\d+:\d\d", status.inner_text())[0])
        assert abs(shown - reported) <= 2, "the interruption passes on the stream's clock"


def test_the_longest_duration_starts_a_new_stream(open_tab: OpenTab, speaking: Browser) -> None:
    """The page stopped without a reason."""
    with running_server("--set", "limits.max_session_s=8") as server:
        page = visit(open_tab(browser=speaking), server.url)
        texts = Texts(page, ".mic-status")
        start(page)
        rows = page.locator(".utterances tbody tr")
        expect(rows.first).to_be_visible(timeout=30_000)
        texts.expect("longest duration that the server allows")
        expect(page.get_by_role("button", name="Stop")).to_be_visible()
        before = rows.count()
        expect(rows.nth(before)).to_be_visible(timeout=30_000)
        assert server.metric("emotide_sessions_total", reason="session_expired") >= 1
        stop(page)


def test_an_audio_system_that_never_starts_is_reported(
    open_tab: OpenTab, speaking: Browser, server: Server
) -> None:
    """Without an audio output, Firefox waits forever, and so did the page, with the device open."""
    tab = open_tab(browser=speaking)
    tab.page.add_init_script("""
      AudioContext.prototype.resume = () => new Promise(() => {});
      Object.defineProperty(BaseAudioContext.prototype, "state", { get: () => "suspended" });
    """)
    page = visit(tab, server.url)
    page.get_by_role("button", name="Start").click()
    expect(page.locator(".mic-status")).to_contain_text(
        "audio system of the browser does not start", timeout=15_000
    )
    expect(page.get_by_role("button", name="Start")).to_be_enabled()
    assert page.evaluate("tracks.map((track) => track.readyState)") == ["ended"]


def test_a_refusal_of_the_server_is_reported(open_tab: OpenTab, speaking: Browser) -> None:
    with running_server("--set", 'privacy.analyse_roles=["customer"]') as strict:
        page = visit(open_tab(browser=speaking), strict.url)
        page.get_by_role("button", name="Start").click()
        status = page.locator(".mic-status")
        expect(status).to_contain_text("The server refused")
        expect(status).to_contain_text("analysis of this role: speaker")
        page.get_by_role("button", name="中文").click()
        expect(status).to_contain_text("服务器拒绝了请求：管理员不允许分析该角色：说话人。")
        assert page.evaluate("tracks.every((track) => track.readyState === 'ended')")
        page.goto("about:blank")


def test_a_denied_permission_is_reported(
    playwright: Playwright, open_tab: OpenTab, server: Server
) -> None:
    """Without the flag that grants it, headless Chromium denies the permission."""
    browser = launch(playwright, DEVICE)
    try:
        page = visit(open_tab(browser=browser), server.url)
        page.get_by_role("button", name="Start").click()
        expect(page.locator(".mic-status")).to_contain_text("no permission to use the microphone")
        expect(page.get_by_role("button", name="Start")).to_be_enabled()
        page.get_by_role("button", name="中文").click()
        expect(page.locator(".mic-status")).to_contain_text("浏览器没有使用麦克风的权限")
    finally:
        browser.close()


def test_a_missing_microphone_is_reported(
    playwright: Playwright, open_tab: OpenTab, server: Server
) -> None:
    browser = launch(playwright, "--disable-audio-input", ALLOW)
    try:
        page = visit(open_tab(browser=browser), server.url)
        page.get_by_role("button", name="Start").click()
        expect(page.locator(".mic-status")).to_contain_text("No microphone was found")
    finally:
        browser.close()


def test_an_insecure_page_is_reported(playwright: Playwright, open_tab: OpenTab) -> None:
    port = free_port()
    origin = f"http://emotide.test:{port}"
    browser = launch(playwright, "--host-resolver-rules=MAP emotide.test 127.0.0.1")
    options = ("--port", str(port), "--set", f'server.origins=["{origin}"]')
    try:
        with running_server(*options):
            tab = open_tab(browser=browser)
            tab.expected.append("request to emotide.test")
            tab.page.goto(f"{origin}/#microphone")
            tab.page.get_by_role("button", name="Start").click()
            expect(tab.page.locator(".mic-status")).to_contain_text("on secure pages only")
            tab.page.goto("about:blank")
    finally:
        browser.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_while_a_stream_runs(
    open_tab: OpenTab, speaking: Browser, server: Server, theme: str
) -> None:
    tab = open_tab(browser=speaking, color_scheme=theme, viewport=PHONE)
    page = visit(tab, server.url)
    page.keyboard.press("Tab")
    page.locator(".mic-button").focus()
    page.keyboard.press("Enter")
    row = page.locator(".utterances tbody tr").first
    expect(row).to_be_visible(timeout=30_000)
    assert not findings(page)
    assert too_wide(page) <= 0
    # Hints were broken into one letter per line, and rows were 200 px high.
    box = row.bounding_box()
    assert box is not None
    assert box["height"] < 60
    stop(page)
