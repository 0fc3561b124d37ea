"""Voice detector with which a test decides frame by frame what is speech."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stream.analysis.vad import DETECTORS
from tests.support.signals import LoudDetector


@pytest.fixture(scope="module")
def loud_detector() -> Iterator[None]:
    """Register the detector "loud"; one for a module, so that Hypothesis may repeat its tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DETECTORS, "loud", LoudDetector)
        yield
