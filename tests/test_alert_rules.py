"""Rules of alerts as text."""

from __future__ import annotations

import pytest

from stream.alert_rules import parse_rules

RULE = '[[alerts.rules]]\nname = "a"\nlabel = "angry"\nabove = 0.6\n'


def test_a_configuration_or_its_rules_alone_are_read() -> None:
    for text in (RULE, RULE.replace("alerts.", ""), f"[server]\nport = 9\n{RULE}"):
        [rule] = parse_rules(text)
        assert (rule.name, rule.label, rule.above) == ("a", "angry", 0.6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no rules; begin each one with a line \[\[alerts.rules\]\]"),
        ("[alerts]\nrules = []", "no rules"),
        ("alerts = 3", "no rules"),
        ("[[alerts.rules", "not valid TOML"),
        ("a = " + "[" * 4_000, "not valid TOML"),
        (RULE.replace("0.6", "1.6"), r"rules\.0: above is a share from 0 to 1"),
        (RULE.replace("0.6", "'much'"), r"rules\.0\.above: .*number.* \(got 'much'\)"),
        (RULE + RULE.replace("above", "treshold"), r"rules\.1\.treshold: unknown key; .*above"),
        (RULE.replace("above = 0.6", ""), r"rules\.0\.above: Field required"),
        (RULE + RULE, "'a' names several rules"),
        ("".join(RULE.replace('"a"', f'"a{n}"') for n in range(33)), "at most 32"),
        ("[alerts.rules]\nname = 'a'", "rules: "),
    ],
)
def test_a_mistake_is_named_with_its_field(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_rules(text)
