"""Registries whose sessions tick fast."""

from __future__ import annotations

import pytest

from stream.sessions import registry


@pytest.fixture
def short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pause between two ticks to 2 ms."""
    monkeypatch.setattr(registry, "TICK_S", 0.002)
