"""Utterances of live streams that can be marked: bounds, sessions, tenants."""

from __future__ import annotations

import numpy as np

from stream.feedback.recent import RecentUtterances
from stream.feedback.utterance import OVERHEAD, MarkableUtterance

DIM = 16
SIZE = OVERHEAD + 4 * DIM


def utterance(number: int, channel: int = 0, audio: int = 0) -> MarkableUtterance:
    clip = np.zeros(audio, np.int16) if audio else None
    features = np.full(DIM, number, np.float32)
    at = number * 100
    return MarkableUtterance(channel, number, at, at + 50, ("fast", "1"), features, clip)


def found(recent: RecentUtterances, stream: str, session: str = "", tenant: str = "t") -> set[int]:
    return {n for n in range(20) if recent.find((tenant, stream), session, 0, n)}


def test_the_newest_utterances_of_each_channel_are_kept() -> None:
    recent = RecentUtterances(3, 10**6)
    for number in range(5):
        recent.add(("t", "call"), "s1", utterance(number))
    recent.add(("t", "call"), "s1", utterance(0, channel=1))
    assert found(recent, "call") == {2, 3, 4}
    assert recent.find(("t", "call"), "", 1, 0) is not None
    assert recent.bytes("t") == 4 * SIZE


def test_memory_is_bounded_in_bytes_and_the_longest_silent_stream_loses_its_oldest_first() -> None:
    recent = RecentUtterances(100, 4 * SIZE)
    for number in range(2):
        recent.add(("t", "a"), "s1", utterance(number))
    for number in range(3):
        recent.add(("t", "b"), "s2", utterance(number))
    assert (found(recent, "a"), found(recent, "b")) == ({1}, {0, 1, 2})
    recent.add(("t", "a"), "s1", utterance(2))
    assert (found(recent, "a"), found(recent, "b")) == ({1, 2}, {1, 2})
    # Audio counts, and what is larger than the bound alone is not kept.
    recent.add(("t", "c"), "s3", utterance(0, audio=4 * SIZE))
    assert recent.bytes("t") == 0
    assert found(recent, "c") == set()


def test_a_tenant_with_many_calls_takes_nothing_from_another() -> None:
    recent = RecentUtterances(100, 4 * SIZE)
    recent.add(("small", "call"), "s1", utterance(0))
    for number in range(50):
        recent.add(("large", f"call-{number}"), f"l{number}", utterance(0))
    assert found(recent, "call", tenant="small") == {0}
    assert found(recent, "call", tenant="large") == set()
    assert recent.bytes("large") == 4 * SIZE


def test_a_stream_id_that_is_used_again_names_the_session_that_spoke_last() -> None:
    """Utterances are numbered from 0 again, so a page with the older call names its session."""
    recent = RecentUtterances(100, 10**6)
    recent.add(("t", "call"), "old", utterance(0))
    recent.add(("t", "call"), "old", utterance(1))
    recent.add(("t", "call"), "new", utterance(0))
    assert found(recent, "call") == {0}
    assert found(recent, "call", "old") == {0, 1}
    assert recent.find(("t", "other"), "old", 0, 0) is None, "the session has another stream id"


def test_an_objection_drops_the_utterances_of_its_session() -> None:
    recent = RecentUtterances(100, 10**6)
    recent.add(("t", "call"), "s1", utterance(0))
    recent.add(("t", "call"), "s2", utterance(5))
    recent.forget("t", "s2")
    recent.forget("t", "s2")
    recent.forget("unknown", "s2")
    assert found(recent, "call") == {0}
    assert recent.bytes("t") == SIZE
