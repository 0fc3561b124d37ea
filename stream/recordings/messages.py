"""What the server says on /v1/files, as bodies without a socket. Pure."""

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
"""What people have; every other format that FFmpeg decodes is as welcome."""


def ready(config: Config, model: ModelInfo) -> Body:
    """The greeting: what this server takes and offers."""
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


def progress(file_id: str, now: Progress) -> Body:
    """How far a recording is."""
    return {"type": "file.progress", "file_id": file_id, **now.body()}


def logged(file_id: str, note: LogEntry) -> Body:
    """A line of a recording's log."""
    body: Body = {
        "type": "file.log",
        "file_id": file_id,
        "level": note.level,
        "message": note.message,
        "code": note.code,
    }
    return {**body, "values": dict(note.values)} if note.values else body


def done(file_id: str, result: Body, kept: StoredResult, sizes: Sequence[int]) -> Body:
    """A result and where its files are; `sizes` are their bytes, in the order of their names."""
    return {
        "type": "file.done",
        "file_id": file_id,
        "result": result,
        "files": [
            {"name": name, "bytes": size, "url": f"/v1/results/{kept.id}/{name}"}
            for name, size in zip(kept.names, sizes, strict=True)
        ],
        "expires": timestamp(kept.expires),
    }


def title(name: str) -> str:
    """What downloads of a file called `name` are named after: letters, digits and - alone."""
    last = re.split(r"[/\\]", name)[-1]
    stem = last.rpartition(".")[0] or last
    return re.sub(r"[^\w-]+", "-", stem).strip("-")[:80] or "recording"
