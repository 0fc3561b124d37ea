"""Options of a recording's analysis."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, field_validator

from stream.alert_rules import AlertRule, parse_rules
from stream.fields import Limits, Role
from stream.protocol.wire.result import Granularity
from stream.terms import MAX_TRACKS
from stream.types import MAX_CHANNELS

Language = Annotated[str, Limits(pattern=r"^([A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*)?$", max_length=35)]
"""Language tag (RFC 5646), or an empty string."""


RulesText = Annotated[str, Limits(max_length=16_384)]


class ShortFileOptions(BaseModel):
    """Options of a recording's analysis that fit into a URL; an unknown one is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    granularity: Granularity = "utterance"
    """`frame` adds the shares of every frame to result.json and to the `emotion.score` events."""
    embedding: bool = False
    """Write embedding.npy. Refused if the model has no embeddings."""
    denoise: bool = False
    """Suppress noise before the analysis."""
    baseline: bool | None = None
    """Move scores towards what is unusual for the voice; by default as the server does."""
    language: Language = ""
    """Spoken language, as a language tag; a hint warns if the model was not evaluated on it."""
    roles: Annotated[tuple[Role, ...], Limits(max_length=MAX_CHANNELS)] = ()
    """One role per channel; by default `speaker`, or `customer` and `agent`."""
    disclosed: bool = False
    """The speakers were informed of the analysis."""
    track: Annotated[int, Limits(ge=0, le=MAX_TRACKS)] = 0
    """Audio track to analyse, counted from 1; 0 is the one that the file marks as its default."""
    server_rules: bool = False
    """Try the server's rules of alerts: the result has the alerts that they would have raised."""

    def given(self) -> dict[str, Any]:
        """Return the options as JSON; those that came later are left out unless they are set."""
        options = self.model_dump(mode="json")
        later = {"track", "server_rules", "rules"}
        return {name: value for name, value in options.items() if value or name not in later}


class FileOptions(ShortFileOptions):
    """Options of a recording's analysis."""

    rules: RulesText = ""
    """Rules of alerts to try, as TOML with `[[alerts.rules]]`, as in the server's configuration."""

    @field_validator("rules")
    @classmethod
    def _rules_are_valid(cls, text: str) -> str:
        if text.strip():
            parse_rules(text)
        return text

    @property
    def alert_rules(self) -> tuple[AlertRule, ...]:
        """The rules in `rules`."""
        return parse_rules(self.rules) if self.rules.strip() else ()
