"""Labels from listeners in a real browser: mark, undo, export, `training.adapt` on the export."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from playwright.sync_api import Locator, Page, expect
from rich.console import Console

from stream.backends.base import Embedder
from stream.backends.registry import load
from stream.server.access.auth import make_key
from tests.browser.browsing import Background, Tab, eventually, findings
from tests.browser.recordings_view import config, done, give, shown, visit
from tests.support.audio_files import record
from tests.support.clients import connect
from tests.support.running import Server, running_server
from tests.support.utterances import clip, speech
from training.adapt import examine
from training.manifest import Row, of_model, read_rows

OpenTab = Callable[..., Tab]

LABEL = "Right label of the utterance at"


def settings(folder: Path, more: str = "") -> str:
    feedback = f'[feedback]\nenabled = true\nfolder = "{folder / "feedback"}"\n'
    return config(folder) + feedback + more


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with running_server(config=settings(folder), model="embedded") as running:
        yield running


def manifest(server: Server) -> list[dict[str, str]]:
    status, _, content = server.get("/v1/feedback")
    assert status == 200
    return list(csv.DictReader(io.StringIO(content.decode())))


def clear(server: Server) -> None:
    assert server.get("/v1/feedback?all=true", method="DELETE")[0] == 200


def controls(node: Page | Locator) -> Locator:
    return node.get_by_label(LABEL)


def saved(control: Locator, text: str = "saved") -> None:
    expect(control.locator("xpath=..").get_by_role("status")).to_have_text(text)


def test_marks_of_a_recording_are_exported_and_read_by_adapt(
    open_tab: OpenTab, server: Server, tmp_path: Path
) -> None:
    """The round trip: analyse, mark two utterances, undo one, export, read it for a new head."""
    page = visit(open_tab(), server)
    talk = speech("03a01Wa.flac", "08a01Fd.flac", "03a01Wa.flac")
    give(page, record(tmp_path / "talk.wav", talk))
    done(page, "talk.wav")
    result = shown(page)
    expect(controls(result)).to_have_count(3)
    first, second = controls(result).nth(0), controls(result).nth(1)
    first.select_option("angry")
    saved(first)
    second.select_option("sad")
    saved(second)
    assert {row["label"] for row in manifest(server)} == {"angry", "sad"}
    result.get_by_role("button", name="Undo the label").nth(1).click()
    saved(second, "removed")
    expect(second).to_have_value("")
    expect(second).to_be_focused()
    assert not findings(page)
    # In the other language, the marks are still there.
    page.get_by_role("button", name="中文").click()
    chinese = shown(page).get_by_label("处语句的正确标签")
    expect(chinese.nth(0)).to_have_value("angry")
    expect(chinese.nth(0).locator("option:checked")).to_contain_text("愤怒")
    expect(chinese.nth(1)).to_have_value("")

    status, _, content = server.get("/v1/feedback?format=zip")
    assert status == 200
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(tmp_path / "marks")
    rows = read_rows(tmp_path / "marks" / "manifest.csv")
    assert [row.label for row in rows] == ["angry"]
    check_with_adapt(rows)
    clear(server)


def check_with_adapt(rows: list[Row]) -> None:
    """Read the rows as `training.adapt` does before it fits a head."""
    backend = load("embedded", "cpu", True)
    try:
        assert isinstance(backend, Embedder)
        usable, others = of_model(rows, backend.info.features)
        assert not others
        [example] = examine(backend, usable, Console(quiet=True))
        assert example.features.shape == (backend.info.dim,)
        assert np.abs(example.features).max() > 0
    finally:
        backend.close()


def test_a_finished_utterance_of_a_live_stream_is_marked_in_the_monitor(
    open_tab: OpenTab, server: Server, loop: Background
) -> None:
    """While the call goes on: a new utterance must not take the focus from the control."""

    async def talk() -> Any:
        client = connect(server)
        live = await client.__aenter__()
        live.checks = False
        await live.send("session.update", session={"stream_id": "call-1"})
        await live.until("session.updated")
        await live.audio(speech().tobytes())
        await live.until("emotion.segment", 2)
        return client, live

    async def go_on(live: Any) -> None:
        await live.audio(
            np.concatenate([clip("03a01Wa.flac"), np.zeros(16_000, np.int16)]).tobytes()
        )
        await live.until("emotion.segment")

    connection, live = loop.run(talk())
    page = open_tab().page
    page.goto(f"{server.url}#monitor/call-1")
    expect(controls(page)).to_have_count(2)
    control = controls(page).last
    control.focus()
    # With the keyboard, as every list of choices.
    page.keyboard.press("ArrowDown")
    saved(control)
    page.keyboard.press("ArrowDown")
    expect(control).to_have_value("disgusted")
    saved(control)
    loop.run(go_on(live))
    expect(controls(page)).to_have_count(3)
    expect(control).to_be_focused()
    expect(controls(page).last).to_have_value("disgusted")
    assert not findings(page)
    eventually(lambda: [r["label"] for r in manifest(server)] != ["disgusted"] and manifest(server))
    [row] = manifest(server)
    assert (row["label"], row["utterance"], row["channel"]) == ("disgusted", "0", "0")
    loop.run(connection.__aexit__(None, None, None))
    clear(server)


def test_an_utterance_that_is_no_longer_kept_says_so(
    open_tab: OpenTab, server: Server, folder: Path, tmp_path: Path
) -> None:
    tab = open_tab()
    tab.expected.append("404")
    page = visit(tab, server)
    give(page, record(tmp_path / "gone.wav"))
    done(page, "gone.wav")
    control = controls(shown(page)).first
    for kept in (folder / "outputs").rglob(".utterances.npz"):
        kept.unlink()
    control.select_option("happy")
    saved(control, "Not saved: the server no longer keeps this utterance.")
    expect(control).to_have_value("")
    assert manifest(server) == []


@pytest.mark.parametrize("scopes", [["files", "subscribe"], ["files", "subscribe", "feedback"]])
def test_the_control_is_there_only_for_keys_with_the_scope(
    open_tab: OpenTab, tmp_path: Path, scopes: list[str]
) -> None:
    key, digest = make_key()
    keys = f'[auth.keys.ann]\nsha256 = "{digest}"\nscopes = {orjson.dumps(scopes).decode()}\n'
    with running_server(config=settings(tmp_path, keys)) as server:
        tab = open_tab()
        tab.page.add_init_script(f'sessionStorage.setItem("emotide.key", "{key}")')
        page = visit(tab, server)
        give(page, record(tmp_path / "talk.wav"))
        done(page, "talk.wav")
        expect(controls(shown(page))).to_have_count(2 if "feedback" in scopes else 0)
        if "feedback" in scopes:
            controls(page).first.select_option("sad")
            saved(controls(page).first)


def test_without_feedback_the_page_has_no_control(open_tab: OpenTab, tmp_path: Path) -> None:
    with running_server(config=config(tmp_path)) as server:
        page = visit(open_tab(), server)
        give(page, record(tmp_path / "talk.wav"))
        done(page, "talk.wav")
        expect(controls(shown(page))).to_have_count(0)
        expect(page.get_by_text("Right label")).to_have_count(0)
