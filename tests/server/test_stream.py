"""The native protocol on /v1/stream, from the first message to the last."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from tests.support.clients import Client, connect, run, stream
from tests.support.running import Event, Server, running_server
from tests.support.utterances import RATE, encode, same_utterances, speech, talk, utterances

FORMATS = list(
    itertools.product(("linear16", "f32le", "mulaw", "alaw"), (8000, 16000, 48000), (1, 2))
)
SECOND = 2 * RATE


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server("--set", "limits.ahead_s=1000") as running:
        yield running


@pytest.fixture(scope="module")
def reference(server: Server) -> list[Event]:
    """What linear16 at 16 kHz makes of `speech()`."""
    return run(spoken(server, encode(speech())))


async def spoken(server: Server, data: bytes, chunk: int = 3200, **query: Any) -> list[Event]:
    async with stream(server, **query) as client:
        await client.audio(data, chunk)
        await client.close_session()
        return client.events


def numbers(events: Sequence[Event]) -> list[int]:
    return [event["seq"] for event in events]


def test_update_configures_and_is_answered_with_what_is_in_force(server: Server) -> None:
    async def session() -> None:
        async with connect(server) as client:
            created = await client.until("session.created")
            assert created["session"]["audio"]["sample_rate"] == RATE
            assert created["limits"]["max_message_bytes"] == 1_048_576
            assert "resume_token" not in created, "there is nothing to resume yet"
            await client.say(
                "session.update",
                session={
                    "audio": {"encoding": "mulaw", "sample_rate": 8000, "roles": ["customer"]},
                    "analysis": {"interval_ms": 500, "window_ms": 2000},
                    "stream_id": "call-1",
                    "tags": ["queue:billing"],
                    "consent": {"basis": "contract", "disclosed": True},
                },
            )
            updated = await client.until("session.updated")
            assert updated["stream_id"] == "call-1"
            assert updated["resume_token"].startswith("rt_")
            audio, analysis = updated["session"]["audio"], updated["session"]["analysis"]
            assert (audio["encoding"], audio["sample_rate"]) == ("mulaw", 8000)
            assert (audio["channels"], audio["roles"]) == (1, ["customer"])
            assert (analysis["interval_ms"], analysis["window_ms"]) == (500, 2000)
            assert updated["session"]["tags"] == ["queue:billing"]
            assert updated["session"]["consent"]["disclosed"] is True
            closed = await client.close_session()
            assert closed["session_id"] == created["session_id"]
            assert numbers(client.events) == list(range(len(client.events)))

    run(session())


@pytest.mark.parametrize("regulated", [True, False])
def test_a_microphone_with_automatic_gain_is_warned_of(server: Server, regulated: bool) -> None:
    """Browsers may regulate the level although they were asked not to; the producer is told."""

    async def session() -> list[Event]:
        async with connect(server) as client:
            attrs = {"capture": {"autoGainControl": regulated, "sampleRate": 48_000}}
            await client.say("session.update", session={"attrs": attrs})
            await client.until("session.updated")
            await client.close_session()
            return client.of("warning")

    assert [event["code"] for event in run(session())] == ["agc_suspected"] * regulated


def test_query_is_a_shortcut_for_update(server: Server) -> None:
    async def session() -> None:
        query = [
            ("sample_rate", 8000),
            ("encoding", "alaw"),
            ("channels", 2),
            ("roles", "customer,agent"),
            ("stream_id", "call-2"),
            ("interval_ms", 500),
            ("tag", "a"),
            ("tag", "b:1"),
        ]
        async with connect(server, query=query) as client:
            created = await client.until("session.created")
            assert (created["seq"], created["stream_id"]) == (0, "call-2")
            assert created["resume_token"].startswith("rt_")
            assert created["session"]["audio"] == {
                "encoding": "alaw",
                "sample_rate": 8000,
                "channels": 2,
                "roles": ["customer", "agent"],
            }
            assert created["session"]["analysis"]["analyse_channels"] == [0]
            assert created["session"]["tags"] == ["a", "b:1"]
            await client.close_session()

    run(session())


@pytest.mark.parametrize(("encoding", "rate", "channels"), FORMATS)
def test_every_format_tells_of_the_same_utterances(
    server: Server, reference: list[Event], encoding: str, rate: int, channels: int
) -> None:
    """Encoding, rate and channels are the producer's business: the speech stays where it is."""
    data = encode(speech(), encoding, rate, channels)
    query = {"encoding": encoding, "sample_rate": rate, "channels": channels}
    events = run(spoken(server, data, chunk=len(data) // 37, **query))
    assert len(utterances(reference)) == 2
    assert same_utterances(utterances(events), utterances(reference)), (
        utterances(events),
        utterances(reference),
    )


def test_an_utterance_is_told_from_start_to_segment(reference: list[Event]) -> None:
    kinds = [event["type"] for event in reference]
    assert (kinds[0], kinds[-1]) == ("session.created", "session.closed")
    for number in (0, 1):
        own = [event for event in reference if event.get("utterance") == number]
        assert own[0]["type"] == "speech.start"
        assert own[-1]["type"] == "emotion.segment"
        assert {"speech.end", "emotion.score"} <= {event["type"] for event in own}
        segment = own[-1]
        assert segment["trigger"] == "speech_end"
        assert segment["covered"] > 0.99
        assert sum(segment["scores"].values()) == pytest.approx(1, abs=0.01)
        assert segment["top"]["score"] == max(segment["scores"].values())
        assert {"10s", "30s", "call"} == set(segment["rolling"])
        assert segment["model"] == {"id": "fast", "revision": "1"}
    for score in (event for event in reference if event["type"] == "emotion.score"):
        assert 0 <= score["speech_ratio"] <= 1
        assert score["audio_end_ms"] - score["audio_start_ms"] <= 3000
        assert score["latency_ms"] >= 0


def test_numbers_have_no_holes(reference: list[Event]) -> None:
    assert numbers(reference) == list(range(len(reference)))


def test_totals_and_summary_add_up(reference: list[Event]) -> None:
    closed, kinds = reference[-1], [event["type"] for event in reference]
    totals = closed["totals"]
    assert totals["audio_ms"] == len(speech()) * 1000 // RATE
    assert totals["scores"] == kinds.count("emotion.score")
    assert totals["segments"] == kinds.count("emotion.segment")
    assert totals["speech_ms"] == sum(end - begin for begin, end in utterances(reference))
    assert totals["dropped_ms"] == 0
    (summary,) = closed["summary"]
    assert (summary["channel"], summary["role"], summary["utterances"]) == (0, "speaker", 2)
    assert summary["speech_ms"] == totals["speech_ms"]
    last = [event for event in reference if event["type"] == "emotion.segment"][-1]
    assert summary["scores"] == pytest.approx(last["rolling"]["call"], abs=1e-3)


def test_chunking_does_not_matter(server: Server, reference: list[Event]) -> None:
    """Odd chunks split samples; scores and positions are those of even ones."""
    events = run(spoken(server, encode(speech()), chunk=1777))
    assert utterances(events) == utterances(reference)
    assert events[-1]["totals"]["audio_ms"] == reference[-1]["totals"]["audio_ms"]
    assert events[-1]["summary"] == reference[-1]["summary"]


def test_two_analysed_channels_stay_apart(server: Server) -> None:
    """The silent channel hears nothing of the loud one."""

    async def session() -> None:
        data = encode(speech(), channels=2)
        async with stream(server, channels=2, roles="customer,speaker") as client:
            await client.audio(data, 6400)
            closed = await client.close_session()
            assert [part["role"] for part in closed["summary"]] == ["customer", "speaker"]
            assert [part["utterances"] for part in closed["summary"]] == [2, 0]
            assert closed["summary"][1]["scores"] == {}
            assert {event["channel"] for event in client.of("emotion.score")} == {0}

    run(session())


def test_flush_gives_the_result_of_what_was_heard(server: Server) -> None:
    async def session() -> None:
        async with stream(server) as client:
            await client.audio(talk(2.0))
            await client.until("speech.start")
            assert not client.of("emotion.segment")
            await client.say("input.flush")
            segment = await client.until("emotion.segment")
            assert segment["trigger"] == "flush"
            assert segment["audio_end_ms"] == pytest.approx(2000, abs=400)
            await client.say("input.flush")  # with nothing open it does nothing
            await client.audio(talk(1.0))
            closed = await client.close_session()
            assert closed["totals"]["segments"] == 2
            assert closed["totals"]["audio_ms"] == 3000

    run(session())


def test_pause_stops_analysis_and_time_goes_on(server: Server) -> None:
    async def session() -> None:
        async with stream(server) as client:
            await client.audio(talk(2.0))
            await client.say("input.pause")
            paused = await client.until("stream.paused")
            assert paused["audio_ms"] == 2000
            assert client.of("emotion.segment") or await client.until("emotion.segment")
            assert server.json(f"/v1/streams/{paused['stream_id']}")["state"] == "paused"
            await client.audio(talk(3.0))  # music on hold: heard by nobody
            await client.say("input.resume", skipped_ms=1500)
            resumed = await client.until("stream.resumed")
            assert resumed["audio_ms"] == 2000 + 3000 + 1500
            await client.audio(talk(2.0))
            closed = await client.close_session()
            assert closed["totals"]["audio_ms"] == 8500
            (first, second) = utterances(client.events)
            assert first[1] <= 2000
            assert second[0] >= 6500
            for score in client.of("emotion.score"):
                end = score["audio_end_ms"]
                assert end <= 2000 or end > 6500, "nothing of the pause was scored"

    run(session())


def test_odd_chunks_in_a_pause_do_not_garble_what_follows(
    server: Server, reference: list[Event]
) -> None:
    """Chunks that split samples are carried in a pause as well: 641 bytes are 320½ samples.

    While paused, the half samples were forgotten: time fell behind, and after an odd number of
    chunks every later sample was put together from halves of two, which is loud noise.
    """

    async def session() -> list[tuple[int, int]]:
        data = encode(speech())
        heard = 641 * 75  # 1.5 s: in the middle of the first utterance
        async with stream(server) as client:
            await client.say("input.pause")
            await client.audio(data[:heard], 641)
            await client.say("input.resume")
            resumed = await client.until("stream.resumed")
            await client.audio(data[heard:], 641)
            closed = await client.close_session()
        assert abs(resumed["audio_ms"] - heard * 1000 // SECOND) <= 1
        assert abs(closed["totals"]["audio_ms"] - len(data) * 1000 // SECOND) <= 1
        return utterances(client.events)

    first, second = run(session())
    assert abs(first[1] - utterances(reference)[0][1]) <= 40
    assert same_utterances([second], utterances(reference)[1:])


def test_keepalive_has_no_answer_and_keeps_the_stream() -> None:
    async def session(server: Server) -> None:
        async with stream(server) as client:
            for _ in range(6):
                await client.say("keepalive")
                await asyncio.sleep(0.3)
            assert {event["type"] for event in client.events} <= {"session.created", "audio.ack"}
            await client.close_session()

    with running_server("--set", "limits.idle_timeout_s=0.8") as server:
        run(session(server))


def test_annotations_are_told(server: Server) -> None:
    async def session() -> None:
        async with stream(server) as client:
            await client.audio(b"\0" * SECOND)
            await client.say("session.annotate", attrs={"agent": "a7", "n": 1})
            await client.say("session.annotate", dtmf="5#")
            await client.say("session.annotate", mark="transferred")
            await client.until("session.annotated", 3)
            one, two, three = client.of("session.annotated")
            assert one["attrs"] == {"agent": "a7", "n": 1}
            assert one["audio_ms"] == 1000
            assert (two["dtmf"], three["mark"]) == ("5#", "transferred")
            await client.close_session()

    run(session())


def test_acknowledges_once_a_second(server: Server) -> None:
    async def session() -> None:
        async with stream(server) as client:
            await client.audio(encode(speech()))
            ack = await client.until("audio.ack", 2)
            assert ack["received_samples"] == len(speech())
            assert ack["processed_ms"] == ack["received_ms"] == len(speech()) * 1000 // RATE
            assert ack["dropped_ms"] == 0
            await client.close_session()

    run(session())


def test_without_results_the_producer_gets_none_and_subscribers_do(server: Server) -> None:
    async def session() -> None:
        async with (
            connect(server, "/v1/subscribe") as listener,
            stream(server, results="false", stream_id="mute") as client,
        ):
            await listener.say("subscribe", filter={"streams": ["mute"]})
            await listener.until("subscribed")
            await client.audio(encode(speech()))
            closed = await client.close_session()
            assert closed["totals"]["scores"] > 0
            assert not [e for e in client.events if e["type"].startswith(("emotion.", "speech."))]
            await listener.until("session.closed")
            assert listener.of("emotion.score")
            assert listener.of("emotion.segment")
            seen = numbers(client.events)
            assert seen == sorted(set(seen)), "what is left out leaves holes, nothing else"

    run(session())


def test_frames_join_up(server: Server) -> None:
    """`frames=true`: every score brings the posteriors of the frames that no score had before.

    Audio that came in a burst had frames twice: the second window was cut while the first still
    waited, so its `fresh` covered the first one's speech; then the first was taken all the same.
    """

    async def session() -> None:
        async with stream(server, frames="true") as client:
            await client.audio(encode(speech()))
            await client.close_session()
            seen: set[int] = set()
            for score in client.of("emotion.score"):
                frames = score["frames"]
                assert frames["labels"] == ["angry", "happy", "neutral", "sad"]
                assert frames["hop_ms"] == 20
                own = range(
                    frames["start_ms"], frames["start_ms"] + 20 * len(frames["posteriors"]), 20
                )
                assert not seen & set(own), "a frame came twice"
                seen |= set(own)
                for row in frames["posteriors"]:
                    assert sum(row) == pytest.approx(1, abs=0.01)
            for begin, end in utterances(client.events):
                assert set(range(begin, end, 20)) <= seen

    run(session())


def test_embeddings_on_request(server: Server) -> None:
    """Every segment has its embedding, every score those of its frames; others have none."""

    async def session() -> None:
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
                assert vector[1] == 1, "the stand-in's second feature is always 1"
                assert 0 < vector[0] < 20
        async with stream(server) as client:
            await client.audio(data)
            await client.close_session()
            assert client.of("emotion.segment")
            assert not any("embedding" in event for event in client.events)

    run(session())


def test_only_the_labels_asked_for(server: Server) -> None:
    async def session() -> None:
        async with stream(server, labels="angry,sad") as client:
            created = await client.until("session.created")
            assert created["session"]["analysis"]["labels"] == ["angry", "sad"]
            await client.audio(encode(speech()))
            closed = await client.close_session()
            for event in client.of("emotion.score", "emotion.segment"):
                assert set(event["scores"]) == {"angry", "sad"}
                assert all(set(shares) == {"angry", "sad"} for shares in event["rolling"].values())
            assert set(closed["summary"][0]["scores"]) == {"angry", "sad"}

    run(session())


def test_a_stream_is_listed_while_it_lives(server: Server) -> None:
    async def session() -> None:
        async with stream(server, stream_id="room:1.a-b_c", tag="floor:2") as client:
            await client.audio(talk(2.0))
            await client.until("emotion.score")
            shown = server.json("/v1/streams/room:1.a-b_c")
            assert shown in server.json("/v1/streams")["streams"]
            assert (shown["tags"], shown["roles"]) == (["floor:2"], ["speaker"])
            assert shown["speaking"] == [0]
            assert shown["last"][0]["scores"] == client.of("emotion.score")[-1]["scores"]
            await client.close_session()
        assert server.get("/v1/streams/room:1.a-b_c")[0] == 404

    run(session())


def test_vosk(server: Server, reference: list[Event]) -> None:
    run(in_other_words(server, reference, '{"config": {"sample_rate": 16000}}', '{"eof" : 1}'))


def test_funasr(server: Server, reference: list[Event]) -> None:
    hello = (
        '{"mode": "2pass", "wav_name": "mic", "is_speaking": true, "wav_format": "pcm", '
        '"chunk_size": [5, 10, 5], "audio_fs": 16000}'
    )
    run(in_other_words(server, reference, hello, '{"is_speaking": false}'))


def test_deepgram(server: Server) -> None:
    async def session() -> None:
        async with stream(server, encoding="linear16", channels=1) as client:
            await client.text('{"type": "KeepAlive"}')
            await client.audio(talk(2.0))
            await client.text('{"type": "Finalize"}')
            assert (await client.until("emotion.segment"))["trigger"] == "flush"
            await client.text('{"type": "CloseStream"}')
            assert await client.closed() == 1000
            assert client.events[-1]["reason"] == "completed"

    run(session())


async def in_other_words(server: Server, reference: list[Event], hello: str, goodbye: str) -> None:
    async with connect(server) as client:
        await client.text(hello)
        await client.until("session.updated")
        await client.audio(encode(speech()))
        await client.text(goodbye)
        assert await client.closed() == 1000
        assert utterances(client.events) == utterances(reference)
        assert client.events[-1]["summary"] == reference[-1]["summary"]


def test_a_close_without_a_code_ends_the_stream(server: Server) -> None:
    """`new WebSocket(…).close()` in a browser sends a close frame without a code.

    It is a proper goodbye as 1000 is: nobody comes back, so nothing is to be kept for 60 s.
    """

    async def session() -> None:
        async with stream(server, stream_id="browser") as client:
            await client.audio(talk(1.0))
            await client.until("speech.start")
            client.socket.protocol.send_close()
            for data in client.socket.protocol.data_to_send():
                client.socket.transport.write(data)
            await client.closed()
        await gone(server, "browser")

    run(session())


def test_a_client_that_leaves_with_1001_ends_the_stream(server: Server) -> None:
    async def session() -> None:
        async with stream(server, stream_id="tab") as client:
            await client.socket.close(1001)
        await gone(server, "tab")

    run(session())


async def gone(server: Server, stream_id: str, within_s: float = 2.0) -> None:
    for _ in range(int(within_s * 20)):
        if (await asyncio.to_thread(server.get, f"/v1/streams/{stream_id}"))[0] == 404:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{stream_id} still lives")


def test_nothing_follows_the_goodbye(server: Server) -> None:
    """Audio sent on after session.close is ignored; `session.closed` is the last word.

    And the socket ends at once: with more than `max_queue` messages unread the server stopped
    reading, never saw the peer's close frame, and held the connection for five seconds.
    """

    async def session(client: Client) -> None:
        await client.audio(talk(2.0))
        await client.say("session.close")
        await client.audio(talk(2.0))
        await client.until("session.closed")
        assert await client.closed(2) == 1000
        assert client.events[-1]["type"] == "session.closed"
        assert client.events[-1]["totals"]["audio_ms"] == 2000

    async def whole() -> None:
        async with stream(server) as client:
            await session(client)

    run(whole())
