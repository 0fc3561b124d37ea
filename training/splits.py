"""Splits of clips by voice: what is kept for measurement, and folds of cross-validation.

A group is never on both sides of a split: a speaker, or, where a corpus does not identify its
speakers, all of its clips, or all of one language if it has several.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from training.data import Clip
from training.measure import Ints

BY_LANGUAGE = frozenset({"sentences", "prompts"})
"""Calm corpora in which recordings of one language may share a speaker."""

MEASURED_GROUPS = frozenset({"orders/unknown"})
"""Groups that are kept for measurement whatever the draw: speakers who are not identified."""


def group(clip: Clip) -> str:
    """Return the name of the clip's group."""
    return f"{clip.corpus}/{clip.language if clip.corpus in BY_LANGUAGE else clip.speaker}"


def draw(text: str, sides: int) -> int:
    """Return a number from 0 to `sides` - 1 that depends on the text only."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % sides


def is_measured(clip: Clip) -> bool:
    """Return whether a calm clip is kept for measurement: half of the groups are."""
    name = group(clip)
    return name in MEASURED_GROUPS or draw(name, 2) == 1


def folds_of(clips: Sequence[Clip], folds: int) -> Ints:
    """Return the fold in which each clip is left out, int[clips]; groups take turns."""
    names = sorted({group(clip) for clip in clips})
    turn = {name: i % folds for i, name in enumerate(names)}
    return np.array([turn[group(clip)] for clip in clips], np.int64)
