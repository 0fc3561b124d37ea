"""Results that a producer on /v1/stream asks for: frames, embeddings, labels, or none."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from tests.support.clients import connect, stream
from tests.support.running import Server
from tests.support.utterances import encode, speech, utterances


@pytest.fixture(scope="module")
def server(unpaced: Server) -> Server:
    return unpaced


async def test_with_results_false_only_subscribers_get_results(server: Server) -> None:
    async with (
        connect(server, "/v1/subscribe") as listener,
        stream(server, results="false", stream_id="mute") as client,
    ):
        await listener.send("subscribe", filter={"streams": ["mute"]})
        await listener.until("subscribed")
        await client.audio(encode(speech()))
        closed = await client.close_session()
        assert closed["totals"]["scores"] > 0
        assert not [e for e in client.events if e["type"].startswith(("emotion.", "speech."))]
        await listener.until("session.closed")
        assert listener.of("emotion.score")
        assert listener.of("emotion.segment")
        seen = [event["seq"] for event in client.events]
        assert seen == sorted(set(seen)), "omitted events only leave gaps in seq"


async def test_frames_are_contiguous_and_never_repeated(server: Server) -> None:
    """With `frames=true` every score has the posteriors of those frames that no score had before.

    Audio in a burst had repeated frames: the second window was cut while the first still waited,
    so its `fresh` covered the speech of the first one, which was then taken all the same.
    """

    async with stream(server, frames="true") as client:
        await client.audio(encode(speech()))
        await client.close_session()
        seen: set[int] = set()
        for score in client.of("emotion.score"):
            frames = score["frames"]
            assert frames["labels"] == ["angry", "happy", "neutral", "sad"]
            assert frames["hop_ms"] == 20
            own = range(frames["start_ms"], frames["start_ms"] + 20 * len(frames["posteriors"]), 20)
            assert not seen & set(own), "a frame was repeated"
            seen |= set(own)
            for row in frames["posteriors"]:
                assert sum(row) == pytest.approx(1, abs=0.01)
        for begin, end in utterances(client.events):
            assert set(range(begin, end, 20)) <= seen


async def test_embeddings_are_sent_on_request(server: Server) -> None:
    """Every segment has its embedding, every score those of its frames, by default neither."""

    data = encode(speech())
    async with stream(server, frames="true", embeddings="true") as client:
        created = await client.until("session.created")
        assert created["session"]["analysis"]["embeddings"] is True
        assert created["session"]["analysis"]["model"]["embedding_dim"] == 2
        await client.audio(data)
        await client.close_session()
        for score in client.of("emotion.score"):
            frames = score["frames"]
            assert frames["embeddings"]["shape"] == [len(frames["posteriors"]), 2]
        for segment in client.of("emotion.segment"):
            assert segment["embedding"]["shape"] == [2]
            vector = np.frombuffer(base64.b64decode(segment["embedding"]["data"]), "<f2")
            assert vector[1] == 1, "the second feature of the stand-in is always 1"
            assert 0 < vector[0] < 20
    async with stream(server) as client:
        await client.audio(data)
        await client.close_session()
        assert client.of("emotion.segment")
        assert not any("embedding" in event for event in client.events)


async def test_only_the_requested_labels_are_sent(server: Server) -> None:
    async with stream(server, labels="angry,sad") as client:
        created = await client.until("session.created")
        assert created["session"]["analysis"]["labels"] == ["angry", "sad"]
        await client.audio(encode(speech()))
        closed = await client.close_session()
        for event in client.of("emotion.score", "emotion.segment"):
            assert set(event["scores"]) == {"angry", "sad"}
            assert all(set(shares) == {"angry", "sad"} for shares in event["rolling"].values())
        assert set(closed["summary"][0]["scores"]) == {"angry", "sad"}
