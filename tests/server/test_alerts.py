"""Rules of alerts on a real server: from the configuration, and from keys with the scope."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stream.server.access.auth import make_key
from tests.support.clients import Client, connect
from tests.support.running import Server, running_server
from tests.support.utterances import talk
from tests.support.webhook_outage import outage

RULE = {"name": "mine", "index": "activation", "horizon": "window", "above": 0.0001}

RULES = """
[limits]
ahead_s = 1000
[[alerts.rules]]
name = "configured"
index = "activation"
horizon = "window"
above = 0.0001
severity = "critical"
"""


@dataclass(frozen=True)
class Desk:
    """A server with a rule, a key that decides on alerts, and one that only watches."""

    server: Server
    keys: Mapping[str, str]

    def connect(self, path: str, key: str, **query: Any) -> AbstractAsyncContextManager[Client]:
        """Connect with the key of a name."""
        headers = {"Authorization": f"Bearer {self.keys[key]}"}
        return connect(self.server, path, query=query, additional_headers=headers)


@pytest.fixture
def desk() -> Iterator[Desk]:
    keys, config = {}, RULES
    for name, scopes in (("desk", ["stream", "subscribe", "alerts"]), ("viewer", ["subscribe"])):
        keys[name], digest = make_key()
        config += f'[auth.keys.{name}]\nsha256 = "{digest}"\nscopes = {json.dumps(scopes)}\n'
    with running_server(config=config) as server:
        yield Desk(server, keys)


async def test_rules_of_the_configuration_and_of_a_key_with_the_scope(desk: Desk) -> None:
    """A key without the scope is refused by name, and keeps its connection."""
    async with (
        desk.connect("/v1/subscribe", "viewer") as watching,
        desk.connect("/v1/subscribe", "desk") as deciding,
    ):
        await watching.send("subscribe")
        await watching.until("subscribed")
        await watching.send("alert.rules", rules=[RULE])
        refused = await watching.until("error")
        assert (refused["code"], refused["fatal"]) == ("forbidden", False)
        assert '"alerts"' in refused["message"]
        await deciding.send("alert.rules", rules=[{**RULE, "horizon": "20s"}])
        wrong = await deciding.until("error")
        assert (wrong["param"], wrong["fatal"]) == ("rules.0.horizon", False)
        await deciding.send("alert.rules", rules=[RULE])
        assert (await deciding.until("alert.rules"))["names"] == ["mine"]
        async with desk.connect("/v1/stream", "desk", sample_rate=16_000) as producer:
            await producer.audio(talk(4.0), 6400)
            await producer.close_session()
        await watching.until("session.closed")
        raised = watching.of("alert")
    assert {event["rule"] for event in raised} == {"configured", "mine"}
    for name in ("configured", "mine"):
        steps = [event["state"] for event in raised if event["rule"] == name]
        assert (steps[0], steps[-1]) == ("new", "end")


async def test_an_acknowledgement_reaches_everybody_and_needs_the_scope(desk: Desk) -> None:
    async with (
        desk.connect("/v1/subscribe", "viewer") as watching,
        desk.connect("/v1/subscribe", "desk") as deciding,
        desk.connect("/v1/stream", "desk", sample_rate=16_000, stream_id="call-1") as producer,
    ):
        await watching.send("subscribe", filter={"events": ["alert"]})
        await producer.audio(talk(4.0), 6400)
        raised = await watching.until("alert")
        alert = {"stream_id": "call-1", "id": raised["id"]}
        await watching.send("alert.acknowledge", **alert)
        refused = await watching.until("error")
        assert (refused["code"], refused["fatal"]) == ("forbidden", False)
        wrong = ({"stream_id": "call-2"}, {"id": "alr_0000000000000000-1.1"})
        for number, change in enumerate(wrong, 1):
            await deciding.send("alert.acknowledge", **(alert | change))
            unknown = await deciding.until("error", number)
            assert (unknown["param"], unknown["fatal"]) == ("id", False)
        await deciding.send("alert.acknowledge", **alert)
        assert (await deciding.until("alert.acknowledged"))["id"] == raised["id"]
        await producer.close_session()
        end = await watching.until(lambda event: event.get("state") == "end")
        assert end["acknowledged"]["by"] == "desk"


async def test_a_killed_server_loses_no_alert_of_a_webhook(tmp_path: Path) -> None:
    """The receiver was away when the server was killed in the middle of an alert.

    The next process delivers what waits, and an end for the alert that was open. `make soak` does
    the same with a receiver that is away for ten minutes.
    """
    found = await outage(away_s=3.0, patience_s=30.0, folder=tmp_path)
    assert found.raised >= 3
    assert (found.lost, found.interrupted, found.out_of_order) == ((), 1, 0)
