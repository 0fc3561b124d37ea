"""Services of feedback in one process: the store of marks, the utterances that can be marked."""

from __future__ import annotations

from dataclasses import dataclass

from stream.config import FeedbackConfig
from stream.errors import ConfigError
from stream.feedback.recent import RecentUtterances
from stream.feedback.store import FeedbackStore


@dataclass(frozen=True, slots=True)
class Feedback:
    """Marks on disk, and the newest utterances of live streams."""

    store: FeedbackStore
    recent: RecentUtterances


def feedback_of(config: FeedbackConfig) -> Feedback | None:
    """Return what feedback needs, or None if it is off. Raises `ConfigError`."""
    if not config.enabled:
        return None
    try:
        store = FeedbackStore(config.folder, int(config.max_mb * 1e6))
    except OSError as error:
        raise ConfigError(f"feedback.folder: cannot write {config.folder}: {error}") from None
    return Feedback(store, RecentUtterances(config.recent, int(config.recent_mb * 1e6)))
