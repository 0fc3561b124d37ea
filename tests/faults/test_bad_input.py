"""What peers get wrong: each mistake has its named error, and only its maker hears of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.support.clients import Client, connect, run, stream, subscriber
from tests.support.running import Event, Server, running_server
from tests.support.utterances import encode, same_utterances, speech, talk, utterances

Act = Callable[[Client], Awaitable[Any]]
MIB = 1_048_576
NAN = np.full(1600, np.nan, "<f4").tobytes()
INFINITE = np.full(1600, np.inf, "<f4").tobytes()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server("--set", "limits.ahead_s=1000") as running:
        yield running
        assert all("exception" not in line for line in running.lines), running.log()


def text(message: str) -> Act:
    return lambda client: client.text(message)


def binary(data: bytes) -> Act:
    return lambda client: client.socket.send(data)


def harmless(client: Client) -> None:
    """Whatever was said, nothing of the server's inside came out."""
    shown = str(client.events)
    assert "Traceback" not in shown
    assert ".py" not in shown
    assert client.code != 1011
    assert "internal_error" not in shown


FATAL: dict[str, tuple[dict[str, Any], Act | None, str, int]] = {
    # name: query (empty: nothing configured yet), what is done, error code, close code
    "audio before update": ({}, binary(b"\0" * 640), "config_invalid", 4400),
    "unknown key": (
        {},
        text('{"type": "session.update", "session": {"audio": {"sample_rte": 8000}}}'),
        "config_invalid",
        4400,
    ),
    "unknown encoding": (
        {},
        text('{"type": "session.update", "session": {"audio": {"encoding": "opus"}}}'),
        "unsupported_encoding",
        4415,
    ),
    "rate too low": (
        {},
        text('{"type": "session.update", "session": {"audio": {"sample_rate": 4000}}}'),
        "config_invalid",
        4400,
    ),
    "rate of the wrong type": (
        {},
        text('{"type": "session.update", "session": {"audio": {"sample_rate": [8000]}}}'),
        "config_invalid",
        4400,
    ),
    "session of the wrong type": (
        {},
        text('{"type": "session.update", "session": 3}'),
        "config_invalid",
        4400,
    ),
    "vosk with a wrong rate": (
        {},
        text('{"config": {"sample_rate": "x"}}'),
        "config_invalid",
        4400,
    ),
    "encoding in the query": (
        {"sample_rate": 8000, "encoding": "mp3"},
        None,
        "unsupported_encoding",
        4415,
    ),
    "rate in the query": ({"sample_rate": 96000}, None, "config_invalid", 4400),
    "rate that is no number": ({"sample_rate": "fast"}, None, "config_invalid", 4400),
    "three channels": ({"sample_rate": 8000, "channels": 3}, None, "config_invalid", 4400),
    "unknown query key": ({"sample_rate": 8000, "colour": "red"}, None, "config_invalid", 4400),
    "two roles for one": ({"sample_rate": 8000, "roles": "a,b"}, None, "config_invalid", 4400),
    "stream id with a wildcard": (
        {"sample_rate": 8000, "stream_id": "a/+/#"},
        None,
        "config_invalid",
        4400,
    ),
    "stream id with a newline": (
        {"sample_rate": 8000, "stream_id": "a\n"},
        None,
        "config_invalid",
        4400,
    ),
    "unknown label": ({"sample_rate": 8000, "labels": "bored"}, None, "config_invalid", 4400),
    "window nobody warmed up": (
        {"sample_rate": 8000, "window_ms": 2500},
        None,
        "config_invalid",
        4400,
    ),
    "audio just over the limit": (
        {"sample_rate": 48000},
        binary(b"\0" * (MIB + 1)),
        "message_too_large",
        1009,
    ),
    "text just over the limit": (
        {"sample_rate": 8000},
        text('{"type": "keepalive", "x": "' + "x" * MIB + '"}'),
        "message_too_large",
        1009,
    ),
}


@pytest.mark.parametrize("name", FATAL)
def test_mistakes_that_end_the_connection(server: Server, name: str) -> None:
    query, act, code, close = FATAL[name]

    async def session() -> None:
        async with connect(server, query=query or None) as client:
            if act is not None:
                await client.until("session.created")
                await act(client)
            error = await client.until("error", timeout=3)
            assert await client.closed() == close
            harmless(client)
            assert error["code"] == code
            assert error["message"]
            assert error["fatal"] is True, "the connection closes, so the error says so"
            after = [e["type"] for e in client.events[client.events.index(error) + 1 :]]
            assert [kind for kind in after if kind != "audio.ack"] in ([], ["session.closed"])
            assert client.socket.close_reason == error["code"]

    run(session())


