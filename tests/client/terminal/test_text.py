"""Text that the commands print about a call."""

from __future__ import annotations

from typing import Any

import pytest

from client.terminal.text import summary_lines


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 utterances"), (1, "1 utterance"), (2, "2 utterances")]
)
def test_utterances_are_singular_or_plural(count: int, expected: str) -> None:
    """The first line was "1 utterances scored", the next one "1 utterance"."""
    side: dict[str, Any] = {"role": "agent", "utterances": count, "speech_ms": 900, "scores": {}}
    totals = {"audio_ms": 2000, "speech_ms": 900, "scores": 1, "segments": count, "dropped_ms": 0}
    first, second = summary_lines({"totals": totals, "summary": [side]})
    assert first.endswith(f" {expected} scored")
    assert f" in {expected}: " in second
