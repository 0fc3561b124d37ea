"""Rules and webhooks that cannot work."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from stream.config import Config
from tests.support.configuration import refused

SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"name": "a", "label": "angry", "above": 0.5}] * 2, "several rules"),
        ([{"name": "a", "label": "angry", "above": 0.5, "horizon": "20s"}], "10s, 30s, call"),
        ([{"name": str(n), "label": "angry", "above": 0.5} for n in range(33)], "32"),
    ],
)
def test_the_configuration_refuses_rules_that_cannot_work(rules: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate({"alerts": {"rules": rules}})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"url": "http://desk.example"}, "https"),
        ({"url": "https://user:pass@desk.example/"}, "url"),
        ({"url": "ftp://desk.example/"}, "url"),
        ({"secret": "abc"}, "whsec_"),
        ({"secret": "whsec_c2hvcnQ="}, "24 to 64"),
        ({"secret": "whsec_!!"}, "whsec_"),
        ({"tenant": "Big Corp"}, "tenant"),
    ],
)
def test_a_webhook_that_cannot_work_is_refused_without_its_secret(
    fields: dict[str, Any], message: str
) -> None:
    given = {"url": "https://desk.example/hook", "secret": SECRET, **fields}
    with pytest.raises(ValidationError, match=message) as caught:
        Config.model_validate({"alerts": {"webhooks": {"desk": given}}})
    assert SECRET not in str(caught.value)


def test_a_secret_of_the_wrong_type_is_not_printed(tmp_path: Path) -> None:
    path = tmp_path / "emotide.toml"
    path.write_text('[alerts.webhooks.d]\nurl = "https://d.example"\nsecret = ["whsec_abc"]\n')
    told = refused(path=path)
    assert "alerts.webhooks.d.secret" in told
    assert "whsec_abc" not in told


RULE = '[[alerts.rules]]\nname = "a"\nlabel = "angry"\nabove = 0.5\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RULE + 'horizon = "20s"', "alerts.rules.0.horizon: '20s' is not one of window, 10s"),
        (
            RULE.replace("label", "lable"),
            "alerts.rules.0.lable: unknown key; did you mean 'label'?",
        ),
    ],
)
def test_a_mistake_in_a_rule_is_named_with_the_file_and_the_key(
    text: str, message: str, tmp_path: Path
) -> None:
    """A horizon that is not configured ended `emotide serve` with an IndexError."""
    path = tmp_path / "emotide.toml"
    path.write_text(text)
    assert f"{path}: {message}" in refused(path=path)