GOES_ON: dict[str, tuple[Act, str | None]] = {
    "malformed json": (text("{"), "invalid_message"),
    "empty text": (text(""), "invalid_message"),
    "an array": (text("[1, 2]"), "invalid_message"),
    "a number": (text("17"), "invalid_message"),
    "null": (text("null"), "invalid_message"),
    "nan": (text('{"type": "input.resume", "skipped_ms": NaN}'), "invalid_message"),
    "no type": (text('{"kind": "keepalive"}'), "invalid_message"),
    "type is null": (text('{"type": null}'), None),
    "type is a list": (text('{"type": ["keepalive"]}'), None),
    "type is an object": (text('{"type": {"a": 1}}'), None),
    "unknown type": (text('{"type": "input.rewind"}'), "unknown_message"),
    "huge type": (text('{"type": "' + "x" * 100_000 + '"}'), "unknown_message"),
    "text where audio belongs": (text("UklGRiQAAABXQVZF"), "invalid_message"),
    "nested too deep": (text('{"type":' * 5000), "invalid_message"),
    "negative skip": (text('{"type": "input.resume", "skipped_ms": -1}'), "invalid_message"),
    "huge skip": (text('{"type": "input.resume", "skipped_ms": 1e300}'), "invalid_message"),
    "dtmf with words": (text('{"type": "session.annotate", "dtmf": "five"}'), "invalid_message"),
    "attrs of the wrong type": (
        text('{"type": "session.annotate", "attrs": 1}'),
        "invalid_message",
    ),
    "attrs nested deep": (
        text('{"type": "session.annotate", "attrs": {"a": ' + "[" * 600 + "]" * 600 + "}}"),
        None,
    ),
    "too many attrs": (
        text(
            json.dumps({"type": "session.annotate", "attrs": dict.fromkeys(map(str, range(99)), 1)})
        ),
        "invalid_message",
    ),
    "second update": (text('{"type": "session.update", "session": {}}'), "config_invalid"),
    "empty audio": (binary(b""), "invalid_audio_frame"),
    "samples that are no numbers": (binary(NAN), "invalid_audio_frame"),
    "infinite samples": (binary(INFINITE), "invalid_audio_frame"),
    "more than 10 s at once": (binary(b"\0" * (4 * 8000 * 11)), "invalid_audio_frame"),
    "one byte": (binary(b"\0"), None),
    "three bytes": (binary(b"\0\0\0"), None),
    "unknown field": (text('{"type": "keepalive", "colour": "red"}'), None),
}


@pytest.mark.parametrize("name", GOES_ON)
def test_mistakes_that_cost_only_themselves(server: Server, name: str) -> None:
    """The error is told, the stream goes on and still knows what it heard."""
    act, code = GOES_ON[name]

    async def session() -> None:
        async with connect(server, query={"sample_rate": 8000, "encoding": "f32le"}) as client:
            await client.until("session.created")
            await act(client)
            if code is not None:
                error = await client.until("error")
                assert error["code"] == code
                assert error["fatal"] is False
            await client.say("session.annotate", mark="still here")
            await client.until(lambda e: e.get("mark") == "still here")
            await client.close_session()
            harmless(client)

    run(session())


def test_text_that_is_no_utf8(server: Server) -> None:
    """The WebSocket protocol itself has the answer: 1007."""

    async def session() -> None:
        async with stream(server) as client:
            await client.until("session.created")
            await client.socket.send(b"\xff\xfe{", text=True)
            assert await client.closed() == 1007

    run(session())


def test_a_message_far_over_the_limit(server: Server) -> None:
    async def session() -> None:
        before = server.rss()
        async with stream(server) as client:
            await client.until("session.created")
            await client.socket.send(b"\0" * (16 * MIB))
            assert await client.closed() == 1009
        assert server.rss() - before < 40 * MIB

    run(session())


def test_ten_mistakes_are_enough(server: Server) -> None:
    async def session() -> None:
        async with stream(server) as client:
            for _ in range(10):
                await client.text("{")
            assert await client.closed() == 4400
            errors = client.of("error")
            assert [e["fatal"] for e in errors] == [False] * 9 + [True]
            assert client.events[-1]["type"] == "session.closed"

    run(session())


