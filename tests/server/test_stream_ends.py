"""The ends of a stream on /v1/stream: a clean close, and `session.close`."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.clients import stream
from tests.support.running import Server
from tests.support.utterances import talk


@pytest.fixture(scope="module")
def server(unpaced: Server) -> Server:
    return unpaced


async def test_a_close_without_a_code_ends_the_stream(server: Server) -> None:
    """`new WebSocket(…).close()` in a browser sends a close frame without a code.

    It is a clean close like 1000: the client does not return, so the stream is not kept for 60 s.
    """
    async with stream(server, stream_id="browser") as client:
        await client.audio(talk(1.0))
        await client.until("speech.start")
        client.socket.protocol.send_close()
        for data in client.socket.protocol.data_to_send():
            client.socket.transport.write(data)
        await client.closed()
    await wait_until_ended(server, "browser")


async def test_a_close_with_1001_ends_the_stream(server: Server) -> None:
    async with stream(server, stream_id="tab") as client:
        await client.socket.close(1001)
    await wait_until_ended(server, "tab")


async def test_session_closed_is_the_last_event(server: Server) -> None:
    """Audio after session.close is ignored, `session.closed` is the last event, the close prompt.

    With more than `max_queue` messages unread, the server stopped reading, did not receive the
    peer's close frame, and held the connection for five seconds.
    """
    async with stream(server) as client:
        await client.audio(talk(2.0))
        await client.send("session.close")
        await client.audio(talk(2.0))
        await client.until("session.closed")
        assert await client.closed(4) == 1000
        assert client.events[-1]["type"] == "session.closed"
        assert client.events[-1]["totals"]["audio_ms"] == 2000


async def wait_until_ended(server: Server, stream_id: str, within_s: float = 20.0) -> None:
    for _ in range(int(within_s * 20)):
        if (await asyncio.to_thread(server.get, f"/v1/streams/{stream_id}"))[0] == 404:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{stream_id} is still live")
