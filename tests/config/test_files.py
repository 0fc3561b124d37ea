"""Labels from listeners that keep recorded speech."""

from __future__ import annotations

import pytest

from stream.config import Config


def test_audio_without_an_audit_log_is_refused() -> None:
    with pytest.raises(ValueError, match=r"feedback\.audio .* set privacy\.audit_log"):
        Config.model_validate({"feedback": {"enabled": True, "audio": True}})
