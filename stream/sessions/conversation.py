"""Bodies of the conversation's measures. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from stream.analysis.conversation import ConversationReport, Measures, Side
from stream.protocol.wire import conversation as wire
from stream.types import to_ms


def measured(report: ConversationReport, roles: Sequence[str]) -> wire.Measured:
    """Return a report with milliseconds and roles."""
    return {
        "audio_ms": to_ms(report.end),
        "silence_now_ms": to_ms(report.silence_now),
        "minute": _measures(report.minute, roles),
        "call": _measures(report.call, roles),
    }


def _measures(measures: Measures, roles: Sequence[str]) -> wire.Measures:
    return {
        "heard_ms": to_ms(measures.heard),
        "silence_ms": to_ms(measures.silence),
        "dead_air_ms": to_ms(measures.dead_air),
        "longest_silence_ms": to_ms(measures.longest_silence),
        "overlap_ms": to_ms(measures.overlap),
        "sides": [_side(side, roles) for side in measures.sides],
    }


def _side(side: Side, roles: Sequence[str]) -> wire.Side:
    return {
        "channel": side.channel,
        "role": roles[side.channel],
        "talk_ms": to_ms(side.talk),
        "talk_share": side.share,
        "overlap_ms": to_ms(side.overlap),
        "turns": side.turns,
        "response_ms": None if side.response is None else to_ms(side.response),
        "longest_turn_ms": to_ms(side.longest_turn),
    }
