"""Voice activity of a channel that is only observed: positions across holes."""

from __future__ import annotations

import pytest

from stream.analysis.activity import ActivityChannel
from stream.analysis.talk import Activity
from stream.analysis.vad import VadSettings
from stream.types import FRAME
from tests.support.signals import noise

UNHEARD, SILENT = Activity.UNHEARD, Activity.SILENT


def channel(samples: int) -> ActivityChannel:
    """Return a channel that has received faint noise."""
    made = ActivityChannel(VadSettings())
    made.feed(noise(samples / 16_000, -80))
    return made


@pytest.mark.parametrize("received", [0, 100, FRAME, 10 * FRAME + 7])
@pytest.mark.parametrize("skipped", [1, 219, 220, FRAME - 1, FRAME, 3 * FRAME, 50_001])
def test_a_hole_moves_the_position_by_its_length(received: int, skipped: int) -> None:
    observed = channel(received)
    observed.skip(skipped)
    assert observed.position == received + skipped
    observed.feed(noise(1.0, -80))
    assert observed.position == received + skipped + 16_000
    assert observed.talk.position == observed.position // FRAME * FRAME


@pytest.mark.parametrize(
    ("skipped", "unheard"),
    [
        (220 + FRAME - 1, []),
        (220 + FRAME, [(FRAME, UNHEARD), (2 * FRAME, SILENT)]),
        (220 + 5 * FRAME + 7, [(FRAME, UNHEARD), (6 * FRAME, SILENT)]),
    ],
)
def test_whole_frames_of_a_hole_are_unheard(
    skipped: int, unheard: list[tuple[int, Activity]]
) -> None:
    """Of 100 samples and a hole, 220 complete the first frame."""
    observed = channel(100)
    observed.skip(skipped)
    assert list(observed.talk.changes) == unheard
