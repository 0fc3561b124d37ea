"""Choice of one of several audio tracks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from av.stream import Disposition

SPECIAL = (
    Disposition.comment
    | Disposition.visual_impaired
    | Disposition.karaoke
    | Disposition.lyrics
    | Disposition.clean_effects
)
"""Tracks that accompany another one: commentary, audio description."""


def default_track(dispositions: Sequence[Disposition]) -> int:
    """Return the index of the track that a player takes: the first one marked default.

    Without a mark it is the first one that is not a commentary or the like.
    """
    marked = [n for n, marks in enumerate(dispositions) if marks & Disposition.default]
    plain = [n for n in marked or range(len(dispositions)) if not dispositions[n] & SPECIAL]
    return (plain or marked or [0])[0]


def marks(stream: Any) -> Disposition:
    """Return the marks of a stream of PyAV."""
    return Disposition(stream.disposition)
