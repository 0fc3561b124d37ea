"""A few mutated recordings of every format; `python -m tests.fuzz.media` decodes more."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fuzz import media


async def test_mutated_recordings_are_decoded_or_refused_with_a_reason(tmp_path: Path) -> None:
    outcomes = await media.fuzz(seed=1, seconds=60, count=16, folder=tmp_path)
    assert outcomes.total() >= 8, "too slow"
    assert len(outcomes) > 1, "mutations matter"


def test_mutations_are_the_same_for_the_same_seed() -> None:
    content = bytes(range(256)) * 8
    one, two, other = (media.mutate(content, random.Random(seed)) for seed in (1, 1, 2))
    assert one == two
    assert one != other
