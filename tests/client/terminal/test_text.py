"""Text that the commands print about a call."""

from __future__ import annotations

from typing import Any

import pytest

from client.terminal.text import line, summary_lines


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 utterances"), (1, "1 utterance"), (2, "2 utterances")]
)
def test_utterances_are_singular_or_plural(count: int, expected: str) -> None:
    """The first line was "1 utterances scored", the next one "1 utterance"."""
    side: dict[str, Any] = {"role": "agent", "utterances": count, "speech_ms": 900, "scores": {}}
    totals = {"audio_ms": 2000, "speech_ms": 900, "scores": 1, "segments": count, "dropped_ms": 0}
    closed: Any = {"totals": totals, "summary": [side]}
    first, second = summary_lines(closed)
    assert first.endswith(f" {expected} scored")
    assert f" in {expected}: " in second


def test_events_that_are_not_known_have_no_line() -> None:
    later: Any = {"type": "later.event", "stream_id": "call-1", "role": 7}
    assert line(later) is None


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"type": "warning", "code": "later_code", "message": "m", "later": 1}, "warning: m"),
        ({"type": "lagged", "dropped": 3}, "3 events dropped: this reader is too slow"),
        ({"type": "client.restarted", "why": "w"}, "session lost (w); a new one has started"),
    ],
)
def test_events_with_fields_of_a_newer_server_have_their_line(event: Any, expected: str) -> None:
    assert line(event) == expected


def test_an_alert_has_its_state_its_condition_and_its_value() -> None:
    step: Any = {
        "type": "alert",
        "state": "new",
        "severity": "critical",
        "text": "indicator: angry over 10s at or above 0.6",
        "value": 0.66,
        "audio_ms": 61_000,
        "role": "customer",
    }
    shown = line(step)
    assert shown is not None
    assert shown.endswith(
        "customer  new critical alert: indicator: angry over 10s at or above 0.6; now 0.66"
    )
