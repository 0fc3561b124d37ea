"""Bodies of the server's messages about recordings, on WebSockets and over HTTP. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import cast

from stream.admission import denoises
from stream.config import Config
from stream.protocol.errors import ProtocolError
from stream.protocol.events import model_body
from stream.protocol.wire import recordings as wire
from stream.protocol.wire.analysis import AnalysisBody, FileAnalysisBody
from stream.protocol.wire.result import Result
from stream.recordings.analysis import Progress
from stream.recordings.log import LogEntry
from stream.recordings.store import StoredResult
from stream.recordings.trial import rules_of
from stream.types import Body, ModelInfo, timestamp

FORMATS = ("WAV", "MP3", "M4A", "FLAC", "OGG", "Opus", "WebM", "AIFF", "WMA", "AMR", "MP4", "MOV")
"""Common formats, for display; every other format that FFmpeg decodes is accepted too."""


def ready(config: Config, model: ModelInfo, tenant: str) -> wire.FilesReadyBody:
    """Return the body of `files.ready`: limits, model, formats, rules that a tenant can try."""
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
        "rules": [rule.name for rule in rules_of(config, tenant)],
    }


def progress(file_id: str, state: Progress) -> wire.FileProgressBody:
    """Return the body of `file.progress`."""
    return {"type": "file.progress", "file_id": file_id, **state.body()}


def analysed(file_id: str, body: AnalysisBody) -> FileAnalysisBody:
    """Return the body of an event of the analysis, as a live stream has it, with its recording."""
    # The events of recordings have the same fields and `file_id`; a test compares the types.
    return cast(FileAnalysisBody, {**body, "file_id": file_id})


def logged(file_id: str, entry: LogEntry) -> wire.FileLogBody:
    """Return the body of `file.log`."""
    return {"type": "file.log", "file_id": file_id, **log_fields(entry)}


def log_fields(entry: LogEntry) -> wire.LogFields:
    """Return the fields of a log entry."""
    body: wire.LogFields = {"level": entry.level, "message": entry.message, "code": entry.code}
    if entry.values:
        body["values"] = entry.values
    return body


def failure(error: ProtocolError) -> Body:
    """Return the fields of an error over HTTP: those of `error`, with its message as `error`."""
    skipped = ("type", "message", "fatal", "file_id")
    fields = {key: value for key, value in error.body().items() if key not in skipped}
    return {"error": error.message, **fields}


def done(
    file_id: str, result: Result, stored: StoredResult, sizes: Sequence[int]
) -> wire.FileDoneBody:
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
