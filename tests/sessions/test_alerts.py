"""Alerts of a session: in order, in the snapshot, ended before the stream."""

from __future__ import annotations

from typing import Any

import pytest

from stream.alert_rules import AlertRule
from stream.config import Config
from stream.protocol.messages import SessionConfig
from tests.support.contract import validate
from tests.support.plugins import LENGTHS
from tests.support.scheduling import until
from tests.support.sessions import FakeConnection, Sessions
from tests.support.utterances import talk

ALWAYS = {"name": "always", "index": "activation", "horizon": "window", "above": 0.0001}
SILENCE = {"name": "silence", "conversation": "dead_air", "above": 2}


async def heard(
    *rules: Any, reason: Any = "completed", channels: int = 1, audio: bytes = talk(4.0)
) -> tuple[FakeConnection, Any]:
    """Return the connection of a producer after its stream, and the snapshot before the end."""
    config = Config.model_validate({"limits": {"ahead_s": 1e9}, "alerts": {"rules": rules}})
    sessions = Sessions(config=config)
    for rule in config.alerts.rules:
        sessions.services.rules.replace(rule.name, [rule])
    await sessions.scheduler.start(LENGTHS)
    request = SessionConfig.model_validate({"audio": {"channels": channels}})
    session, connection = await sessions.open(request=request)
    session.audio(audio)
    await until(lambda: session._pipeline.received * 2 * channels >= len(audio))
    await until(lambda: not session._scorer._open)
    snapshot = session.live.snapshot()
    await sessions.registry.finish(session, reason)
    await sessions.scheduler.stop(1.0)
    return connection, snapshot


def alerts(connection: FakeConnection) -> list[dict[str, Any]]:
    return [event for event in connection.events if event["type"] == "alert"]


async def test_an_alert_follows_its_score_and_ends_before_the_stream() -> None:
    connection, snapshot = await heard(ALWAYS)
    new, *_, end = alerts(connection)
    for event in (new, end):
        validate(event, "to_producer")
    assert (new["state"], end["state"], end["reason"]) == ("new", "end", "stream_ended")
    assert new["id"] == end["id"]
    assert snapshot["alerts"][-1]["id"] == new["id"]
    types = connection.types()
    assert types[types.index("alert") - 1] == "emotion.score"
    assert types[-1] == "session.closed"


async def test_an_objection_ends_an_alert_without_evidence() -> None:
    connection, _ = await heard(ALWAYS, reason="objected")
    [*_, end] = alerts(connection)
    assert (end["state"], end["reason"]) == ("end", "objected")
    assert "evidence" not in end


async def test_dead_air_of_a_call_raises_an_alert_of_the_stream() -> None:
    silence = b"\0" * 4 * 16_000 * 4
    connection, _ = await heard(SILENCE, channels=2, audio=silence)
    new, end = alerts(connection)
    validate(new, "to_producer")
    assert (new["of"], new["state"], end["state"]) == ("dead_air", "new", "end")
    assert "channel" not in new


async def test_rules_that_come_and_go_concern_streams_that_run() -> None:
    sessions = Sessions()
    await sessions.scheduler.start(LENGTHS)
    session, connection = await sessions.open()
    book = sessions.services.rules
    book.replace("desk", [AlertRule.model_validate(ALWAYS)])
    session.audio(talk(4.0))
    await until(lambda: bool(alerts(connection)))
    book.replace("desk", ())
    session.audio(b"\0" * 6400)
    await until(lambda: alerts(connection)[-1]["state"] == "end")
    assert alerts(connection)[-1]["reason"] == "rule_removed"
    await sessions.registry.finish(session, "completed")
    await sessions.scheduler.stop(1.0)


@pytest.mark.parametrize("results", [True, False])
async def test_a_producer_without_results_gets_no_alert(results: bool) -> None:
    sessions = Sessions()
    await sessions.scheduler.start(LENGTHS)
    sessions.services.rules.replace("desk", [AlertRule.model_validate(ALWAYS)])
    session, connection = await sessions.open(request=SessionConfig(results=results))
    session.audio(talk(4.0))
    await until(lambda: bool(session.live.alerts))
    await sessions.registry.finish(session, "completed")
    await sessions.scheduler.stop(1.0)
    assert bool(alerts(connection)) is results


async def test_an_acknowledgement_is_in_all_later_steps_and_the_first_one_stays() -> None:
    """An acknowledgement was known to one page only: nobody else saw it, and no history kept it."""
    config = Config.model_validate({"limits": {"ahead_s": 1e9}, "alerts": {"rules": [ALWAYS]}})
    sessions = Sessions(config=config)
    sessions.services.rules.replace("always", config.alerts.rules)
    await sessions.scheduler.start(LENGTHS)
    session, connection = await sessions.open()
    session.audio(talk(3.0))
    await until(lambda: bool(session.live.alerts))
    [alert_id] = session.live.alerts
    assert not session.live.acknowledge("alr_0000000000000000-1.1", "anna")
    assert session.live.acknowledge(alert_id, "anna")
    assert session.live.acknowledge(alert_id, "bert"), "it is acknowledged already"
    seen = session.live.snapshot()["alerts"][0]["acknowledged"]
    assert seen["by"] == "anna"
    await sessions.registry.finish(session, "completed")
    await sessions.scheduler.stop(1.0)
    steps = alerts(connection)
    for step in steps:
        validate(step, "to_producer")
    first = next(n for n, step in enumerate(steps) if "acknowledged" in step)
    assert steps[first]["state"] == "update"
    assert [step["acknowledged"] for step in steps[first:]] == [seen] * len(steps[first:])
    assert steps[-1]["state"] == "end"
    assert not session.live.acknowledge(alert_id, "anna"), "it has ended"
