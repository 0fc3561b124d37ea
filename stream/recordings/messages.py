"""Bodies of the server's messages on /v1/files. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stream.admission import denoises
from stream.config import Config
from stream.protocol.events import model_body
from stream.recordings.analysis import Progress
from stream.recordings.log import LogEntry
from stream.recordings.store import StoredResult
from stream.types import Body, ModelInfo, timestamp

FORMATS = ("WAV", "MP3", "M4A", "FLAC", "OGG", "Opus", "WebM", "AIFF", "WMA", "AMR", "MP4", "MOV")
"""Common formats, for display; every other format that FFmpeg decodes is accepted too."""


def ready(config: Config, model: ModelInfo) -> Body:
    """Return the body of `files.ready`: limits, model, formats."""
    files, limits = config.files, config.limits
    return {
        "type": "files.ready",
        "limits": {
            "max_bytes": int(files.max_mb * 1e6),
            "max_s": files.max_minutes * 60,
            "max_message_bytes": limits.max_message_bytes,
            "keep_s": files.keep_hours * 3600,
            "idle_timeout_s": limits.idle_timeout_s,
        },
        "model": model_body(model),
        "denoise": denoises(config),
        "formats": list(FORMATS),
    }


def progress(file_id: str, state: Progress) -> Body:
    """Return the body of `file.progress`."""
    return {"type": "file.progress", "file_id": file_id, **state.body()}


def logged(file_id: str, entry: LogEntry) -> Body:
    """Return the body of `file.log`."""
    body: Body = {
        "type": "file.log",
        "file_id": file_id,
        "level": entry.level,
        "message": entry.message,
        "code": entry.code,
    }
    return {**body, "values": dict(entry.values)} if entry.values else body


def done(file_id: str, result: Body, stored: StoredResult, sizes: Sequence[int]) -> Body:
    """Return the body of `file.done`; `sizes` are bytes, in the order of `stored.names`."""
    return {
        "type": "file.done",
        "file_id": file_id,
        "result": result,
        "files": [
            {"name": name, "bytes": size, "url": f"/v1/results/{stored.id}/{name}"}
            for name, size in zip(stored.names, sizes, strict=True)
        ],
        "expires": timestamp(stored.expires),
    }


def title(name: str) -> str:
    """Return the base name of downloads for a file called `name`: letters, digits, _ and -."""
    last = re.split(r"[/\\]", name)[-1]
    stem = last.rpartition(".")[0] or last
    return re.sub(r"[^\w-]+", "-", stem).strip("-")[:80] or "recording"
