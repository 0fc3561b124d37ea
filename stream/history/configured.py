"""The history that a configuration asks for; imports its libraries only then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.config import Config
from stream.errors import ConfigError
from stream.telemetry.audit import AuditLog
from stream.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from stream.history.service import History


def history_of(config: Config, metrics: Metrics, audit: AuditLog) -> History | None:
    """Return the history; None without `history.url`. Raises `ConfigError`."""
    if not config.history.enabled:
        audit.record("history.off")
        return None
    try:
        from stream.history.service import History

        return History(config, metrics, audit)
    except ImportError as error:
        raise ConfigError(
            f"history.url: the package {error.name} is not installed: pip install "
            "'emotide[history]', or leave history.url empty"
        ) from None
