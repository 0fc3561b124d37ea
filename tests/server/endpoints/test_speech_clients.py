"""Clients of Vosk and FunASR at the path "/" of a real server, beside its page."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket
from websockets.exceptions import InvalidStatus

from stream.server.access.auth import make_key
from tests.support.running import Server, running_server
from tests.support.utterances import encode, speech

KEY, DIGEST = make_key()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


async def receive(socket: ClientConnection) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(await asyncio.wait_for(socket.recv(), 60))
    return found


async def vosk(url: str) -> list[dict[str, Any]]:
    """Run a client as vosk-server's test.py does; return all answers."""
    data = encode(speech())
    answers = []
    async with websocket(url) as socket:
        await socket.send('{ "config" : { "sample_rate" : 16000 } }')
        for at in range(0, len(data), 6_400):
            await socket.send(data[at : at + 6_400])
            answers.append(await receive(socket))
        await socket.send('{"eof" : 1}')
        answers.append(await receive(socket))
    return answers


async def test_vosk_gets_an_answer_to_every_chunk_and_the_rest_at_the_end(server: Server) -> None:
    """One answer a second made a recording take three times its length."""
    answers = await vosk(server.ws)
    assert all("partial" in answer or "result" in answer for answer in answers)
    words = [word for answer in answers for word in answer.get("result", ())]
    assert len(words) == 2, "the speech has two utterances"
    assert all({"conf", "start", "end", "word"} == word.keys() for word in words)
    assert words[0]["end"] < words[1]["start"]


async def test_funasr_runs_to_its_end(server: Server) -> None:
    data = encode(speech(), rate=8000)
    async with websocket(server.ws, subprotocols=["binary"]) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "binary"
        begin = {"mode": "2pass", "audio_fs": 8000, "wav_name": "demo", "is_speaking": True}
        await socket.send(orjson.dumps(begin).decode())
        for at in range(0, len(data), 960):
            await socket.send(data[at : at + 960])
        await socket.send('{"is_speaking": false, "is_end": true}')
        messages = [await receive(socket)]
        while not messages[-1].get("is_end"):
            messages.append(await receive(socket))
    assert messages[-1]["is_final"]
    assert [m["mode"] for m in messages[:-1]].count("2pass-offline") == 2


def test_the_page_stays_where_it_is(server: Server) -> None:
    status, headers, _ = server.get("/")
    assert status == 200
    assert headers["content-type"].startswith("text/html")


async def test_a_key_in_the_query_is_enough_and_stays_out_of_the_log() -> None:
    """The address is all that can be changed in these clients."""
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    assert digest == DIGEST
    keys = f'auth.keys={{desk = {{sha256 = "{DIGEST}", scopes = ["stream"]}}}}'
    with running_server("--set", keys, "--set", "log.level=debug") as server:
        assert await vosk(f"{server.ws}/?key={KEY}")
        for url in (server.ws, f"{server.ws}/?key=emk_wrong"):
            with pytest.raises(InvalidStatus) as refused:
                await websocket(url)
            assert refused.value.response.status_code == 401
        assert KEY not in server.log()
        assert "emk_wrong" not in server.log()


async def test_the_address_is_no_endpoint_if_both_are_switched_off() -> None:
    with running_server("--set", 'telephony.dialects=["audiohook"]') as server:
        with pytest.raises(InvalidStatus) as refused:
            await websocket(server.ws)
        assert refused.value.response.status_code == 404
        assert server.get("/")[0] == 200
