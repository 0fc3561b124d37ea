"""The texts of the page in each of its languages, imported by Node as the browser does."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from stream.server.http.static_files import WEB
from tests.support.contract import document

Words = dict[str, Any]
LANGUAGES = ("en", "zh")


@pytest.fixture(scope="module")
def words() -> dict[str, Words]:
    """Placeholders of a text, or "function", by language and key."""
    script = """
      const read = await Promise.all(process.argv.slice(1).map(
        async (path) => (await import(path)).default));
      const placeholders = (value) =>
        typeof value === "function" ? "function" : value.match(/\\{\\w+\\}/g) ?? [];
      const byKey = (words) => Object.fromEntries(
        Object.entries(words).map(([key, value]) => [key, placeholders(value)]));
      console.log(JSON.stringify(read.map(byKey)));
    """
    paths = [(WEB / "words" / f"{name}.js").as_uri() for name in LANGUAGES]
    command = ["node", "--input-type=module", "-e", script, *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return dict(zip(LANGUAGES, json.loads(done.stdout), strict=True))


def test_both_languages_have_the_same_keys(words: dict[str, Words]) -> None:
    """A missing key is shown as it is; a missing placeholder loses a value."""
    english, chinese = words["en"], words["zh"]
    assert english.keys() == chinese.keys()
    for key, placeholders in english.items():
        if isinstance(placeholders, list) and isinstance(chinese[key], list):
            assert set(placeholders) == set(chinese[key]), key


EVENTS = {"emotion.score", "emotion.segment"}
"""Strings in the code that look like keys and are not."""


def test_every_key_in_the_code_has_a_text(words: dict[str, Words]) -> None:
    """Every string that begins as a key does is one, also if it reaches `t` by a variable."""
    groups = {key.partition(".")[0] for key in words["en"]}
    literal = rf'"((?:{"|".join(sorted(groups))})\.[\w.]+)"'
    used = {
        key
        for path in WEB.rglob("*")
        if path.suffix in (".js", ".html") and path.parent.name != "words"
        for key in re.findall(literal, path.read_text(encoding="utf-8"))
    }
    assert len(used) > 150
    assert used - EVENTS <= words["en"].keys(), used - EVENTS - words["en"].keys()


def test_every_text_is_used(words: dict[str, Words]) -> None:
    """Texts that no code shows would be translated for nothing."""
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for path in WEB.rglob("*")
        if path.suffix in (".js", ".html") and path.parent.name != "words"
    )
    # `recordings.hint.${hint}.why` may be any key with this start.
    starts = tuple(re.findall(r"`([\w.]+[._])\$\{", code))
    unused = [k for k in words["en"] if f'"{k}"' not in code and not k.startswith(starts)]
    assert not unused, unused


LIVE_ALONE = {"completed", "unknown_stream", "start_timeout", "stream_conflict", "objected"}
LIVE_ALONE |= {"session_expired", "slow_consumer", "invalid_audio_frame", "unsupported_encoding"}
"""Errors of live streams only."""

NEVER_SEEN = {"draining", "idle_timeout", "message_too_large", "rate_limited", "quota_exceeded"}
NEVER_SEEN |= {"unauthorized", "forbidden", "unknown_message"}
"""Errors after which the page reconnects, asks for a key, or which it cannot cause."""


def test_every_code_of_the_contract_has_a_text(words: dict[str, Words]) -> None:
    """The page translates codes; for an unknown one it shows the server's English message."""
    schemas = document()["components"]["schemas"]
    errors = set(schemas["ErrorCode"]["enum"]) - LIVE_ALONE - NEVER_SEEN
    wanted = {f"recordings.error.{code}{part}" for code in errors for part in ("", ".do")}
    logged = schemas["LogCode"]["enum"]
    wanted |= {f"recordings.log.{code}" for code in logged}
    hints = schemas["ResultHint"]["enum"]
    same = {"too_long_for_one_verdict": "too_long"}
    wanted |= {
        f"recordings.hint.{same.get(hint, hint)}{part}"
        for hint in hints
        for part in ("", ".why", ".do")
    }
    warnings = schemas["WarningCode"]["enum"]
    wanted |= {f"mic.warn.{code}" for code in warnings}
    assert wanted <= words["en"].keys(), wanted - words["en"].keys()


def test_the_page_serves_the_questions_of_the_docs() -> None:
    """The page's copy was edited by mistake and still described the model before; it is a link."""
    assert (WEB / "questions.md").resolve() == WEB.parents[1] / "docs" / "questions.md"


def test_the_questions_quote_the_texts_of_the_page() -> None:
    """docs/questions.md quotes texts of the page in bold; they must be identical."""
    text = (WEB / "questions.md").read_text(encoding="utf-8")
    halves = {"en": text.split("## 中文")[0].split("## English")[1], "zh": text.split("## 中文")[1]}
    for language, answers in halves.items():
        words = (WEB / "words" / f"recordings.{language}.js").read_text(encoding="utf-8")
        quoted: list[str] = re.findall(r"\*\*([^*]+)\*\*", answers)
        assert len(quoted) > 8
        for quote in quoted:
            assert re.sub(r"\s+", " ", quote) in words, (language, quote)
