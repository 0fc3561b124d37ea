"""Live producers as they are found in the field: none of them may lose a call."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import aiomqtt
import numpy as np
import orjson
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as sync_connect

from client.remote.backoff import Backoff
from client.remote.call import stream as open_call
from tests.support.broker import Broker, free_port
from tests.support.clients import connect, stream, subscriber
from tests.support.running import Server, running_server
from tests.support.utterances import RATE, encode, same_utterances, speech, talk, utterances


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running
        assert all("exception" not in line for line in running.lines), running.log()


# -- pings -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slow() -> Iterator[Server]:
    """A server on which nothing catches up: a file takes its own length."""
    with running_server("--set", "limits.catch_up=0", "--set", "limits.idle_timeout_s=2") as server:
        yield server


async def test_pings_behind_a_throttled_file_are_answered(slow: Server) -> None:
    """A file of ten minutes closed with 1011 "keepalive ping timeout" after 49 s.

    The throttle stopped reading, so the peer's pings waited behind its own audio. Here with a ping
    every half second instead of 20 s, and an answer within 2 s.
    """
    async with stream(slow, stream_id="file") as idle:
        await idle.until("session.created")
    query = {"sample_rate": RATE, "stream_id": "file"}
    async with connect(slow, query=query, ping_interval=0.5, ping_timeout=2) as client:
        await client.audio(talk(600.0), 3_200)
        began = time.monotonic()
        while time.monotonic() < began + 6:
            await asyncio.wait_for(await client.socket.ping(), 2)
            await asyncio.sleep(0.1)
        ack = client.of("audio.ack")[-1]
        assert ack["processed_ms"] < 30_000, "it is throttled"
        assert ack["received_ms"] < 30_000, "a restart of the server would lose what waits"
        assert client.code is None
        assert not client.of("error"), "a producer whose audio waits is not idle"


def test_a_blocking_client_with_its_default_pings_may_send_a_file_at_once(slow: Server) -> None:
    """The documented example, which plays a file as fast as the socket takes it."""
    url = f"{slow.ws}/v1/stream?sample_rate=8000&encoding=mulaw"
    with sync_connect(url, ping_interval=0.5, ping_timeout=2) as client:
        data = bytes(8000 * 600)
        for at in range(0, len(data), 4_000):
            client.send(data[at : at + 4_000])
        began = time.monotonic()
        try:
            while time.monotonic() < began + 4:
                client.recv(timeout=5)
        except ConnectionClosed as closed:
            pytest.fail(f"closed: {closed}")


def test_a_ping_inside_a_fragmented_message_is_answered_at_once(slow: Server) -> None:
    """Control frames may stand between the fragments of a message (RFC 6455, 5.4)."""

    def frame(opcode: int, payload: bytes, fin: bool) -> bytes:
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        return bytes([fin << 7 | opcode]) + length + bytes(4) + payload

    with socket.create_connection((slow.host, slow.port), 10) as peer:
        peer.sendall(
            f"GET /v1/stream?sample_rate=16000 HTTP/1.1\r\nHost: {slow.host}:{slow.port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        audio = talk(60.0)
        sent = b"".join(
            frame(2, audio[at : at + 32_000], True) for at in range(0, len(audio), 32_000)
        )
        peer.sendall(sent + frame(2, audio[:1000], False) + frame(9, b"between", True))
        received, end = b"", time.monotonic() + 5
        while b"\x8a\x07between" not in received:
            assert time.monotonic() < end, "no pong"
            received += peer.recv(65_536)
        peer.sendall(frame(0, audio[:1000], True))


async def test_a_call_ahead_of_real_time_survives_a_restart_of_the_server() -> None:
    """The Python client forgot audio that the server had received but not analysed."""
    port = free_port()
    data = talk(60.0)
    ends: list[int] = []
    options = (
        "--port",
        str(port),
        "--set",
        "limits.catch_up=0",
        "--set",
        "server.drain_timeout_s=3",
    )
    with running_server(*options) as first:
        async with open_call(first.url, sample_rate=RATE, backoff=Backoff(0.1, 0.2)) as call:
            await call.send(data)
            async for event in call:
                if event["type"] == "audio.ack" and event["processed_ms"] > 6_000:
                    break
            first.signal()
            with running_server(*options[:2]):
                async for event in call:
                    if event["type"] == "session.closed":
                        ends.append(event["totals"]["audio_ms"])
                        if len(ends) == 1:
                            closing = asyncio.create_task(call.close())
                await closing
    assert len(ends) == 2
    assert sum(ends) == pytest.approx(60_000, abs=20)


async def test_a_file_is_analysed_to_its_end_although_it_was_closed_early(server: Server) -> None:
    """`session.close` right behind two minutes of audio ended the session with the rest unheard."""
    audio = encode(speech())
    async with connect(server, query={"sample_rate": RATE}) as one:
        await one.audio(audio)
        await one.close_session()
    long = audio * 12
    async with stream(server) as client:
        await client.audio(long, 32_000)
        closed = await client.close_session(timeout=60)
        assert closed["totals"]["audio_ms"] == len(long) // 32
        assert len(utterances(client.events)) == 12 * len(utterances(one.events))
        assert not client.of("stream.gap")


async def test_a_producer_that_leaves_after_its_file_is_analysed_to_its_end(server: Server) -> None:
    """Fire and forget: the scores go to subscribers."""
    async with subscriber(server, filter={"streams": ["left"]}) as listener:
        async with stream(server, stream_id="left") as client:
            await client.audio(talk(90.0), 32_000)
            await client.socket.close()
        closed = await listener.until("session.closed", timeout=60)
        assert closed["reason"] == "client_closed"
        assert closed["totals"]["audio_ms"] == 90_000
        assert not listener.of("stream.gap")


# -- messages ----------------------------------------------------------------------------------

KEYS = {
    "vonage": ('{"event": "websocket:dtmf", "digit": "5", "duration": 260}', "5"),
    "jambonz": ('{"event": "dtmf", "dtmf": "#", "duration": "1600"}', "#"),
    "twilio": ('{"event": "dtmf", "dtmf": {"track": "inbound_track", "digit": "1"}}', "1"),
    "unknown type": ('{"type": "key.pressed", "key": "5"}', None),
    "no type": ('{"digit": 7}', None),
    "plain text": ("DTMF_END digit:5 duration_ms:120", None),
}


@pytest.mark.parametrize("name", KEYS)
async def test_a_text_message_per_key_pressed_never_ends_a_call(server: Server, name: str) -> None:
    """The tenth key ended the call with 4400, for good."""
    text, digit = KEYS[name]
    async with stream(server) as client:
        for _ in range(30):
            await client.text(text)
            await client.audio(bytes(640))
        await client.send("session.annotate", mark="next")
        await client.until(lambda e: e.get("mark") == "next")
        noted = [e["dtmf"] for e in client.of("session.annotated") if "dtmf" in e]
        assert noted == ([digit] * 30 if digit else [])
        assert not [e for e in client.of("error") if e["fatal"]]
        await client.close_session()


async def test_empty_binary_messages_are_a_sign_of_life() -> None:
    """Sent once a second while nobody spoke; the tenth ended the call."""
    with running_server("--set", "limits.idle_timeout_s=0.6") as own:
        async with stream(own) as client:
            for _ in range(12):
                await client.socket.send(b"")
                await asyncio.sleep(0.1)
            assert not client.of("error")
            await client.close_session()


# -- samples -----------------------------------------------------------------------------------


async def test_single_nan_samples_cost_one_sample_each(server: Server) -> None:
    """One NaN lost 100 ms and cut the utterance; the tenth ended the call."""
    clean = np.frombuffer(encode(speech(), "f32le"), "<f4")
    spoilt = clean.copy()
    spoilt[:: RATE // 3] = np.nan
    found = []
    for samples in (clean, spoilt):
        async with stream(server, encoding="f32le") as client:
            await client.audio(samples.astype("<f4").tobytes(), 6_400)
            closed = await client.close_session()
            assert closed["totals"]["audio_ms"] == len(clean) * 1000 // RATE
            assert not client.of("error")
            found.append(client)
    plain, odd = found
    assert same_utterances(utterances(odd.events), utterances(plain.events), 100)
    assert [e["code"] for e in plain.of("warning")] == []
    assert [e["code"] for e in odd.of("warning")] == ["invalid_samples"]


async def test_nothing_but_nan_is_no_speech(server: Server) -> None:
    async with stream(server, encoding="f32le") as client:
        await client.audio(np.full(3 * RATE, np.nan, "<f4").tobytes(), 6_400)
        await client.close_session()
        assert not client.of("speech.start", "emotion.score", "error")


@pytest.mark.parametrize("rate", [88_200, 96_000, 176_400, 192_000])
async def test_rates_of_studio_devices_are_taken(server: Server, rate: int) -> None:
    """Refused above 48 kHz; audio interfaces and some browsers run at 96 or 192 kHz."""
    async with stream(server) as plain:
        await plain.audio(encode(speech()))
        await plain.close_session()
    async with stream(server, sample_rate=rate) as client:
        await client.audio(encode(speech(), rate=rate), rate // 5)
        await client.close_session()
        assert not client.of("error", "warning")
    assert same_utterances(utterances(client.events), utterances(plain.events), 60)


# -- wrong formats -----------------------------------------------------------------------------


async def test_a_file_sent_as_samples_is_refused_at_once(server: Server) -> None:
    """WebM from a browser's recorder: after ten seconds it was asked about its sample rate."""
    webm = bytes.fromhex("1a45dfa3 9f4286810142f7810142f2810442f381084282847765626d")
    async with stream(server) as client:
        await client.socket.send(webm + bytes(600))
        error = await client.until("error", timeout=3)
        assert await client.closed() == 4415
        assert (error["code"], error["fatal"]) == ("unsupported_encoding", True)
        assert "WebM" in error["message"]


