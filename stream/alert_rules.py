"""Rules of alerts, as the configuration and subscribers state them."""

from __future__ import annotations

import tomllib
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from stream.fields import Horizon, Limits, Role, RuleName
from stream.labels import LABELS, Label
from stream.terms import MAX_RULES, ConversationValue, Index, Severity

OF_STREAM = frozenset(("dead_air", "overlap"))
"""Values that belong to no channel."""

IN_SECONDS = frozenset(("dead_air", "response", "longest_turn"))

Level = Annotated[float, Limits(ge=0, le=3_600)]
HoldTime = Annotated[float, Limits(ge=0, le=600)]
Cooldown = Annotated[float, Limits(ge=0, le=86_400)]
Tag = Annotated[str, Limits(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
Tenant = Annotated[str, Limits(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]


class AlertRule(BaseModel):
    """A condition on a value of a stream, and for how long it must hold.

    The value is exactly one of `label`, `index` and `conversation`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: RuleName
    label: Label | None = None
    """Share of a label, over the horizon."""
    index: Index | None = None
    conversation: ConversationValue | None = None
    trend: bool = False
    """Use the rise of the value over the call instead: the fitted line's end minus its start."""
    horizon: Horizon = "10s"
    """`window`, `call`, or one of `rolling.horizons_s`."""
    above: Level
    """Value from which the condition holds: a share of 0 to 1, or seconds."""
    clear_below: Level | None = None
    """Value below which an alert ends. Default: 0.8 x `above`."""
    for_s: HoldTime = 0.0
    """Seconds of audio for which the condition must hold."""
    cooldown_s: Cooldown = 30.0
    """Seconds of audio after an alert before the next one of this rule."""
    roles: Annotated[tuple[Role, ...], Limits(max_length=16)] = ()
    """Only channels with these roles; empty: all that are analysed."""
    tags: Annotated[tuple[Tag, ...], Limits(max_length=64)] = ()
    """Only streams with one of these tags."""
    tenants: Annotated[tuple[Tenant, ...], Limits(max_length=64)] = ()
    """Only streams of these tenants."""
    severity: Severity = "warning"

    @property
    def clears_below(self) -> float:
        """Effective value below which an alert ends."""
        return 0.8 * self.above if self.clear_below is None else self.clear_below

    @property
    def of_stream(self) -> bool:
        """True if the value belongs to no channel."""
        return self.conversation in OF_STREAM

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        values = (self.label, self.index, self.conversation)
        if sum(value is not None for value in values) != 1:
            raise ValueError("a rule needs exactly one of label, index and conversation")
        if self.label is not None and self.label not in LABELS:
            raise ValueError(f"label {self.label!r} is not one of {', '.join(LABELS)}")
        if self.label in ("unknown", "other"):
            raise ValueError(f"label {self.label!r} says nothing about a voice; choose another one")
        if self.conversation is not None and self.trend:
            raise ValueError("trend is that of a label or an index, not of the conversation")
        if self.above <= 0:
            raise ValueError("above must be larger than 0, or the rule always holds")
        if self.conversation not in IN_SECONDS and self.above > 1:
            raise ValueError("above is a share from 0 to 1 for this value")
        if self.clear_below is not None and self.clear_below > self.above:
            raise ValueError("clear_below must not be larger than above")
        if self.of_stream and self.roles:
            raise ValueError(f"{self.conversation} belongs to the stream; leave roles out")
        return self


_RULES: TypeAdapter[tuple[AlertRule, ...]] = TypeAdapter(
    Annotated[tuple[AlertRule, ...], Limits(max_length=MAX_RULES)]
)


def unique_names(rules: tuple[AlertRule, ...]) -> None:
    """Raise `ValueError` if two rules have one name."""
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"rules: {name!r} names several rules; give each its own name")


def parse_rules(text: str) -> tuple[AlertRule, ...]:
    """Return the rules in a TOML text: its `[[alerts.rules]]`, or its `[[rules]]`.

    Other tables are ignored, so a configuration of the server will do. Raises `ValueError`, which
    names the field.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not valid TOML: {error}") from None
    except RecursionError:
        raise ValueError("not valid TOML: nested too deeply") from None
    alerts = tables.get("alerts", tables)
    found = alerts.get("rules") if isinstance(alerts, dict) else None
    if not found:
        raise ValueError("no rules; begin each one with a line [[alerts.rules]]")
    try:
        rules = _RULES.validate_python(found)
    except ValidationError as error:
        raise ValueError(_first_problem(error)) from None
    unique_names(rules)
    return rules


def _first_problem(error: ValidationError) -> str:
    """Return the first problem with its field, as `rules.0.above: must be ...`.

    A misspelt key comes before the one that is missing for it.
    """
    problems = error.errors(include_url=False)
    misspelt = (one for one in problems if one["type"] == "extra_forbidden")
    problem: Any = next(misspelt, problems[0])
    path = ".".join(["rules", *map(str, problem["loc"])])
    if problem["type"] == "extra_forbidden":
        return f"{path}: unknown key; known keys are {', '.join(AlertRule.model_fields)}"
    shown = problem["input"]
    got = "" if isinstance(shown, dict | list) else f" (got {str(shown)[:64]!r})"
    return f"{path}: {problem['msg'].removeprefix('Value error, ')}{got}"
