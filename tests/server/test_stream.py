"""The protocol emotide.v1 on /v1/stream, from the first message to the last."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import pytest_asyncio

from tests.support.clients import connect, stream
from tests.support.running import Event, Server, running_server
from tests.support.utterances import RATE, encode, same_utterances, speech, talk, utterances

FORMATS = list(
    itertools.product(("linear16", "f32le", "mulaw", "alaw"), (8000, 16000, 48000), (1, 2))
)
SECOND = 2 * RATE


@pytest.fixture(scope="module")
def server(unpaced: Server) -> Server:
    return unpaced


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reference(server: Server) -> list[Event]:
    """The events of `speech()` as linear16 at 16 kHz."""
    return await streamed(server, encode(speech()))


async def streamed(server: Server, data: bytes, chunk: int = 3200, **query: Any) -> list[Event]:
    async with stream(server, **query) as client:
        await client.audio(data, chunk)
        await client.close_session()
        return client.events


def numbers(events: Sequence[Event]) -> list[int]:
    return [event["seq"] for event in events]


async def test_session_update_configures_and_returns_the_effective_settings(server: Server) -> None:
    async with connect(server) as client:
        created = await client.until("session.created")
        assert created["session"]["audio"]["sample_rate"] == RATE
        assert created["limits"]["max_message_bytes"] == 1_048_576
        assert "resume_token" not in created, "there is no session to resume yet"
        await client.send(
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


@pytest.mark.parametrize("regulated", [True, False])
async def test_automatic_gain_control_emits_a_warning(server: Server, regulated: bool) -> None:
    """Browsers may apply automatic gain control although they were asked not to."""
    attrs = {"capture": {"autoGainControl": regulated, "sampleRate": 48_000}}

    async with connect(server) as client:
        await client.send("session.update", session={"attrs": attrs})
        await client.until("session.updated")
        await client.close_session()

    assert [event["code"] for event in client.of("warning")] == ["agc_suspected"] * regulated


async def test_the_query_configures_like_session_update(server: Server) -> None:
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


@pytest.mark.parametrize(("encoding", "rate", "channels"), FORMATS)
async def test_every_format_has_the_same_utterances(
    server: Server, reference: list[Event], encoding: str, rate: int, channels: int
) -> None:
    """Encoding, rate and channels do not move the utterances."""
    data = encode(speech(), encoding, rate, channels)
    query = {"encoding": encoding, "sample_rate": rate, "channels": channels}
    events = await streamed(server, data, chunk=len(data) // 37, **query)
    assert len(utterances(reference)) == 2
    assert same_utterances(utterances(events), utterances(reference)), (
        utterances(events),
        utterances(reference),
    )


def test_the_events_of_an_utterance_are_in_order(reference: list[Event]) -> None:
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


def test_seq_is_contiguous(reference: list[Event]) -> None:
    assert numbers(reference) == list(range(len(reference)))


def test_totals_and_summary_match_the_events(reference: list[Event]) -> None:
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


async def test_chunking_does_not_change_the_results(server: Server, reference: list[Event]) -> None:
    """Chunks of odd length split samples; scores and positions stay the same."""
    events = await streamed(server, encode(speech()), chunk=1777)
    assert utterances(events) == utterances(reference)
    assert events[-1]["totals"]["audio_ms"] == reference[-1]["totals"]["audio_ms"]
    assert events[-1]["summary"] == reference[-1]["summary"]


async def test_two_analysed_channels_are_independent(server: Server) -> None:
    """The silent channel has no utterance of the loud one."""

    data = encode(speech(), channels=2)
    async with stream(server, channels=2, roles="customer,speaker") as client:
        await client.audio(data, 6400)
        closed = await client.close_session()
        assert [part["role"] for part in closed["summary"]] == ["customer", "speaker"]
        assert [part["utterances"] for part in closed["summary"]] == [2, 0]
        assert closed["summary"][1]["scores"] == {}
        assert {event["channel"] for event in client.of("emotion.score")} == {0}


async def test_flush_scores_the_audio_received_so_far(server: Server) -> None:
    async with stream(server) as client:
        await client.audio(talk(2.0))
        await client.until("speech.start")
        assert not client.of("emotion.segment")
        await client.send("input.flush")
        segment = await client.until("emotion.segment")
        assert segment["trigger"] == "flush"
        assert segment["audio_end_ms"] == pytest.approx(2000, abs=400)
        await client.send("input.flush")  # without an open utterance it has no effect
        await client.audio(talk(1.0))
        closed = await client.close_session()
        assert closed["totals"]["segments"] == 2
        assert closed["totals"]["audio_ms"] == 3000


async def test_pause_stops_the_analysis_but_not_the_clock(server: Server) -> None:
    async with stream(server) as client:
        await client.audio(talk(2.0))
        await client.send("input.pause")
        paused = await client.until("stream.paused")
        assert paused["audio_ms"] == 2000
        assert client.of("emotion.segment") or await client.until("emotion.segment")
        assert server.json(f"/v1/streams/{paused['stream_id']}")["state"] == "paused"
        await client.audio(talk(3.0))  # music on hold, not analysed
        await client.send("input.resume", skipped_ms=1500)
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
            assert end <= 2000 or end > 6500, "audio of the pause must not be scored"


async def test_odd_chunks_in_a_pause_do_not_corrupt_later_audio(
    server: Server, reference: list[Event]
) -> None:
    """Split samples are carried during a pause too; 641 bytes are 320½ samples.

    While paused, half samples were discarded: the clock fell behind, and after an odd number of
    chunks every later sample consisted of halves of two samples, which is loud noise.
    """

    data = encode(speech())
    paused = 641 * 75  # 1.5 s: in the middle of the first utterance
    async with stream(server) as client:
        await client.send("input.pause")
        await client.audio(data[:paused], 641)
        await client.send("input.resume")
        resumed = await client.until("stream.resumed")
        await client.audio(data[paused:], 641)
        closed = await client.close_session()
    assert abs(resumed["audio_ms"] - paused * 1000 // SECOND) <= 1
    assert abs(closed["totals"]["audio_ms"] - len(data) * 1000 // SECOND) <= 1
    first, second = utterances(client.events)
    assert abs(first[1] - utterances(reference)[0][1]) <= 40
    assert same_utterances([second], utterances(reference)[1:])


async def test_keepalive_has_no_response_and_prevents_the_idle_timeout() -> None:
    with running_server("--set", "limits.idle_timeout_s=2") as server:
        async with stream(server) as client:
            for _ in range(8):
                await client.send("keepalive")
                await asyncio.sleep(0.4)
            assert {event["type"] for event in client.events} <= {"session.created", "audio.ack"}
            await client.close_session()


async def test_annotations_are_emitted(server: Server) -> None:
    async with stream(server) as client:
        await client.audio(b"\0" * SECOND)
        await client.send("session.annotate", attrs={"agent": "a7", "n": 1})
        await client.send("session.annotate", dtmf="5#")
        await client.send("session.annotate", mark="transferred")
        await client.until("session.annotated", 3)
        one, two, three = client.of("session.annotated")
        assert one["attrs"] == {"agent": "a7", "n": 1}
        assert one["audio_ms"] == 1000
        assert (two["dtmf"], three["mark"]) == ("5#", "transferred")
        await client.close_session()


async def test_audio_is_acknowledged_once_a_second(server: Server) -> None:
    async with stream(server) as client:
        await client.audio(encode(speech()))
        ack = await client.until(
            lambda e: e["type"] == "audio.ack" and e["processed_ms"] >= len(speech()) * 1000 // RATE
        )
        assert ack["received_samples"] == len(speech())
        assert ack["processed_ms"] == ack["received_ms"] == len(speech()) * 1000 // RATE
        assert ack["dropped_ms"] == 0
        await client.close_session()


async def test_a_live_stream_is_listed(server: Server) -> None:
    async with stream(server, stream_id="room:1.a-b_c", tag="floor:2") as client:
        await client.audio(talk(2.0))
        await client.until(lambda e: e.get("processed_ms") == 2000)
        await client.until("emotion.score")
        shown = server.json("/v1/streams/room:1.a-b_c")
        assert shown in server.json("/v1/streams")["streams"]
        assert (shown["tags"], shown["roles"]) == (["floor:2"], ["speaker"])
        assert shown["speaking"] == [0]
        assert shown["last"][0]["scores"] == client.of("emotion.score")[-1]["scores"]
        await client.close_session()
    assert server.get("/v1/streams/room:1.a-b_c")[0] == 404


async def test_vosk_control_messages(server: Server, reference: list[Event]) -> None:
    await with_control_messages(
        server, reference, '{"config": {"sample_rate": 16000}}', '{"eof" : 1}'
    )


async def test_funasr_control_messages(server: Server, reference: list[Event]) -> None:
    first = (
        '{"mode": "2pass", "wav_name": "mic", "is_speaking": true, "wav_format": "pcm", '
        '"chunk_size": [5, 10, 5], "audio_fs": 16000}'
    )
    await with_control_messages(server, reference, first, '{"is_speaking": false}')


async def test_deepgram_control_messages(server: Server) -> None:
    async with stream(server, encoding="linear16", channels=1) as client:
        await client.text('{"type": "KeepAlive"}')
        await client.audio(talk(2.0))
        await client.text('{"type": "Finalize"}')
        assert (await client.until("emotion.segment"))["trigger"] == "flush"
        await client.text('{"type": "CloseStream"}')
        assert await client.closed() == 1000
        assert client.events[-1]["reason"] == "completed"


async def with_control_messages(
    server: Server, reference: list[Event], first: str, last: str
) -> None:
    async with connect(server) as client:
        await client.text(first)
        await client.until("session.updated")
        await client.audio(encode(speech()))
        await client.text(last)
        assert await client.closed() == 1000
        assert utterances(client.events) == utterances(reference)
        assert client.events[-1]["summary"] == reference[-1]["summary"]
