"""Invalid input: each mistake has its error code, which only its sender receives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest

from stream.protocol.mistakes import MAX_MISTAKES
from tests.support.clients import Client, connect, stream, subscriber
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


def check_no_internals(client: Client) -> None:
    """Check that no response contains a traceback, a file name or an internal error."""
    shown = str(client.events)
    assert "Traceback" not in shown
    assert ".py" not in shown
    assert client.code != 1011
    assert "internal_error" not in shown


FATAL: dict[str, tuple[dict[str, Any], Act | None, str, int]] = {
    # name: query (empty: not configured yet), input, error code, close code
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
    "rate in the query": ({"sample_rate": 384000}, None, "config_invalid", 4400),
    "rate that is not a number": ({"sample_rate": "fast"}, None, "config_invalid", 4400),
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
    "window length without warm-up": (
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
async def test_fatal_mistakes_close_the_connection(server: Server, name: str) -> None:
    query, act, code, close = FATAL[name]

    async with connect(server, query=query or None) as client:
        if act is not None:
            await client.until("session.created")
            await act(client)
        error = await client.until("error", timeout=3)
        assert await client.closed() == close
        check_no_internals(client)
        assert error["code"] == code
        assert error["message"]
        assert error["fatal"] is True, "the connection closes, so the error must be fatal"
        later = [e["type"] for e in client.events[client.events.index(error) + 1 :]]
        assert [t for t in later if t != "audio.ack"] in ([], ["session.closed"])
        assert client.socket.close_reason == error["code"]


NOT_FATAL: dict[str, tuple[Act, str | None]] = {
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
    "long type": (text('{"type": "' + "x" * 10_000 + '"}'), "unknown_message"),
    "huge type": (text('{"type": "' + "x" * 100_000 + '"}'), "invalid_message"),
    "audio as text": (text("UklGRiQAAABXQVZF"), "invalid_message"),
    "nested too deeply": (text('{"type":' * 5000), "invalid_message"),
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
    "attrs nested one level too deep for an event": (
        text('{"type": "session.annotate", "attrs": {"a": ' + "[" * 253 + "]" * 253 + "}}"),
        "invalid_message",
    ),
    "too many attrs": (
        text(
            json.dumps({"type": "session.annotate", "attrs": dict.fromkeys(map(str, range(99)), 1)})
        ),
        "invalid_message",
    ),
    "second update": (text('{"type": "session.update", "session": {}}'), "config_invalid"),
    "empty audio": (binary(b""), None),
    "samples that are not numbers": (binary(NAN), None),
    "infinite samples": (binary(INFINITE), None),
    "more than 10 s at once": (binary(b"\0" * (4 * 8000 * 11)), "invalid_audio_frame"),
    "one byte": (binary(b"\0"), None),
    "three bytes": (binary(b"\0\0\0"), None),
    "unknown field": (text('{"type": "keepalive", "colour": "red"}'), None),
}


@pytest.mark.parametrize("name", NOT_FATAL)
async def test_other_mistakes_do_not_affect_the_stream(server: Server, name: str) -> None:
    """The client receives the error, and the stream continues."""
    act, code = NOT_FATAL[name]

    async with connect(server, query={"sample_rate": 8000, "encoding": "f32le"}) as client:
        await client.until("session.created")
        await act(client)
        if code is not None:
            error = await client.until("error")
            assert error["code"] == code
            assert error["fatal"] is False
        await client.send("session.annotate", mark="next")
        await client.until(lambda e: e.get("mark") == "next")
        await client.close_session()
        check_no_internals(client)


async def test_text_that_is_not_utf8_closes_with_1007(server: Server) -> None:
    """The WebSocket protocol defines this close code."""

    async with stream(server) as client:
        await client.until("session.created")
        await client.socket.send(b"\xff\xfe{", text=True)
        assert await client.closed() == 1007


async def test_a_message_far_above_the_limit_is_not_buffered(server: Server) -> None:
    before = server.rss()
    async with stream(server) as client:
        await client.until("session.created")
        await client.socket.send(b"\0" * (16 * MIB))
        assert await client.closed() == 1009
    assert server.rss() - before < 40 * MIB


async def test_a_flood_of_mistakes_closes_the_connection(server: Server) -> None:
    async with stream(server) as client:
        for _ in range(MAX_MISTAKES + 20):
            await client.text("{")
        assert await client.closed() == 4400
        errors = client.of("error")
        assert MAX_MISTAKES <= len(errors) < MAX_MISTAKES + 20
        assert [e["fatal"] for e in errors] == [False] * (len(errors) - 1) + [True]
        assert client.events[-1]["type"] == "session.closed"


async def test_a_chunk_of_nan_advances_the_position(server: Server) -> None:
    """It is silence, and the speech after it does not move."""

    audio = encode(speech(), "f32le")
    skipped = 4 * 8000  # half a second inside the first pause
    bad = np.full(8000, np.nan, "<f4").tobytes()
    async with connect(server, query={"sample_rate": 16000, "encoding": "f32le"}) as client:
        await client.socket.send(bad)
        await client.audio(audio[skipped:])
        closed = await client.close_session()
        assert closed["totals"]["audio_ms"] == len(speech()) * 1000 // 16000
    async with stream(server) as plain:
        await plain.audio(encode(speech()))
        await plain.close_session()
    assert same_utterances(utterances(client.events), utterances(plain.events))


async def test_a_refused_chunk_does_not_throttle_the_stream(server: Server) -> None:
    """A minute of audio in one message is discarded, so it must not count as a minute ahead.

    It did: the next chunk waited until real time had passed the discarded audio, and meanwhile the
    stream reached the idle timeout.
    """

    query = {"sample_rate": 8000, "encoding": "mulaw"}
    with running_server() as own:
        async with connect(own, query=query) as client:
            await client.socket.send(b"\xff" * 480_000)
            assert (await client.until("error"))["code"] == "invalid_audio_frame"

            await client.socket.send(b"\xff" * 800)
            await client.send("session.annotate", mark="next")
            await client.until(lambda e: e.get("mark") == "next", timeout=2)
            await client.close_session()


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
    "duplicate id": (text('{"type": "subscribe", "id": "s1"}'), "invalid_message"),
    "unknown subscription": (text('{"type": "unsubscribe", "id": "none"}'), "invalid_message"),
    "since that is not a number": (
        text('{"type": "subscribe", "id": "x", "since": {"a": "b"}}'),
        "invalid_message",
    ),
}


@pytest.mark.parametrize("name", SUBSCRIBER)
async def test_mistakes_of_subscribers_are_not_fatal(server: Server, name: str) -> None:
    act, code = SUBSCRIBER[name]

    async with subscriber(server) as client:
        await act(client)
        error = await client.until("error")
        assert (error["code"], error["fatal"]) == (code, False)
        await client.send("list")
        assert (await client.until("subscriptions"))["ids"] == ["s1"]
        check_no_internals(client)


async def test_too_many_subscriptions_are_refused(server: Server) -> None:
    async with subscriber(server) as client:
        for number in range(32):
            await client.send("subscribe", id=str(number), snapshot=False)
        assert (await client.until("error"))["code"] == "quota_exceeded"


async def test_invalid_input_does_not_affect_other_streams(server: Server) -> None:
    """A valid stream has the same events beside invalid ones as alone."""

    async def valid() -> list[Event]:
        async with stream(server) as client:
            await client.audio(encode(speech()), 6400, pace_s=0.02)
            await client.close_session()
            return client.events

    async def invalid(act: Act) -> None:
        async with connect(server, query={"sample_rate": 8000, "encoding": "f32le"}) as client:
            await act(client)
            await client.audio(talk(0.3))
            await asyncio.sleep(0.05)

    def comparable(events: list[Event]) -> list[Event]:
        """Return what depends neither on the latency of the model nor on clocks and ids."""
        excluded = ("session_id", "stream_id", "ts", "resume_token", "seq", "rolling")
        kinds = ("session.created", "speech.start", "speech.end", "emotion.segment")
        kept = [
            {k: v for k, v in e.items() if k not in excluded} for e in events if e["type"] in kinds
        ]
        return sorted(kept, key=lambda e: (kinds.index(e["type"]), e.get("utterance", 0)))

    alone = comparable(await valid())
    others = asyncio.gather(*(invalid(act) for act, _ in NOT_FATAL.values()))
    beside, _ = await asyncio.gather(valid(), others)

    assert comparable(beside) == alone
