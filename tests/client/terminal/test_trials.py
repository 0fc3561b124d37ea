"""Drawing of tried rules."""

from __future__ import annotations

from typing import Any

import pytest

from client.terminal.trials import REASONS, WHY, drawing
from stream.protocol.wire.trials import RuleTrial


def trial(**fields: Any) -> RuleTrial:
    times = [float(n) for n in range(2, 60, 2)]
    high = [0.8 if 20 <= at <= 30 else 0.2 for at in times]
    body: Any = {
        "rule": "angry_customer",
        "severity": "critical",
        "text": "indicator: angry over 10s at or above 0.6 for 2 s",
        "of": "angry",
        "unit": "share",
        "horizon": "10s",
        "above": 0.6,
        "clear_below": 0.4,
        "for_s": 2,
        "channel": 0,
        "role": "customer",
        "values": {"at_s": times, "low": high, "high": high},
        "judged": len(times),
        "left_out": 3,
        "count": 1,
        "alerts": [
            {
                "since_s": 20.0,
                "start_s": 22.0,
                "end_s": 32.0,
                "value": 0.8,
                "peak": 0.8,
                "reason": "cleared",
                "evidence": {
                    "scores": {"angry": 0.8, "sad": 0.2},
                    "utterance": 7,
                    "speech_s": 4.2,
                    "hints": ["narrowband"],
                },
            }
        ],
        **fields,
    }
    made: RuleTrial = body
    return made


def drawn(body: RuleTrial, width: int = 69) -> list[str]:
    lines = "\n".join(line.plain for line in drawing(body, 60.0, width)).splitlines()
    assert all(len(line) <= width for line in lines if "indicator" not in line)
    return lines


def test_the_alert_stands_below_its_values_at_its_time() -> None:
    """Width 69 is one column a second."""
    lines = drawn(trial())
    chart = [line for line in lines if "┤" in line or "│" in line][:8]
    above = next(line for line in chart if line.startswith("   0.6"))
    assert above[9:].index("█") == 19
    assert above[9:][:19] == "╌" * 19, "the level is drawn where the value is below it"
    spans = next(line for line in lines if line.startswith("alerts"))
    assert (spans.index("·") - 9, spans.index("━") - 9, spans.rindex("━") - 9) == (20, 22, 32)
    text = "\n".join(lines)
    assert "0:22.0 – 0:32.0  peak 0.8, cleared" in text
    assert "angry 80%  sad 20%  (utterance 7, 4.2 s of speech, narrowband)" in text
    assert "1 alert; 29 values, 3 scores left out" in text


def test_time_without_a_judged_score_stays_empty() -> None:
    values: Any = {"at_s": [2.0, 40.0], "low": [0.5, 0.5], "high": [0.5, 0.5]}
    lowest = next(line for line in drawn(trial(values=values)) if line.startswith("     0"))
    assert lowest[9:][25:38].strip() == ""
    assert lowest[9:][39:45] == "█" * 6


def test_the_conversation_keeps_its_value_until_the_next_one() -> None:
    body = trial(values={"at_s": [2.0, 40.0], "low": [0.5, 0.5], "high": [0.5, 0.5]})
    del body["horizon"]
    lowest = next(line for line in drawn(body) if line.startswith("     0"))
    assert lowest[9:][2:] == "█" * 58


@pytest.mark.parametrize("why", WHY)
def test_a_rule_without_values_gets_the_reason_in_place_of_a_chart(why: Any) -> None:
    lines = drawn(trial(why=why, count=0, alerts=[]), 200)
    assert lines[-1] == f"  {WHY[why]}"
    assert not any("┤" in line for line in lines)


@pytest.mark.parametrize("width", [10, 30, 80, 240])
@pytest.mark.parametrize("seconds", [0.1, 3.0, 7_200.0])
def test_any_length_and_width_is_drawn(seconds: float, width: int) -> None:
    values: Any = {"at_s": [seconds], "low": [-0.3], "high": [0.9]}
    alert: Any = {**trial()["alerts"][0], "start_s": seconds, "end_s": seconds}
    for reason in REASONS:
        body = trial(values=values, unit="difference", alerts=[{**alert, "reason": reason}])
        lines = drawing(body, seconds, width)
        assert all(len(line.plain) <= max(width, 29) for line in lines[2:12])


def test_a_name_cannot_order_the_terminal_about() -> None:
    assert "\x1b" not in drawn(trial(rule="a\x1b[2J"))[0]
