"""Rules of alerts on a real server: from the configuration, and from keys with the scope."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

from stream.server.access.auth import make_key
from tests.support.clients import connect, stream
from tests.support.receiver import Receiver
from tests.support.running import running_server
from tests.support.utterances import talk

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


async def test_a_killed_server_loses_no_alert_of_a_webhook(tmp_path: Path) -> None:
    """The receiver was away when the server was killed in the middle of an alert.

    The next process delivers what waits, and an end for the alert that was open.
    """
    receiver = Receiver()
    receiver.status = 503
    config = f"""
[alerts]
outbox = "{tmp_path}/alerts"
[alerts.webhooks.desk]
url = "{receiver.url}"
secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
allow_private = true
[[alerts.rules]]
name = "any"
index = "activation"
horizon = "window"
above = 0.0001
"""
    try:
        with running_server("--set", "limits.ahead_s=1000", config=config) as server:
            async with stream(server) as producer:
                await producer.audio(talk(4.0), 6400)
                await producer.until("alert")
                await asyncio.to_thread(_wait_for, receiver)
                server.signal(signal.SIGKILL)
                await producer.closed()
            server.exit(10)
        receiver.got.clear()
        receiver.status = 204
        with running_server(config=config):
            for _ in range(500):
                if [body["state"] for body in receiver.data()][-1:] == ["end"]:
                    break
                await asyncio.sleep(0.02)
    finally:
        receiver.close()
    states = [body["state"] for body in receiver.data()]
    assert (states[0], states[-1]) == ("new", "end")
    assert receiver.data()[-1]["reason"] == "interrupted"
    assert len({body["id"] for body in receiver.data()}) == 1


def _wait_for(receiver: Receiver) -> None:
    """Wait until the receiver was tried, so that the alert is on the disk."""
    for _ in range(500):
        if receiver.got:
            return
        time.sleep(0.02)
