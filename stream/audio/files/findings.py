"""Properties of a whole recording that its log and its result report. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stream.audio.files.frame_clock import Timing


@dataclass(frozen=True, slots=True)
class Findings:
    """Results of the survey of a recording.

    `levels_dbfs`: level of the loudest 0.4 s of every channel of the file. `gain_db`: change of the
    level before the analysis. `left_out`: bytes behind the sound that were not decoded.
    """

    levels_dbfs: tuple[float, ...] = ()
    gain_db: float = 0.0
    timing: Timing = field(default_factory=Timing)
    left_out: int = 0

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Findings:
        """Return the findings whose `asdict` was sent as JSON."""
        levels = tuple(fields["levels_dbfs"])
        return cls(**{**fields, "levels_dbfs": levels, "timing": Timing(**fields["timing"])})
