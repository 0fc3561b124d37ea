"""Rules on a recording do what they do on a live call."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.batch.local import LocalAnalyser, local_config
from stream.admission import admit_recording
from stream.config import Config
from stream.protocol.errors import ProtocolError
from stream.protocol.file_options import FileOptions
from stream.protocol.messages import SessionConfig
from stream.protocol.wire.result import Result
from stream.recordings.trial import rules_to_try
from stream.sessions.session import Session
from tests.support.audio_files import record
from tests.support.contract import check_result
from tests.support.plugins import LENGTHS, Fast
from tests.support.scheduling import until
from tests.support.sessions import Sessions
from tests.support.utterances import RATE, talk

RULES: list[dict[str, Any]] = [
    {"name": "loud", "label": "angry", "horizon": "window", "above": 0.5, "for_s": 1},
    {"name": "rolling", "index": "activation", "above": 0.3, "cooldown_s": 0},
    {"name": "silence", "conversation": "dead_air", "above": 3},
    {"name": "talk", "conversation": "talk_share", "above": 0.6},
]
APART = {"silence": 1.1, "talk": 0.05}
"""Differences of peaks: the session gets a second of audio at a time, the recording 100 ms."""

TOML = "\n".join(
    "[[alerts.rules]]\n" + "\n".join(f"{key} = {value!r}" for key, value in rule.items())
    for rule in RULES
)


def call() -> np.ndarray[Any, np.dtype[np.int16]]:
    """Return a call of 68 s: the customer, silence, the customer, the agent, silence for 32 s."""
    voice = np.frombuffer(talk(6.0), "<i2")
    nothing = np.zeros_like(voice)
    sides = [(voice, nothing), (nothing, nothing), (voice, nothing), (nothing, voice)]
    sides += [(nothing, nothing)] * 6 + [(voice, nothing)]
    return np.concatenate([np.stack(pair, 1) for pair in sides])


async def tried(path: Path, folder: Path, options: FileOptions) -> Result:
    config = Config.model_validate({"alerts": {"rules": RULES}})
    analyser = LocalAnalyser(local_config("tests.support.plugins:fast", "cpu", config))
    await analyser.open()
    try:
        return (await analyser.analyse(path, options, folder, lambda stage, share: None)).result
    finally:
        await analyser.close()


def _received(session: Session, samples: int) -> bool:
    return session._pipeline.received >= samples


async def live(pcm: bytes) -> list[dict[str, Any]]:
    """Return the alerts of a session that gets a second of audio at a time."""
    config = Config.model_validate({"limits": {"ahead_s": 1e9}, "alerts": {"rules": RULES}})
    sessions = Sessions(config=config)
    for rule in config.alerts.rules:
        sessions.services.rules.replace(rule.name, [rule])
    await sessions.scheduler.start(LENGTHS)
    request = SessionConfig.model_validate({"audio": {"channels": 2}})
    session, connection = await sessions.open(request=request)
    step = RATE * 4
    for begin in range(0, len(pcm), step):
        session.audio(pcm[begin : begin + step])
        sent = min(begin + step, len(pcm)) // 4
        await until(partial(_received, session, sent))
        await until(lambda: not session._scorer._open)
    await sessions.registry.finish(session, "completed")
    await sessions.scheduler.stop(1.0)
    return [event for event in connection.events if event["type"] == "alert"]


async def test_a_recording_raises_the_alerts_of_the_live_call(tmp_path: Path) -> None:
    """A rule that was tried and then raises other alerts on calls is worse than one never tried."""
    path = record(tmp_path / "call.wav", call())
    result = await tried(path, tmp_path, FileOptions(server_rules=True))
    check_result(result)
    expected = await live(call().tobytes())
    found = [
        (trial["rule"], trial.get("channel"), alert)
        for trial in result["alerts"]
        for alert in trial["alerts"]
    ]
    news = [event for event in expected if event["state"] == "new"]
    ends = {event["id"]: event for event in expected if event["state"] == "end"}
    assert {rule for rule, _, _ in found} == {rule["name"] for rule in RULES}
    assert sorted((e["rule"], str(e.get("channel"))) for e in news) == sorted(
        (rule, str(channel)) for rule, channel, _ in found
    )
    for rule, channel, alert in found:
        [start] = [
            event
            for event in news
            if (event["rule"], event.get("channel")) == (rule, channel)
            and abs(event["audio_ms"] / 1000 - alert["start_s"]) < 1.1
        ]
        end = ends[start["id"]]
        assert end["reason"] == alert["reason"]
        assert end["audio_ms"] / 1000 == pytest.approx(alert["end_s"], abs=1.1)
        assert end["peak"] == pytest.approx(alert["peak"], abs=APART.get(rule, 0.01))


async def test_rules_of_the_client_are_tried_and_others_are_not(tmp_path: Path) -> None:
    path = record(tmp_path / "call.wav", call())
    plain, own = await asyncio.gather(
        tried(path, tmp_path, FileOptions()),
        tried(
            path, tmp_path, FileOptions(rules=TOML.split("[[alerts.rules]]\nname = 'rolling'")[0])
        ),
    )
    assert "alerts" not in plain
    assert [trial["rule"] for trial in own["alerts"]] == ["loud"]
    assert plain["channels"] == own["channels"], "a trial changes no score"


def test_a_tenant_tries_no_rule_of_another_one() -> None:
    rules = [{**RULES[0], "tenants": ["acme"]}, RULES[1]]
    config = Config.model_validate({"alerts": {"rules": rules}})
    options = FileOptions(server_rules=True)
    assert [rule.name for rule in rules_to_try(config, options, "other")] == ["rolling"]
    assert [rule.name for rule in rules_to_try(config, options, "acme")] == ["loud", "rolling"]


def test_a_horizon_that_the_server_does_not_have_is_refused_before_the_analysis() -> None:
    text = "[[rules]]\nname = 'a'\nlabel = 'angry'\nabove = 0.5\nhorizon = '20s'"
    with pytest.raises(ProtocolError, match=r"rules\.0\.horizon: '20s' is not one of") as refused:
        admit_recording(Config(), FileOptions(rules=text), Fast().info, 1)
    assert refused.value.param == "options.rules"
    assert not refused.value.fatal
