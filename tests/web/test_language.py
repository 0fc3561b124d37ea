"""Choice of the page's language (JavaScript, run in Node)."""

from __future__ import annotations

import json

import pytest

from stream.server.http.static_files import WEB
from tests.web.fakes import FAKES, run


@pytest.mark.parametrize(
    ("languages", "stored", "chosen"),
    [
        ('["C"]', None, "en"),
        ('["", "zh_CN.UTF-8"]', None, "zh"),
        ('["en-US@posix"]', None, "en"),
        ('["constructor", "toString"]', None, "en"),
        ("[undefined, null, 7]", None, "en"),
        ("undefined", None, "en"),
        ('["zh-Hant-TW"]', None, "zh"),
        ('["zh"]', "constructor", "zh"),
    ],
)
def test_no_language_of_a_system_stops_the_page(
    languages: str, stored: str | None, chosen: str
) -> None:
    """With LANG=C a browser reports tags that no standard knows; the page stayed empty for one."""
    module = json.dumps((WEB / "language.js").as_uri())
    found = run(f"""
      {FAKES}
      globalThis.navigator = {{ languages: {languages} }};
      globalThis.localStorage = {{ getItem: () => {json.dumps(stored)} }};
      const {{ language, t, tag }} = await import({module});
      print([language(), t("shell.monitor"), new Date(0).toLocaleTimeString(tag()) !== ""]);
    """)
    assert found == [chosen, {"en": "Monitor", "zh": "监控"}[chosen], True]


@pytest.mark.parametrize(("by", "text"), [("anna", "acknowledged by anna"), ("", "acknowledged")])
def test_an_acknowledgement_names_a_key_if_there_is_one(by: str, text: str) -> None:
    """On a server without keys a call of the history was "acknowledged by" nobody."""
    module = json.dumps((WEB / "parts" / "acknowledgement.js").as_uri())
    assert text == run(f"""
      {FAKES}
      globalThis.navigator = {{ languages: ["en"] }};
      globalThis.localStorage = {{ getItem: () => null }};
      const {{ acknowledgedText }} = await import({module});
      print(acknowledgedText({{ by: {json.dumps(by)} }}));
    """)
