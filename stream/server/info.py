"""What a server says of itself: `/v1/info`, and the version."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from stream.config import Config
from stream.protocol.events import model_body
from stream.protocol.parsing import SUBPROTOCOL
from stream.recordings.result import NOTICE
from stream.types import Body, ModelInfo

try:
    VERSION = version("emotide")
except PackageNotFoundError:
    VERSION = "0"


def info(config: Config, model: ModelInfo | None, *, login: bool) -> Body:
    """The body of `/v1/info`; without a `model` while it is loading."""
    return {
        "name": "emotide",
        "version": VERSION,
        "node": config.server.name,
        "protocol": SUBPROTOCOL,
        "model": model_body(model) if model else None,
        "login": login,
        "limits": config.limits.model_dump(mode="json"),
        "privacy": {
            "analyse_roles": list(config.privacy.analyse_roles),
            "employee_basis": config.privacy.employee_basis,
            "require_disclosure": config.privacy.require_disclosure,
            "disclosure": config.privacy.disclosure,
            "audio_kept": False,
            "recordings_kept_s": config.files.keep_hours * 3600 if config.files.enabled else 0,
        },
        "notice": NOTICE,
    }
