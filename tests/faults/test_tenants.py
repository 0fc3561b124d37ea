"""Two tenants on a real server with a real broker: each hears its own calls only."""

from __future__ import annotations

import asyncio
import io
import itertools
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import orjson
import pytest
from websockets.exceptions import InvalidStatus

from stream.server.access.auth import make_key
from tests.support.audio_files import record
from tests.support.broker import Broker
from tests.support.clients import Client, connect
from tests.support.posting import gated, post, send, wait_until_running
from tests.support.running import Server, running_server
from tests.support.utterances import talk

NAMES = ("acme", "globex", "ops")
KEYS = {name: make_key() for name in NAMES}
CALL = "call-1"


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name][0]}"}


def configuration(broker: Broker, folder: Path) -> str:
    tables = "\n".join(
        f'[auth.keys.{name}]\nsha256 = "{KEYS[name][1]}"\ntenant = "{name}"\n'
        for name in ("acme", "globex")
    )
    return f"""
[mqtt]
host = "127.0.0.1"
port = {broker.port}
[privacy]
hash_ids = false
audit_log = "{folder / "audit.jsonl"}"
[files]
folder = "{folder / "outputs"}"
[limits]
max_sessions = 4
{tables}
[auth.keys.ops]
sha256 = "{KEYS["ops"][1]}"
scopes = ["subscribe", "metrics"]
tenants = ["*"]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tenants")


@pytest.fixture(scope="module")
def broker(folder: Path) -> Iterator[Broker]:
    with Broker(folder) as broker:
        yield broker


@pytest.fixture(scope="module")
def server(broker: Broker, folder: Path) -> Iterator[Server]:
    with running_server(config=configuration(broker, folder)) as server:
        yield server


def producing(server: Server, name: str, **query: Any) -> Any:
    query = {"sample_rate": 16_000, "stream_id": CALL, "tag": "q:1", **query}
    return connect(server, query=query, additional_headers=bearer(name))


async def subscribed(client: Client) -> Client:
    await client.send("subscribe", id="s1")
    await client.until("subscribed")
    return client


async def test_two_tenants_with_one_stream_id_hear_their_own_call(
    server: Server, broker: Broker
) -> None:
    topics: dict[str, set[str]] = {}

    async def collect(client: aiomqtt.Client) -> None:
        async for message in client.messages:
            if message.payload:
                payload = bytes(message.payload)
                topics.setdefault(message.topic.value, set()).add(payload.decode())

    async with (
        aiomqtt.Client("127.0.0.1", broker.port) as reader,
        connect(server, "/v1/subscribe", additional_headers=bearer("acme")) as at_acme,
        connect(server, "/v1/subscribe", additional_headers=bearer("globex")) as at_globex,
        connect(server, "/v1/subscribe", additional_headers=bearer("ops")) as at_ops,
        producing(server, "acme") as acme,
        producing(server, "globex", takeover="true") as globex,
    ):
        await reader.subscribe("#")
        task = asyncio.create_task(collect(reader))
        for client in (at_acme, at_globex, at_ops):
            await subscribed(client)
        for client in (acme, globex):
            await client.audio(talk(2.0), pace_s=0.05)
            await client.until("emotion.score")
        listed = await asyncio.to_thread(
            server.get, f"/v1/streams/{CALL}", headers=bearer("globex")
        )
        ids = {"acme": acme.events[0]["session_id"], "globex": globex.events[0]["session_id"]}
        assert orjson.loads(listed[2])["session_id"] == ids["globex"]
        for client in (acme, globex):
            await client.close_session()
        for client, count in ((at_acme, 1), (at_globex, 1), (at_ops, 2)):
            await client.until("session.closed", count)

        def heard(client: Client) -> set[tuple[str, str]]:
            events = [event for event in client.events if "seq" in event]
            return {(event.get("tenant", ""), event["session_id"]) for event in events}

        assert heard(at_acme) == {("", ids["acme"])}
        assert heard(at_globex) == {("", ids["globex"])}
        assert heard(at_ops) == set(ids.items())

        wanted = {
            f"emotide/t/{tenant}/{rest}"
            for tenant in ("acme", "globex")
            for rest in (
                f"stream/{CALL}/state",
                f"stream/{CALL}/speaker/score",
                f"stream/{CALL}/speaker/segment",
                "events",
                "group/q%3A1/summary",
            )
        }
        for _ in range(100):
            if wanted <= topics.keys():
                break
            await asyncio.sleep(0.1)
        task.cancel()
        of_streams = {topic for topic in topics if not topic.startswith("emotide/node/")}
        assert of_streams == wanted, "nothing of a tenant outside of its own topics"


async def test_a_token_of_another_tenant_is_unknown_and_its_producer_returns(
    server: Server,
) -> None:
    async with producing(server, "acme", stream_id="broken") as first:
        await first.until("session.created")
        await first.abort()
    query = {"resume": first.token}
    async with connect(server, query=query, additional_headers=bearer("globex")) as stranger:
        assert (await stranger.until("error"))["code"] == "unknown_stream"
        assert await stranger.closed() == 4404
    async with producing(server, "globex", stream_id="broken") as other:
        await other.until("session.created")
        async with connect(server, query=query, additional_headers=bearer("acme")) as second:
            await second.until("session.resumed")
            await second.close_session()
        await other.close_session()


async def test_a_tenant_that_has_its_share_is_refused_and_another_is_served(
    server: Server,
) -> None:
    async with (
        producing(server, "acme", stream_id="a") as one,
        producing(server, "acme", stream_id="b") as two,
    ):
        for client in (one, two):
            await client.until("session.created")
        with pytest.raises(InvalidStatus) as caught:
            async with producing(server, "acme", stream_id="c"):
                pass
        response = caught.value.response
        assert (response.status_code, response.headers["Retry-After"]) == (429, "5")
        assert b"auth.keys.acme.quota.sessions" in (response.body or b"")
        async with producing(server, "globex", stream_id="c") as other:
            await other.until("session.created")
            await other.close_session()
        metrics = await asyncio.to_thread(server.get, "/metrics", headers=bearer("ops"))
        assert b'emotide_tenant_sessions_active{tenant="acme"} 2.0' in metrics[2]
        assert b'emotide_quota_refusals_total{quota="sessions",tenant="acme"}' in metrics[2]
        for client in (one, two):
            await client.close_session()


async def test_bytes_beyond_the_quota_of_a_key_arrive_later(broker: Broker, folder: Path) -> None:
    """A key at 20 kB/s sends 120 kB: 80 kB at once, and the rest within its rate."""
    limited = configuration(broker, folder).replace(
        'tenant = "acme"', 'tenant = "acme"\nquota = {bytes_per_s = 20_000}'
    )
    # Two servers of one name on one broker would be reported, and rightly.
    limited = '[server]\nnode = "limited"\n' + limited
    with running_server(config=limited) as server:
        async with producing(server, "acme") as client:
            await client.until("session.created")
            await client.audio(bytes(120_000))
            await client.until(lambda e: e.get("received_ms", 0) >= 2000)
            began = asyncio.get_running_loop().time()
            await client.until(lambda e: e.get("received_ms", 0) >= 3700)
            assert asyncio.get_running_loop().time() - began > 0.5
            await client.close_session()


def test_a_recording_exists_for_its_own_key_only(server: Server) -> None:
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(talk(1.0))
    content = written.getvalue()
    done = send(server, "POST", "/v1/files?wait=60&name=a.wav", content, bearer("acme"))
    assert done.status == 200, done.body
    urls = [done.body["url"], done.body["files"][0]["url"]]
    for url in urls:
        assert server.get(url, headers=bearer("acme"))[0] == 200
        assert server.get(url, headers=bearer("globex"))[0] == 404
    assert server.get(urls[0], "DELETE", bearer("globex"))[0] == 404


async def test_the_audit_log_names_tenants(server: Server, folder: Path) -> None:
    for name in ("acme", "globex"):
        async with producing(server, name, stream_id="audited") as client:
            await client.until("session.created")
            await client.close_session()
    await asyncio.sleep(0.5)  # the log has a thread of its own
    lines = [orjson.loads(line) for line in (folder / "audit.jsonl").read_bytes().splitlines()]
    assert {line["tenant"] for line in lines if line["event"] == "session.start"} == {
        "acme",
        "globex",
    }


def test_a_long_recording_of_one_tenant_does_not_hold_anothers_back(tmp_path: Path) -> None:
    """A customer's archive of long recordings took both places of `files.max_jobs`.

    Everybody else's recordings waited behind all of it.
    """
    options = [
        ("--set", f"auth.keys.{name}.{key}={value}")
        for name in ("acme", "globex")
        for key, value in (("sha256", KEYS[name][1]), ("tenant", name))
    ]
    file = ("file", "a.wav", record(tmp_path / "a.wav").read_bytes())
    with gated(tmp_path, *itertools.chain(*options)) as (server, gate):
        archive = [post(server, "", file, headers=bearer("acme")).body["url"] for _ in range(4)]
        late = post(server, "", file, headers=bearer("globex")).body["url"]
        wait_until_running(server, late, bearer("globex"))
        states = [send(server, "GET", url, headers=bearer("acme")).body for url in archive]
        assert [state["status"] for state in states] == ["running", "queued", "queued", "queued"]
        gate.open()
        for url in archive:
            done = send(server, "GET", f"{url}?wait=60", headers=bearer("acme")).body
            assert done["status"] == "done"
