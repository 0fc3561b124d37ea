"""Server information: the body of `/v1/info`."""

from __future__ import annotations

from stream import __version__
from stream.config import Config
from stream.labels import LABELS
from stream.protocol.events import model_body
from stream.protocol.version import SUBPROTOCOL
from stream.protocol.wire.mqtt import Info
from stream.recordings.result import NOTICE
from stream.types import ModelInfo


def info(
    config: Config, model: ModelInfo | None, recordings: ModelInfo | None, *, login: bool
) -> Info:
    """Return the body of `/v1/info`; the models are None while they are loading."""
    return {
        "name": "emotide",
        "version": __version__,
        "node": config.server.name,
        "protocol": SUBPROTOCOL,
        "model": model_body(model) if model else None,
        "recordings_model": model_body(recordings) if recordings else None,
        "login": login,
        "limits": config.limits.model_dump(mode="json"),
        "privacy": {
            "analyse_roles": list(config.privacy.analyse_roles),
            "activity_roles": list(config.privacy.activity_roles),
            "employee_basis": config.privacy.employee_basis,
            "require_disclosure": config.privacy.require_disclosure,
            "disclosure": config.privacy.disclosure,
            "audio_kept": config.feedback.enabled and config.feedback.audio,
            "recordings_kept_s": config.files.keep_hours * 3600 if config.files.enabled else 0,
        },
        "feedback": {
            "enabled": config.feedback.enabled,
            "audio": config.feedback.enabled and config.feedback.audio,
            "labels": list(LABELS),
        },
        "history": {
            "enabled": config.history.enabled,
            "keep_days": (config.history.keep_days or None) if config.history.enabled else None,
            "recordings": config.history.enabled and config.history.recordings,
        },
        "notice": NOTICE,
    }
