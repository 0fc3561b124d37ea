"""Events as lines of text."""

from __future__ import annotations

from collections.abc import Mapping

from client.remote.events import Event
from stream.protocol.wire.session import SessionClosed


def clock(milliseconds: int) -> str:
    """Format a time within a stream as m:ss.s."""
    tenths = milliseconds // 100
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"


def shares(scores: Mapping[str, float], limit: int = 3) -> str:
    """Format the `limit` largest shares, like "angry 62%  neutral 30%"."""
    ranked = sorted(scores.items(), key=lambda item: -item[1])[:limit]
    return "  ".join(f"{label} {share:3.0%}" for label, share in ranked)


def line(event: Event) -> str | None:
    """Format an event as one line; return None for events that are not shown."""
    side = f"{event.get('role', '')!s:<9}"
    match event["type"]:
        case "session.created":
            model = event["session"]["analysis"]["model"]["id"]
            return f"started as {event['stream_id']}, analysed by {model}"
        case "speech.start":
            return f"{clock(event['audio_ms'])} {side} speaks"
        case "emotion.score" | "emotion.segment":
            text = shares(event["scores"]) or "not scored"
            hints = f"  ({', '.join(event['hints'])})" if event["hints"] else ""
            segment = "  = whole utterance" if event["type"] == "emotion.segment" else ""
            return f"{clock(event['audio_end_ms'])} {side} {text}{segment}{hints}"
        case "stream.gap":
            gap = f"{event['missing_ms'] / 1000:.1f} s of speech were not scored"
            return f"{clock(event['audio_ms'])} {side} {gap}: {event['reason']}"
        case "alert":
            text = f"{event['state']} {event['severity']} alert: {event['text']}"
            return f"{clock(event['audio_ms'])} {side} {text}; now {event['value']:.2f}"
        case "warning" | "error":
            return f"{event['type']}: {event['message']}"
        case "session.resumed":
            return f"reconnected; the server has received {event['received_ms'] / 1000:.1f} s"
        case "client.reconnecting":
            return f"connection lost ({event['why']}); next attempt in {event['delay_s']:.1f} s"
        case "client.restarted":
            return f"session lost ({event['why']}); a new one has started"
        case "client.lagged" | "lagged":
            return f"{event['dropped']} events dropped: this reader is too slow"
        case "session.closed":
            return f"ended: {event['reason']}"
    return None


def summary_lines(event: SessionClosed) -> list[str]:
    """Format the totals of `session.closed` and one line for each channel."""
    totals = event["totals"]
    lines = [
        f"{totals['audio_ms'] / 1000:.1f} s of audio, {totals['speech_ms'] / 1000:.1f} s of speech,"
        f" {totals['scores']} scores, {_utterances(totals['segments'])} scored"
        + (f", {totals['dropped_ms'] / 1000:.1f} s dropped" if totals["dropped_ms"] else "")
    ]
    for side in event["summary"]:
        count, speech_s = side["utterances"], side["speech_ms"] / 1000
        text = shares(side["scores"]) or "nothing scored"
        lines.append(f"  {side['role']:<9} {speech_s:6.1f} s in {_utterances(count)}: {text}")
    return lines


def _utterances(count: int) -> str:
    return f"{count} utterance{'' if count == 1 else 's'}"
