from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from client.terminal.dashboard import MAX_STREAMS, Dashboard, bar, block


def drawn(dashboard: Dashboard, now: float, height: int | None = None, width: int = 150) -> str:
    console = Console(record=True, width=width, file=io.StringIO(), color_system="truecolor")
    console.print(dashboard.render(now, width, height))
    return console.export_text()


def score(stream: str, channel: int = 0, role: str = "customer", **scores: float) -> Any:
    return {
        "type": "emotion.score",
        "stream_id": stream,
        "channel": channel,
        "role": role,
        "scores": {"neutral": 1.0},
        "rolling": {"10s": scores},
        "hints": ["narrowband"],
    }


def event(kind: str, **fields: Any) -> Any:
    """Return an event with the fields that the dashboard reads."""
    return {"type": kind, **fields}


def speech(stream: str, kind: str) -> Any:
    return event(f"speech.{kind}", stream_id=stream, channel=0, role="customer")


def test_bars_have_eighths() -> None:
    assert bar(0.5, 4) == "██  "
    assert bar(1.0, 4) == "████"
    assert bar(0.03125, 4) == "▏   "
    assert bar(2.0, 4) == "████"
    assert bar(-1.0, 4) == "    "
    assert [block(share) for share in (0.0, 0.124, 0.5, 1.0)] == ["▁", "▁", "▅", "█"]


def test_an_empty_dashboard_shows_a_note() -> None:
    assert "no streams yet" in drawn(Dashboard(), 0.0)


def test_a_channel_shows_its_top_label_and_all_shares() -> None:
    dashboard = Dashboard()
    dashboard.handle(speech("call-1", "start"), 0.0)
    dashboard.handle(score("call-1", angry=0.75, sad=0.25), 1.0)
    text = drawn(dashboard, 3.0)
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
    dashboard.handle(speech("call-1", "end"), 4.0)
    assert "●" not in drawn(dashboard, 4.0)


def test_the_sparkline_shows_the_last_minute_with_gaps() -> None:
    dashboard = Dashboard(label="angry")
    for second, share in [(0, 1.0), (30, 0.5), (58, 0.1)]:
        dashboard.handle(score("call-1", angry=share, sad=1 - share), float(second))
    side = dashboard.rows["call-1"].sides[0]
    assert side.spark(59.0, "angry") == "█" + " " * 14 + "▅" + " " * 13 + "▁"
    assert side.spark(61.0, "angry").strip() == "▅" + " " * 13 + "▁"
    assert side.spark(59.0, None)[-1] == "█"


def test_the_history_is_bounded() -> None:
    dashboard = Dashboard()
    for tick in range(10_000):
        dashboard.handle(score("call-1", angry=0.5), tick / 10)
    assert len(dashboard.rows["call-1"].sides[0].history) <= 601


def test_a_snapshot_fills_the_dashboard() -> None:
    dashboard = Dashboard()
    stream = {
        "stream_id": "call-9",
        "state": "paused",
        "roles": ["customer", "agent"],
        "analysed": [0],
        "speaking": [0],
        "last": [score("call-9", happy=0.9)],
    }
    dashboard.handle(event("snapshot", streams=[stream]), 0.0)
    text = drawn(dashboard, 0.0)
    assert "call-9" in text
    assert "paused" in text
    assert "happy" in text
    assert "agent" not in text


def test_an_ended_stream_is_shown_for_30_seconds() -> None:
    dashboard = Dashboard()
    dashboard.handle(score("call-1", sad=1.0), 0.0)
    dashboard.handle(event("session.closed", stream_id="call-1"), 1.0)
    assert "ended" in drawn(dashboard, 2.0)
    dashboard.handle(score("call-2", sad=1.0), 60.0)
    assert "call-1" not in drawn(dashboard, 60.0)


def test_a_stream_id_that_is_used_again_starts_without_scores() -> None:
    dashboard = Dashboard()
    dashboard.handle(score("call-1", sad=1.0), 0.0)
    dashboard.handle(event("session.closed", stream_id="call-1"), 1.0)
    session = {
        "audio": {"roles": ["customer"]},
        "analysis": {"analyse_channels": [0]},
        "tags": [],
    }
    dashboard.handle(event("session.created", stream_id="call-1", session=session), 2.0)
    assert dashboard.rows["call-1"].state == "active"
    assert not dashboard.rows["call-1"].sides[0].scores


def test_events_that_are_not_known_change_no_channel() -> None:
    dashboard = Dashboard()
    dashboard.handle(score("call-1", sad=1.0), 0.0)
    before = drawn(dashboard, 1.0)
    dashboard.handle(event("later.event", stream_id="call-1", channel="x"), 1.0)
    dashboard.handle(event("later.answer", sub="s1"), 1.0)
    assert drawn(dashboard, 1.0) == before


def test_more_streams_than_lines_are_counted() -> None:
    dashboard = Dashboard()
    for number in range(50):
        dashboard.handle(score(f"call-{number}", sad=1.0), 0.0)
    text = drawn(dashboard, 0.0, height=13)
    assert len(text.splitlines()) <= 13
    assert "… and 40 more" in text


def test_the_number_of_streams_is_bounded() -> None:
    dashboard = Dashboard()
    for number in range(MAX_STREAMS + 10):
        dashboard.handle(score(f"call-{number}", sad=1.0), 0.0)
    assert len(dashboard.rows) == MAX_STREAMS


def test_warnings_are_shown_below_the_table() -> None:
    dashboard = Dashboard()
    dashboard.handle(event("client.reconnecting", why="gone away", delay_s=0.1), 0.0)
    dashboard.handle(event("warning", message="[odd] rate", stream_id="call-1"), 0.0)
    text = drawn(dashboard, 0.0)
    assert "reconnecting: gone away" in text
    assert "call-1: warning: [odd] rate" in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_lines_fit_any_width(width: int) -> None:
    dashboard = Dashboard()
    dashboard.handle(score("a-very-long-stream-id-that-does-not-fit-anywhere", sad=1.0), 0.0)
    assert all(len(line) <= width for line in drawn(dashboard, 0.0, width=width).splitlines())


def test_streams_of_one_id_in_two_tenants_have_a_row_each() -> None:
    dashboard = Dashboard()
    for tenant in ("acme", "globex"):
        dashboard.handle(score("call-1", angry=0.9) | {"tenant": tenant}, 0.0)
    text = drawn(dashboard, 0.0)
    assert "acme/call-1" in text
    assert "globex/call-1" in text


def test_a_stream_whose_producer_is_away_is_shown_so() -> None:
    dashboard = Dashboard()
    dashboard.handle(score("call-1", sad=1.0), 0.0)
    dashboard.handle(event("stream.detached", stream_id="call-1", seq=4), 1.0)
    assert "detached" in drawn(dashboard, 1.0)
    assert "?" in drawn(dashboard, 1.0)
    dashboard.handle(event("session.resumed", stream_id="call-1", seq=6), 2.0)
    assert "active" in drawn(dashboard, 2.0)
    # A producer's own dashboard gets the events that it missed after that.
    dashboard.handle(event("stream.detached", stream_id="call-1", seq=5), 2.0)
    assert "active" in drawn(dashboard, 2.0)
    dashboard.handle(event("stream.detached", stream_id="call-1", seq=9), 3.0)
    assert "detached" in drawn(dashboard, 3.0)
