"""Configurations that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from stream.config_file import load
from stream.errors import ConfigError


def refused(**layers: Any) -> str:
    """Return the error of a configuration of these layers; the environment is empty by default."""
    with pytest.raises(ConfigError) as caught:
        load(**{"environ": {}, **layers})
    return str(caught.value)
