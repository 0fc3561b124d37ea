"""Rules of alerts on a real server: from the configuration, and from keys with the scope."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stream.server.access.auth import make_key
from tests.support.clients import connect
from tests.support.running import running_server
from tests.support.utterances import talk
from tests.support.webhook_outage import outage

RULE = {"name": "mine", "index": "activation", "horizon": "window", "above": 0.0001}


async def test_rules_of_the_configuration_and_of_a_key_with_the_scope() -> None:
    """A key without the scope is refused by name, and keeps its connection."""
    desk, desk_hash = make_key()
    viewer, viewer_hash = make_key()
    config = f"""
[limits]
ahead_s = 1000
[auth.keys.desk]
sha256 = "{desk_hash}"
scopes = ["stream", "subscribe", "alerts"]
[auth.keys.viewer]
sha256 = "{viewer_hash}"
scopes = ["subscribe"]
[[alerts.rules]]
name = "configured"
index = "activation"
horizon = "window"
above = 0.0001
severity = "critical"
"""
    with running_server(config=config) as server:

        def headers(key: str) -> dict[str, Any]:
            return {"additional_headers": {"Authorization": f"Bearer {key}"}}

        async with (
            connect(server, "/v1/subscribe", **headers(viewer)) as watching,
            connect(server, "/v1/subscribe", **headers(desk)) as deciding,
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
            query = {"sample_rate": 16_000}
            async with connect(server, query=query, **headers(desk)) as producer:
                await producer.audio(talk(4.0), 6400)
                await producer.close_session()
            await watching.until("session.closed")
            raised = watching.of("alert")
        assert {event["rule"] for event in raised} == {"configured", "mine"}
        for name in ("configured", "mine"):
            steps = [event["state"] for event in raised if event["rule"] == name]
            assert (steps[0], steps[-1]) == ("new", "end")


async def test_an_acknowledgement_reaches_everybody_and_needs_the_scope() -> None:
    desk, desk_hash = make_key()
    viewer, viewer_hash = make_key()
    config = f"""
[auth.keys.desk]
sha256 = "{desk_hash}"
scopes = ["stream", "subscribe", "alerts"]
[auth.keys.viewer]
sha256 = "{viewer_hash}"
scopes = ["subscribe"]
[[alerts.rules]]
name = "configured"
index = "activation"
horizon = "window"
above = 0.0001
"""
    with running_server(config=config) as server:

        def headers(key: str) -> dict[str, Any]:
            return {"additional_headers": {"Authorization": f"Bearer {key}"}}

        query = {"sample_rate": 16_000, "stream_id": "call-1"}
        async with (
            connect(server, "/v1/subscribe", **headers(viewer)) as watching,
            connect(server, "/v1/subscribe", **headers(desk)) as deciding,
            connect(server, query=query, **headers(desk)) as producer,
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
