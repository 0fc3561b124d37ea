"""What people read of a call."""

from __future__ import annotations

from typing import Any

import pytest

from client.terminal.text import closing


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 utterances"), (1, "1 utterance"), (2, "2 utterances")]
)
def test_one_utterance_is_not_several(count: int, said: str) -> None:
    """The first line said "1 utterances scored", the next one "1 utterance"."""
    side: dict[str, Any] = {"role": "agent", "utterances": count, "speech_ms": 900, "scores": {}}
    totals = {"audio_ms": 2000, "speech_ms": 900, "scores": 1, "segments": count, "dropped_ms": 0}
    first, second = closing({"totals": totals, "summary": [side]})
    assert first.endswith(f" {said} scored")
    assert f" in {said}: " in second
