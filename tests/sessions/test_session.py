"""States of a session."""

from __future__ import annotations

import pytest

from stream.config import Config
from stream.feedback.recent import RecentUtterances
from stream.protocol.messages import SessionConfig
from stream.sessions.session import NEXT, SessionState
from tests.support.odd_files import wav
from tests.support.plugins import LENGTHS
from tests.support.scheduling import until
from tests.support.sessions import Sessions
from tests.support.utterances import speech, talk


async def test_only_legal_transitions_are_accepted() -> None:
    """The state of a session was spread over four flags in three objects, and some combinations
    had no meaning."""
    sessions = Sessions()
    for state in SessionState:
        for after in SessionState:
            session, _ = await sessions.open()
            session.state = state
            if after in NEXT[state]:
                session.become(after)
                assert session.state is after
            else:
                with pytest.raises(RuntimeError, match=f"{state.name} cannot become {after.name}"):
                    session.become(after)
                assert session.state is state


async def test_a_channel_speaks_from_the_start_of_an_utterance_to_its_end() -> None:
    sessions = Sessions()
    await sessions.scheduler.start(LENGTHS)
    session, connection = await sessions.open()
    session.audio(talk(2.0))
    await until(lambda: "emotion.score" in connection.types())
    assert session.live.speaking == {0}
    session.audio(bytes(64_000))
    await until(lambda: "emotion.segment" in connection.types())
    assert session.live.speaking == frozenset()
    await sessions.registry.finish(session, "completed")
    await sessions.scheduler.stop(1.0)


@pytest.mark.parametrize("asked", [False, True])
async def test_features_for_listeners_reach_a_producer_only_if_it_asked_for_them(
    asked: bool,
) -> None:
    """A server that collects labels computes them for every stream."""
    recent = RecentUtterances(10, 10**6)
    settings = {"limits": {"ahead_s": 1e9}, "feedback": {"enabled": True}}
    sessions = Sessions(config=Config.model_validate(settings), recent=recent)
    await sessions.scheduler.start(LENGTHS)
    analysis = {"embeddings": asked, "frames": True}
    request = SessionConfig.model_validate({"stream_id": "call", "analysis": analysis})
    session, connection = await sessions.open(request=request)
    for start in range(0, len(speech()), 16_000):
        session.audio(speech()[start : start + 16_000].tobytes())
    await until(lambda: connection.types().count("emotion.segment") == 2)
    await sessions.registry.finish(session, "completed")
    await sessions.scheduler.stop(1.0)
    assert recent.find(session.live.key, session.id, 0, 0) is not None
    segments = [event for event in connection.events if event["type"] == "emotion.segment"]
    assert [("embedding" in segment) for segment in segments] == [asked] * 2
    frames = [e["frames"] for e in connection.events if e["type"] == "emotion.score"]
    assert {"embeddings" in found for found in frames} == {asked}


async def test_a_wav_header_before_the_samples_is_reported() -> None:
    sessions = Sessions()
    session, connection = await sessions.open()
    session.audio(wav(speech()[:16_000]))
    session.flush()
    [warning] = [event for event in connection.events if event["type"] == "warning"]
    assert warning["code"] == "wav_header"
    assert session._pipeline.position == 16_000
