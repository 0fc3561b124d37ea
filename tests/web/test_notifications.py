"""Alerts that get a signal (JavaScript, run in Node)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stream.server.http.static_files import WEB
from tests.web.fakes import run

NEW = {
    "type": "alert",
    "state": "new",
    "id": "alr_1",
    "sub": "page",
    "ts": "2026-01-01T00:01:00.000Z",
}


def accepted(*messages: dict[str, Any], now_s: float = 60.0) -> list[bool]:
    """Return which messages get a signal at `now_s` after the first one, which is an event."""
    module = json.dumps((WEB / "monitor/notifications.js").as_uri())
    found: list[bool] = run(f"""
      const {{ FreshAlerts }} = await import({module});
      const fresh = new FreshAlerts("page");
      const began = Date.parse("2026-01-01T00:00:00.000Z") + 7000;
      fresh.accepts({{ type: "snapshot", ts: "2026-01-01T00:00:00.000Z" }}, began);
      const messages = {json.dumps(messages)};
      console.log(JSON.stringify(messages.map((m) => fresh.accepts(m, began + {now_s} * 1000))));
    """)
    return found


def test_an_alert_is_signalled_when_it_begins_and_once() -> None:
    steps = [NEW, NEW, {**NEW, "state": "update"}, {**NEW, "state": "end"}, {**NEW, "id": "alr_2"}]
    assert accepted(*steps) == [True, False, False, False, True]


@pytest.mark.parametrize("sub", ["history", None])
def test_a_replayed_alert_is_silent(sub: str | None) -> None:
    """A tab that opened a stream would have signalled all alerts of its last 90 seconds."""
    assert accepted({**NEW, "sub": sub}) == [False]


def test_an_alert_that_comes_late_is_silent() -> None:
    """A browser freezes tabs in the background and delivers everything at once when they wake.

    The clocks of the server and the browser differ by 7 s here, which counts as no delay.
    """
    assert accepted(NEW, now_s=89.0) == [True]
    assert accepted(NEW, now_s=91.0) == [False]
