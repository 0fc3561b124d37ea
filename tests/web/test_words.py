"""Everything the page says, in each of its languages; read by Node as the browser does."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from stream.server.pages import QUESTIONS, WEB
from tests.support.contract import document

Words = dict[str, Any]
LANGUAGES = ("en", "zh")


@pytest.fixture(scope="module")
def words() -> dict[str, Words]:
    """By language and key: the placeholders of a text, or "function"."""
    script = """
      const read = await Promise.all(process.argv.slice(1).map(
        async (path) => (await import(path)).default));
      const holes = (value) =>
        typeof value === "function" ? "function" : value.match(/\\{\\w+\\}/g) ?? [];
      const told = (words) => Object.fromEntries(
        Object.entries(words).map(([key, value]) => [key, holes(value)]));
      console.log(JSON.stringify(read.map(told)));
    """
    paths = [(WEB / "words" / f"{name}.js").as_uri() for name in LANGUAGES]
    command = ["node", "--input-type=module", "-e", script, *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return dict(zip(LANGUAGES, json.loads(done.stdout), strict=True))


def test_both_languages_have_the_same_words(words: dict[str, Words]) -> None:
    """A key that one language lacks is shown raw; a placeholder that it lacks loses a figure."""
    english, chinese = words["en"], words["zh"]
    assert english.keys() == chinese.keys()
    for key, holes in english.items():
        if isinstance(holes, list) and isinstance(chinese[key], list):
            assert set(holes) == set(chinese[key]), key


def test_every_word_that_is_asked_for_is_there(words: dict[str, Words]) -> None:
    sources = [
        p.read_text(encoding="utf-8") for p in WEB.rglob("*") if p.suffix in (".js", ".html")
    ]
    asked = {key for text in sources for key in re.findall(r'\bt\("([\w.]+)"', text)}
    asked |= {key for text in sources for key in re.findall(r'data-t(?:-\w+)?="([\w.]+)"', text)}
    assert asked <= words["en"].keys(), asked - words["en"].keys()


LIVE_ALONE = {"completed", "unknown_stream", "start_timeout", "stream_conflict", "objected"}
LIVE_ALONE |= {"session_expired", "slow_consumer", "invalid_audio_frame", "unsupported_encoding"}
"""Errors that no recording can have."""

NEVER_SEEN = {"draining", "idle_timeout", "message_too_large", "rate_limited", "quota_exceeded"}
NEVER_SEEN |= {"unauthorized", "forbidden", "unknown_message"}
"""Errors after which the page connects again, asks for a key, or which it cannot provoke."""


def test_whatever_the_contract_may_say_of_a_recording_has_words(words: dict[str, Words]) -> None:
    """The page translates by code; without words for one it would show the server's English."""
    schemas = document()["components"]["schemas"]
    errors = set(schemas["ErrorCode"]["enum"]) - LIVE_ALONE - NEVER_SEEN
    wanted = {f"recordings.error.{code}{part}" for code in errors for part in ("", ".do")}
    logged = schemas["FileLog"]["properties"]["code"]["enum"]
    wanted |= {f"recordings.log.{code}" for code in logged}
    hints = schemas["Result"]["properties"]["hints"]["items"]["enum"]
    same = {"too_long_for_one_verdict": "too_long"}
    wanted |= {
        f"recordings.hint.{same.get(hint, hint)}{part}"
        for hint in hints
        for part in ("", ".why", ".do")
    }
    warnings = schemas["Warning"]["properties"]["code"]["enum"]
    wanted |= {f"mic.warn.{code}" for code in warnings}
    assert wanted <= words["en"].keys(), wanted - words["en"].keys()


def test_what_the_answers_quote_is_what_the_page_says() -> None:
    """docs/questions.md names what the page shows, in bold; it must be there word for word."""
    text = QUESTIONS.read_text(encoding="utf-8")
    halves = {"en": text.split("## 中文")[0].split("## English")[1], "zh": text.split("## 中文")[1]}
    for language, answers in halves.items():
        words = (WEB / "words" / f"recordings.{language}.js").read_text(encoding="utf-8")
        quoted: list[str] = re.findall(r"\*\*([^*]+)\*\*", answers)
        assert len(quoted) > 8
        for quote in quoted:
            assert re.sub(r"\s+", " ", quote) in words, (language, quote)