def test_a_chunk_of_nan_leaves_a_hole_of_its_length(server: Server) -> None:
    """Time goes on without it; the speech behind it is where it was."""

    async def session() -> None:
        voice = encode(speech(), "f32le")
        hole = 4 * 8000  # half a second inside the first pause
        bad = np.full(8000, np.nan, "<f4").tobytes()
        async with connect(server, query={"sample_rate": 16000, "encoding": "f32le"}) as client:
            await client.socket.send(bad)
            await client.audio(voice[hole:])
            closed = await client.close_session()
            assert closed["totals"]["audio_ms"] == len(speech()) * 1000 // 16000
        async with stream(server) as plain:
            await plain.audio(encode(speech()))
            await plain.close_session()
        assert same_utterances(utterances(client.events), utterances(plain.events))

    run(session())


def test_a_refused_chunk_does_not_freeze_the_stream(server: Server) -> None:
    """A minute in one message is thrown away, so it cannot count as a minute ahead.

    It did: the next chunk waited until real time had caught up with audio nobody heard, and the
    stream idled out meanwhile.
    """

    async def session(server: Server) -> None:
        async with connect(server, query={"sample_rate": 8000, "encoding": "mulaw"}) as client:
            await client.socket.send(b"\xff" * 480_000)
            assert (await client.until("error"))["code"] == "invalid_audio_frame"
            await client.socket.send(b"\xff" * 800)
            await client.say("session.annotate", mark="through")
            await client.until(lambda e: e.get("mark") == "through", timeout=2)
            await client.close_session()

    with running_server() as own:
        run(session(own))


SUBSCRIBER: dict[str, tuple[Act, str]] = {
    "audio": (binary(b"\0" * 640), "invalid_message"),
    "malformed json": (text("{"), "invalid_message"),
    "unknown type": (text('{"type": "publish"}'), "unknown_message"),
    "unknown filter key": (
        text('{"type": "subscribe", "id": "x", "filter": {"stream": "a"}}'),
        "config_invalid",
    ),
    "filter of the wrong type": (
        text('{"type": "subscribe", "id": "x", "filter": []}'),
        "config_invalid",
    ),
    "rate too high": (text('{"type": "subscribe", "id": "x", "rate_hz": 1e9}'), "invalid_message"),
    "id twice": (text('{"type": "subscribe", "id": "s1"}'), "invalid_message"),
    "unknown subscription": (text('{"type": "unsubscribe", "id": "none"}'), "invalid_message"),
    "since that is no number": (
        text('{"type": "subscribe", "id": "x", "since": {"a": "b"}}'),
        "invalid_message",
    ),
}


@pytest.mark.parametrize("name", SUBSCRIBER)
def test_mistakes_of_subscribers(server: Server, name: str) -> None:
    act, code = SUBSCRIBER[name]

    async def session() -> None:
        async with subscriber(server) as client:
            await act(client)
            error = await client.until("error")
            assert (error["code"], error["fatal"]) == (code, False)
            await client.say("list")
            assert (await client.until("subscriptions"))["ids"] == ["s1"]
            harmless(client)

    run(session())


def test_too_many_subscriptions(server: Server) -> None:
    async def session() -> None:
        async with subscriber(server) as client:
            for number in range(32):
                await client.say("subscribe", id=str(number), snapshot=False)
            assert (await client.until("error"))["code"] == "quota_exceeded"

    run(session())


def test_a_neighbour_notices_nothing(server: Server) -> None:
    """A healthy stream beside all of this gives the events it gives alone."""

    async def healthy() -> list[Event]:
        async with stream(server) as client:
            await client.audio(encode(speech()), 6400, pace_s=0.02)
            await client.close_session()
            return client.events

    async def wrong(act: Act) -> None:
        async with connect(server, query={"sample_rate": 8000, "encoding": "f32le"}) as client:
            await act(client)
            await client.audio(talk(0.3))
            await asyncio.sleep(0.05)

    async def session() -> None:
        alone = plain(await healthy())
        acts = [act for act, _ in GOES_ON.values()]
        beside, *_ = await asyncio.gather(healthy(), *(wrong(act) for act in acts))
        assert plain(beside) == alone

    def plain(events: list[Event]) -> list[Event]:
        """What does not depend on how late the model was or on clocks and names."""
        own = ("session_id", "stream_id", "ts", "resume_token", "seq", "rolling")
        kinds = ("session.created", "speech.start", "speech.end", "emotion.segment")
        told = [{k: v for k, v in e.items() if k not in own} for e in events if e["type"] in kinds]
        return sorted(told, key=lambda e: (kinds.index(e["type"]), e.get("utterance", 0)))

    run(session())
