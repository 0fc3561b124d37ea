"""`emotide alerts test`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.alerts import main
from client.terminal.options import FAILED, OK, USAGE
from tests.support.audio_files import record

RULE = """
[[alerts.rules]]
name = "loud"
label = "angry"
horizon = "window"
above = 0.3
tenants = ["acme"]
[[alerts.rules]]
name = "silence"
conversation = "dead_air"
above = 2
"""
FAST = ("--model", "tests.support.plugins:fast")


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(RULE)
    return path


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return record(tmp_path / "a.wav")


def test_it_draws_what_each_rule_would_have_done(
    rules: Path, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(recording.parent.iterdir())
    assert main(["test", str(rules), str(recording), *FAST]) == OK
    output = capsys.readouterr().out
    assert "loud on speaker (channel 0), warning" in output
    assert "indicator: angry at or above 0.3; ends below 0.24" in output
    assert "━" in output
    assert "a conversation needs two channels" in output
    assert "not verdicts" in output
    assert set(recording.parent.iterdir()) == before, "nothing is left on the disk"


def test_json_has_the_values_and_the_alerts(
    rules: Path, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["test", str(rules), str(recording), "--json", "--rule", "loud", *FAST]
    assert main(arguments) == OK
    body = json.loads(capsys.readouterr().out)
    [trial] = body["alerts"]
    assert (trial["rule"], trial["role"]) == ("loud", "speaker")
    assert trial["count"] == len(trial["alerts"]) > 0
    assert len(trial["values"]["at_s"]) == trial["judged"]
    assert 4 < body["duration_s"] < 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("above = 2", "above = -1"), "alerts.rules.1.above"),
        (("label", "labl"), "alerts.rules.0.labl: unknown key"),
        (('"window"', '"20s"'), "alerts.rules.0.horizon: '20s' is not one of window, 10s"),
        (('"silence"', '"loud"'), "'loud' names several rules"),
        (("[[alerts.rules]]", "[[alerts.rule]]"), "alerts.rule: unknown key"),
        (("[[", "["), "not valid TOML"),
    ],
)
def test_a_mistake_in_the_rules_is_named_before_anything_is_loaded(
    change: tuple[str, str],
    message: str,
    rules: Path,
    recording: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rules.write_text(RULE.replace(*change))
    assert main(["test", str(rules), str(recording)]) == USAGE
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["{rules}", "{folder}/nothing.wav"], USAGE, "nothing.wav: no such file"),
        (["{folder}/nothing.toml", "{recording}"], USAGE, "nothing.toml: no such file"),
        (["{folder}/empty.toml", "{recording}"], USAGE, "no rules; begin each with"),
        (["{rules}", "{recording}", "--rule", "x"], USAGE, "--rule: 'x' is not one of loud"),
        (["{rules}", "{recording}", "--roles", "A"], USAGE, "--roles"),
        (["{rules}", "{rules}", *FAST], FAILED, "rules.toml: not_audio"),
        (["{rules}", "{recording}", "--model", "nonsense"], FAILED, "nonsense"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_remedy(
    arguments: list[str],
    status: int,
    message: str,
    rules: Path,
    recording: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (rules.parent / "empty.toml").write_text("")
    names = {"rules": rules, "recording": recording, "folder": rules.parent}
    assert main(["test", *(text.format(**names) for text in arguments)]) == status
    assert message in capsys.readouterr().err
