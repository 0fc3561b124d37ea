"""The history over HTTP, in process: several tenants, erasure, exports, faults of the database."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from stream.config import Config
from stream.history.queries import reader
from stream.history.queries import sessions as queries
from stream.history.queries.filters import Filter
from stream.history.storage.connect import writing
from stream.history.storage.record import SessionRecord
from stream.history.storage.store import insert
from stream.server.access.auth import make_key
from tests.support import history_model as model
from tests.support.in_process import InProcess
from tests.support.posting import check

KEYS: dict[str, tuple[str, list[str], list[str]]] = {
    "acme": ("acme", ["history"], []),
    "globex": ("globex", ["history"], []),
    "desk": ("default", ["history", "subscribe"], ["acme"]),
    "all": ("default", ["history"], ["*"]),
    "calls": ("acme", ["stream", "subscribe", "files"], []),
}
SECRETS = {name: make_key() for name in KEYS}
CALLS = model.calls(90, seed=11)


class Server(InProcess):
    """The server with a history that has the sessions of the model."""

    def __init__(self, folder: Path, **history: Any) -> None:
        keys = {
            name: {
                "sha256": SECRETS[name][1],
                "tenant": tenant,
                "scopes": scopes,
                "tenants": others,
            }
            for name, (tenant, scopes, others) in KEYS.items()
        }
        database = {"url": f"sqlite:///{folder}/history.db", "spool": folder / "spool"}
        config = Config.model_validate(
            {
                "files": {"folder": folder / "outputs"},
                "auth": {"keys": keys},
                "history": database | history,
            }
        )
        super().__init__(config, {name: secret for name, (secret, _) in SECRETS.items()})

    async def put(self, *calls: SessionRecord) -> None:
        assert self.history is not None
        history = self.history
        # As the writer does it: ids of streams are hashed.
        hashed = history.identities.stream
        some = [replace(c, stream_id=hashed(c.tenant, c.stream_id)) for c in calls]
        with writing(history.engine) as connection:
            insert(connection, some, history.identities)

    async def get(self, key: str, path: str = "", **query: Any) -> Any:
        """Return the answer to GET /v1/history…, which must be 200."""
        response = await self.request(key, "GET", f"/v1/history{path}", params=query)
        assert response.status_code == 200, response.text
        return response.json()

    async def refusal(self, status: int, key: str, path: str = "", **query: Any) -> str:
        """Return the error of GET /v1/history…, which must have a status."""
        response = await self.request(key, "GET", f"/v1/history{path}", params=query)
        assert response.status_code == status, response.text
        check("Error", response.json())
        error: str = response.json()["error"]
        return error


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with Server(tmp_path).running() as started:
        await started.put(*CALLS)
        yield started


def uids(*tenants: str) -> list[str]:
    return model.listed(CALLS, Filter(frozenset(tenants)))


async def test_pages_lead_through_the_list_and_to_each_session(server: Server) -> None:
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 20}
    while True:
        body = await server.get("all", **query)
        check("HistoryList", body)
        found += body["sessions"]
        if body["next"] is None:
            break
        query["cursor"] = body["next"]
    assert [session["id"] for session in found] == uids(*model.TENANTS)
    detail = await server.get("all", f"/{found[0]['id']}")
    check("HistoryDetail", detail)
    assert {name: detail[name] for name in found[0]} == found[0]


async def test_a_key_sees_its_tenant_and_those_that_it_watches(server: Server) -> None:
    """The history of one customer of a hosted server must never reach another."""
    for key, tenants in {
        "acme": ["acme"],
        "globex": ["globex"],
        "desk": ["default", "acme"],
        "all": list(model.TENANTS),
    }.items():
        body = await server.get(key, limit=500)
        assert [session["id"] for session in body["sessions"]] == uids(*tenants), key
        rows = (await server.get(key, "/summary", by="tenant"))["rows"]
        assert {row["key"] for row in rows} == set(tenants)
        export = await server.request(key, "GET", "/v1/history/export")
        assert {row["tenant"] for row in table(export)} == set(tenants)
    foreign = uids("globex")[0]
    assert "no session of this tenant has this id" in await server.refusal(
        404, "acme", f"/{foreign}"
    )
    error = await server.refusal(403, "acme", tenant="globex")
    assert error == (
        "tenant: this key does not see the tenant 'globex'; leave it out, or use a key that "
        "watches it"
    )
    assert (await server.get("all", tenant="globex", limit=500))["sessions"]


def table(response: httpx2.Response) -> list[dict[str, str]]:
    assert response.status_code == 200, response.text
    return list(csv.DictReader(io.StringIO(response.text, newline="")))


async def test_a_key_without_the_scope_is_refused(server: Server) -> None:
    for path in ("", "/summary", "/export", "/x"):
        assert 'lacks the scope "history"' in await server.refusal(403, "calls", path)
        await server.refusal(401, "", path)
    response = await server.request("calls", "DELETE", "/v1/history?tenant=acme")
    assert response.status_code == 403


async def test_a_stream_is_found_by_its_id_though_ids_are_hashed(server: Server) -> None:
    """`privacy.hash_ids` is on by default: the producer knows the id, the database its hash."""
    wanted = Filter(frozenset({"acme"}), streams=frozenset({"call-3"}))
    body = await server.get("acme", stream="call-3")
    assert [session["id"] for session in body["sessions"]] == model.listed(CALLS, wanted)
    [shown, *_] = body["sessions"]
    assert shown["stream_id"] != "call-3"
    again = await server.get("acme", stream=shown["stream_id"])
    assert again == body


async def test_a_summary_is_that_of_the_model(server: Server) -> None:
    wanted = Filter(frozenset({"acme"}), tag="queue:vip")
    body = await server.get("acme", "/summary", by="day", tag="queue:vip", tz="Asia/Kolkata")
    check("HistorySummary", body)
    expected = model.summed(CALLS, wanted, "day", "Asia/Kolkata")
    assert [(row["key"], row["calls"]) for row in body["rows"]] == [
        (row["key"], row["calls"]) for row in expected
    ]


@pytest.mark.parametrize("rows", ["sessions", "utterances"])
async def test_an_export_is_a_file_with_every_row(server: Server, rows: str) -> None:
    response = await server.request(
        "acme", "GET", f"/v1/history/export?format=jsonl&rows={rows}&kind=live"
    )
    disposition = response.headers["content-disposition"]
    assert disposition == f'attachment; filename="history-{rows}.jsonl"'
    lines = [orjson.loads(line) for line in response.text.splitlines()]
    chosen = [c for c in CALLS if c.tenant == "acme" and c.kind == "live"]
    expected = len(chosen) if rows == "sessions" else sum(len(c.utterances) for c in chosen)
    assert len(lines) == expected > 0
    assert server.audited("history.export") == [{"tenant": "acme", "key": "acme", "rows": rows}]
    head = await server.request("acme", "HEAD", "/v1/history/export")
    assert (head.status_code, head.content) == (200, b"")


MISTAKES = {
    "from=yesterday": "from: must be a date like 2026-11-28, or a time with its offset",
    "from=2026-11-28T10:00:00": "from: must be a date like 2026-11-28, or a time with its offset",
    "to=2026-02-30": "to: must be a date",
    "from=9999-12-31": "from: must be a date",
    "from=2026-11-28&to=2026-11-27": "to: must be later than from",
    "tz=Berlin": "tz: must be the IANA name of a time zone, like Europe/Berlin",
    "tz=../../etc/passwd": "tz: String should match pattern",
    "label=furious": "label: must be one of angry, ",
    "share=0.4": "share: name the label whose share it is: label=angry&share=0.4",
    "label=angry&share=40": "share: Input should be less than or equal to 1",
    "min_activation=nan": "min_activation: ",
    "min_activation=0.9&max_activation=0.2": "max_activation: must not be less than min_activation",
    "max_duration_s=inf": "max_duration_s: ",
    "limit=0": "limit: Input should be greater than or equal to 1",
    "limit=5000": "limit: Input should be less than or equal to 500",
    "cursor=abc": "cursor: is not one of this server's",
    "tag=a&tag=b": "tag: given 2 times; give it once",
    "tag=": "tag: ",
    "tags=a": "unknown query parameter 'tags'; known: alert, cursor, from, ",
    "tenant=A/B": "tenant: ",
    "alert=a%00b": "alert: ",
    "stream=": "stream: ",
}


async def test_a_mistake_is_named(server: Server) -> None:
    for query, error in MISTAKES.items():
        response = await server.request("acme", "GET", f"/v1/history?{query}")
        assert response.status_code == 400, (query, response.text)
        assert response.json()["error"].startswith(error), query


async def test_a_time_may_have_its_plus_unescaped(server: Server) -> None:
    """A "+" in a URL is a space, and people forget to write %2B."""
    texts = ("2025-11-30T01:00:00+01:00", "2025-11-30T01:00:00%2B01:00", "2025-11-30")
    pages = [
        (await server.request("acme", "GET", f"/v1/history?from={text}")).json() for text in texts
    ]
    assert pages[0] == pages[1] == pages[2]
    assert 0 < len(pages[0]["sessions"]) < len(uids("acme"))


async def test_a_session_is_erased_by_its_own_tenant_only(server: Server) -> None:
    own, watched = uids("default")[0], uids("acme")[0]
    for session in (watched, "unknown"):
        response = await server.request("desk", "DELETE", f"/v1/history/{session}")
        assert response.status_code == 404
    response = await server.request("desk", "DELETE", f"/v1/history/{own}")
    assert (response.status_code, response.content) == (204, b"")
    await server.refusal(404, "desk", f"/{own}")
    assert await server.get("acme", f"/{watched}")
    entries = server.audited("history.erase")
    assert [(e["key"], e["tenants"], e["sessions"]) for e in entries] == [
        ("desk", ["default"], sessions) for sessions in (0, 0, 1)
    ]


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("stream=call-3", lambda c: c.stream_id != "call-3"),
        ("attribute=customer:4711", lambda c: False),
        ("attribute=customer:9", lambda c: True),
        ("tenant=acme", lambda c: False),
    ],
)
async def test_sessions_of_one_tenant_are_erased_together(
    server: Server, query: str, left: Any
) -> None:
    of_acme = [call for call in CALLS if call.tenant == "acme"]
    kept = [call.uid for call in of_acme if left(call)]
    response = await server.request("acme", "DELETE", f"/v1/history?{query}")
    assert response.status_code == 200, response.text
    assert response.json() == {"erased": len(of_acme) - len(kept)}
    body = await server.get("acme", limit=500)
    assert {session["id"] for session in body["sessions"]} == set(kept)
    calls = sum(row["calls"] for row in (await server.get("acme", "/summary"))["rows"])
    assert calls == len(kept)
    others = await server.get("all", limit=500)
    foreign = {session["id"] for session in others["sessions"]} - set(kept)
    assert foreign == {*uids("default", "globex")}


NO_EXTENT = {
    "": (400, "stream: name one of stream, attribute=NAME:VALUE and tenant"),
    "stream=a&tenant=acme": (400, "stream: name one of"),
    "attribute=customer": (400, "attribute: "),
    "tenant=globex": (403, "tenant: this key erases sessions of its own tenant, acme, only"),
    "label=angry": (400, "unknown query parameter 'label'; known: attribute, stream, tenant"),
}


async def test_an_erasure_that_names_no_extent_erases_nothing(server: Server) -> None:
    """DELETE without a parameter must not mean everything."""
    for query, (status, error) in NO_EXTENT.items():
        response = await server.request("acme", "DELETE", f"/v1/history?{query}")
        assert response.status_code == status, query
        assert response.json()["error"].startswith(error), query
    assert len((await server.get("acme", limit=500))["sessions"]) == len(uids("acme"))


async def test_a_server_without_a_history_says_so(tmp_path: Path) -> None:
    async with Server(tmp_path, url="").running() as server:
        for method in ("GET", "DELETE"):
            response = await server.request("acme", method, "/v1/history?tenant=acme")
            assert response.status_code == 404
            assert response.json()["error"].startswith("history_off: ")
        await server.refusal(404, "acme", "/summary")


async def test_a_query_that_takes_too_long_is_cut_off(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile the event loop serves others; afterwards the same connection answers again."""
    assert server.history is not None
    monkeypatch.setattr(server.history.reader, "_query_s", -1.0)
    monkeypatch.setattr(reader, "STEPS", 1)
    for path in ("", "/summary", "/export", "/x"):
        response = await server.request("acme", "GET", f"/v1/history{path}")
        assert response.status_code == 503
        assert response.headers["retry-after"] == "10"
        assert response.json()["error"].startswith("the query took too long and was cut off")
    monkeypatch.undo()
    assert (await server.get("acme", limit=500))["sessions"]


