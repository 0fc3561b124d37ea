"""Memory, descriptors, threads and tasks of a server over time, and the judgement of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

GROWTH_MB = 10.0
"""Fitted growth of the resident memory over the second half of a row that counts as a leak."""

SLACK = {"fds": 4, "threads": 2, "tasks": 4}
"""Differences to the state before the row that do not count, once the row has ended."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """One sample: seconds since the row began, resident MiB, and three counts."""

    at: float
    rss_mb: float
    fds: int
    threads: int
    tasks: int


def growth_mb(samples: Sequence[Vitals]) -> float:
    """Return the growth of the memory over the second half, by the line of least squares, in MiB.

    Warm-up belongs to the first half: pools, caches and the allocator's arenas. A line does not
    depend on the one sample that happens to be the last.
    """
    if not samples:
        return 0.0
    middle = samples[0].at + (samples[-1].at - samples[0].at) / 2
    late = [sample for sample in samples if sample.at >= middle]
    if len(late) < 3:
        return 0.0
    times = np.array([sample.at for sample in late])
    slope = np.polyfit(times - times[0], [sample.rss_mb for sample in late], 1)[0]
    return float(slope * (times[-1] - times[0]))


def per_hour(samples: Sequence[Vitals]) -> float:
    """Return the growth of the memory in the second half as MiB an hour."""
    span = (samples[-1].at - samples[0].at) / 2 if samples else 0.0
    return growth_mb(samples) / span * 3600 if span else 0.0


def problems(before: Vitals, samples: Sequence[Vitals], after: Vitals) -> list[str]:
    """Return what grew: `before` and `after` are samples without load, `samples` those under it."""
    found = []
    if (growth := growth_mb(samples)) > GROWTH_MB:
        found.append(f"memory grew by {growth:.0f} MB in the second half")
    for name, slack in SLACK.items():
        was, now = getattr(before, name), getattr(after, name)
        if now > was + slack:
            found.append(f"{now - was} {name} are left")
    return found