async def test_a_wrong_encoding_is_warned_of_once(server: Server) -> None:
    """24-bit audio said to be 16 bit was noise, scored for a whole call without a word."""
    pcm = np.frombuffer(talk(30.0), "<i2").astype("<i4") << 8
    data = pcm.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    async with stream(server) as client:
        await client.audio(data, 9_600)
        await client.close_session(timeout=30)
        (warning,) = client.of("warning")
        assert warning["code"] == "format_mismatch"
        assert "24-bit" in warning["message"]


async def test_audio_at_another_rate_than_declared_is_warned_of_once(slow: Server) -> None:
    """48 kHz said to be 16 kHz: scores came 24 s late, then the call was cut off, no reason given.

    And B19: the warning for the other direction came every ten seconds.
    """

    async def play(rate: int, seconds: float) -> list[str]:
        wide = encode(np.tile(speech(), 4), rate=rate)[: int(rate * 2 * seconds)]
        async with stream(slow) as client:
            await client.audio(wide, rate // 5, 0.1)
            return [str(e["code"]) + str(e["message"]) for e in client.of("warning")]

    fast, late = await asyncio.gather(play(48_000, 12.5), play(8_000, 22))
    assert len(fast) == 1, fast
    assert fast[0].startswith("rate_mismatch")
    assert "48000" in fast[0]
    assert len(late) == 1, late
    assert late[0].startswith("rate_mismatch")
    assert "8000" in late[0]


# -- silent producers --------------------------------------------------------------------------


async def test_parked_streams_do_not_hold_the_last_places() -> None:
    """A producer that fell silent kept its place for `resume_s` more, and others were refused."""
    limits = ("limits.max_sessions=2", "limits.idle_timeout_s=0.5", "limits.resume_s=60")
    with running_server(*(x for limit in limits for x in ("--set", limit))) as own:
        async with stream(own, stream_id="a") as first, stream(own, stream_id="b") as second:
            assert await first.closed() == 4408
            assert await second.closed() == 4408
            assert own.metric("emotide_sessions_active") == 0
            assert own.metric("emotide_sessions_parked") == 2
            async with stream(own, stream_id="c") as third:
                await third.until("session.created")
                assert own.metric("emotide_sessions_active") == 1
                query = {"resume": second.token, "last_seq": 0}
                async with connect(own, query=query) as back:
                    await back.until("session.resumed")
                    assert own.metric("emotide_sessions_parked") == 0
                    assert own.metric("emotide_sessions_active") == 2
                    path = "/v1/stream?sample_rate=16000"
                    upgrade = {
                        "Connection": "Upgrade",
                        "Upgrade": "websocket",
                        "Sec-WebSocket-Version": "13",
                        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
                    }
                    assert own.get(path, headers=upgrade)[0] == 503, "two are connected"


async def test_a_stream_whose_producer_is_away_says_so_everywhere(tmp_path: Path) -> None:
    """A call was shown as active for a minute after its telephony server had crashed."""
    with (
        Broker(tmp_path) as broker,
        running_server("--set", "mqtt.host=127.0.0.1", "--set", f"mqtt.port={broker.port}") as own,
    ):
        async with (
            aiomqtt.Client("127.0.0.1", broker.port) as reader,
            connect(own, "/v1/subscribe") as listener,
            stream(own, stream_id="call") as producer,
        ):
            await reader.subscribe("emotide/stream/+/state")

            async def published(state: str) -> None:
                async with asyncio.timeout(20):
                    async for message in reader.messages:
                        if orjson.loads(message.payload)["state"] == state:
                            return

            await listener.send("subscribe", id="all")
            await producer.audio(bytes(3_200))
            await published("active")
            await producer.abort()
            await listener.until("stream.detached")
            await published("detached")
            assert own.json("/v1/streams/call")["state"] == "detached"
            await listener.send("subscribe", id="late", snapshot=True)
            shown = await listener.until("snapshot", 2)
            assert [one["state"] for one in shown["streams"]] == ["detached"]
            query = {"resume": producer.token, "last_seq": producer.events[-1]["seq"]}
            async with connect(own, query=query) as back:
                await back.until("stream.detached")
                await published("active")
                assert own.json("/v1/streams/call")["state"] == "active"


async def test_a_call_longer_than_the_longest_session_goes_on() -> None:
    """The Python client ended for good after four hours."""
    with running_server("--set", "limits.max_session_s=1.5") as own:
        events: list[str] = []
        async with open_call(own.url, sample_rate=RATE) as call:

            async def listen() -> None:
                events.extend([event["type"] async for event in call])

            listening = asyncio.create_task(listen())
            data = talk(4.0)
            for at in range(0, len(data), 3_200):
                await call.send(data[at : at + 3_200])
                await asyncio.sleep(0.1)
            closed = await call.close()
            await listening
        assert closed["reason"] == "completed"
        assert events.count("client.restarted") == events.count("session.created") - 1 >= 2
        assert "client.reconnecting" not in events
        ended = own.metric("emotide_sessions_total", reason="session_expired")
        assert ended == events.count("client.restarted")