async def test_more_queries_than_may_wait_are_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that asks in a loop must not fill memory, nor keep others out for good."""
    held = asyncio.Event()
    began = asyncio.get_running_loop()

    def slow(*arguments: Any) -> Any:
        asyncio.run_coroutine_threadsafe(held.wait(), began).result(30)
        return {"sessions": [], "next": None}

    monkeypatch.setattr(queries, "page", slow)
    most = reader.THREADS + reader.WAITING
    asked = [asyncio.create_task(server.request("acme", "GET", "/v1/history")) for _ in range(most)]
    assert server.history is not None
    deadline = time.monotonic() + 20
    while server.history.reader._running < most:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    refused = await server.request("acme", "GET", "/v1/history")
    assert refused.status_code == 503
    assert "queries of the history run or wait" in refused.json()["error"]
    held.set()
    assert {response.status_code for response in await asyncio.gather(*asked)} == {200}
    assert (await server.request("acme", "GET", "/v1/history")).status_code == 200


async def test_a_database_that_cannot_be_read_is_reported(server: Server, tmp_path: Path) -> None:
    for file in tmp_path.glob("history.db*"):
        file.unlink()
    assert server.history is not None
    server.history.reader._engine.dispose()
    server.history.engine.dispose()
    (tmp_path / "history.db").write_bytes(b"not a database" * 100)
    error = await server.refusal(503, "acme")
    assert error.startswith("the database of the history cannot be used at the moment")
    response = await server.request("acme", "DELETE", "/v1/history?tenant=acme")
    assert response.status_code == 503
