from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from client.terminal.dashboard import MAX_STREAMS, Dashboard, bar, block


def drawn(screen: Dashboard, now: float, height: int | None = None, width: int = 150) -> str:
    console = Console(record=True, width=width, file=io.StringIO(), color_system="truecolor")
    console.print(screen.render(now, width, height))
    return console.export_text()


def score(stream: str, channel: int = 0, role: str = "customer", **scores: float) -> dict[str, Any]:
    return {
        "type": "emotion.score",
        "stream_id": stream,
        "channel": channel,
        "role": role,
        "scores": {"neutral": 1.0},
        "rolling": {"10s": scores},
        "hints": ["narrowband"],
    }


def speech(stream: str, kind: str) -> dict[str, Any]:
    return {"type": f"speech.{kind}", "stream_id": stream, "channel": 0, "role": "customer"}


def test_bars_have_eighths() -> None:
    assert bar(0.5, 4) == "██  "
    assert bar(1.0, 4) == "████"
    assert bar(0.03125, 4) == "▏   "
    assert bar(2.0, 4) == "████"
    assert bar(-1.0, 4) == "    "
    assert [block(share) for share in (0.0, 0.124, 0.5, 1.0)] == ["▁", "▁", "▅", "█"]


def test_an_empty_screen_says_so() -> None:
    assert "no streams yet" in drawn(Dashboard(), 0.0)


def test_a_side_shows_what_leads_and_all_shares() -> None:
    screen = Dashboard()
    screen.hear(speech("call-1", "start"), 0.0)
    screen.hear(score("call-1", angry=0.75, sad=0.25), 1.0)
    text = drawn(screen, 3.0)
    (row,) = [line for line in text.splitlines() if "call-1" in line]
    assert "customer" in row
    assert "active" in row
    assert "●" in row
    assert "angry" in row
    assert "█████████" in row
    assert "75%" in row
    assert "▇▇ ▃▃" in row
    assert "2 s" in row
    assert "narrowband" in row
    assert "an sa" in text.splitlines()[0]
    screen.hear(speech("call-1", "end"), 4.0)
    assert "●" not in drawn(screen, 4.0)


def test_the_line_is_the_last_minute_with_gaps() -> None:
    screen = Dashboard(label="angry")
    for second, share in [(0, 1.0), (30, 0.5), (58, 0.1)]:
        screen.hear(score("call-1", angry=share, sad=1 - share), float(second))
    side = screen.rows["call-1"].sides[0]
    assert side.spark(59.0, "angry") == "█" + " " * 14 + "▅" + " " * 13 + "▁"
    assert side.spark(61.0, "angry").strip() == "▅" + " " * 13 + "▁"
    assert side.spark(59.0, None)[-1] == "█"


def test_the_past_is_bounded() -> None:
    screen = Dashboard()
    for tick in range(10_000):
        screen.hear(score("call-1", angry=0.5), tick / 10)
    assert len(screen.rows["call-1"].sides[0].past) <= 601


def test_a_snapshot_fills_the_screen() -> None:
    screen = Dashboard()
    stream = {
        "stream_id": "call-9",
        "state": "paused",
        "roles": ["customer", "agent"],
        "analysed": [0],
        "speaking": [0],
        "last": [score("call-9", happy=0.9)],
    }
    screen.hear({"type": "snapshot", "streams": [stream]}, 0.0)
    text = drawn(screen, 0.0)
    assert "call-9" in text
    assert "paused" in text
    assert "happy" in text
    assert "agent" not in text


def test_an_ended_stream_stays_for_a_while() -> None:
    screen = Dashboard()
    screen.hear(score("call-1", sad=1.0), 0.0)
    screen.hear({"type": "session.closed", "stream_id": "call-1"}, 1.0)
    assert "ended" in drawn(screen, 2.0)
    screen.hear(score("call-2", sad=1.0), 60.0)
    assert "call-1" not in drawn(screen, 60.0)


def test_an_id_that_comes_back_starts_afresh() -> None:
    screen = Dashboard()
    screen.hear(score("call-1", sad=1.0), 0.0)
    screen.hear({"type": "session.closed", "stream_id": "call-1"}, 1.0)
    session = {"audio": {"roles": ["customer"]}, "analysis": {"analyse_channels": [0]}}
    screen.hear({"type": "session.created", "stream_id": "call-1", "session": session}, 2.0)
    assert screen.rows["call-1"].state == "active"
    assert not screen.rows["call-1"].sides[0].scores


def test_more_streams_than_lines_are_counted() -> None:
    screen = Dashboard()
    for number in range(50):
        screen.hear(score(f"call-{number}", sad=1.0), 0.0)
    text = drawn(screen, 0.0, height=13)
    assert len(text.splitlines()) <= 13
    assert "… and 40 more" in text


def test_the_number_of_streams_is_bounded() -> None:
    screen = Dashboard()
    for number in range(MAX_STREAMS + 10):
        screen.hear(score(f"call-{number}", sad=1.0), 0.0)
    assert len(screen.rows) == MAX_STREAMS


def test_troubles_are_shown_below() -> None:
    screen = Dashboard()
    screen.hear({"type": "client.reconnecting", "why": "gone away", "delay_s": 0.1}, 0.0)
    screen.hear({"type": "warning", "message": "[odd] rate", "stream_id": "call-1"}, 0.0)
    text = drawn(screen, 0.0)
    assert "reconnecting: gone away" in text
    assert "call-1: warning: [odd] rate" in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_any_width_will_do(width: int) -> None:
    screen = Dashboard()
    screen.hear(score("a-very-long-stream-id-that-does-not-fit-anywhere", sad=1.0), 0.0)
    assert all(len(line) <= width for line in drawn(screen, 0.0, width=width).splitlines())
