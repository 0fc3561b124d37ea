"""Sections `files` and `feedback`: recordings, and labels from listeners."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from stream.config.section import Positive, Section


class FilesConfig(Section):
    enabled: bool = True
    """Accept recordings on /v1/files."""
    folder: Path = Path("outputs")
    """Folder of the results; uploads are deleted once they are decoded."""
    max_mb: Annotated[float, Field(gt=0, le=100_000)] = 200.0
    max_minutes: Annotated[float, Field(gt=0, le=1_440)] = 120.0
    keep_hours: Annotated[float, Field(ge=0)] = 24.0
    """Time after which results are deleted."""
    max_jobs: Annotated[int, Field(ge=1, le=64)] = 2
    """Recordings that are decoded and analysed at a time; others are queued."""
    max_clients: Annotated[int, Field(ge=1)] = 16
    """Connections on /v1/files, each with one recording at a time; and those over HTTP."""
    no_file_timeout_s: Positive = 300.0
    """Time for which a connection on /v1/files may keep its place without a recording."""
    upload_timeout_s: Positive = 3_600.0
    """Time in which a recording must arrive whole."""
    max_downloads: Annotated[int, Field(ge=1)] = 32
    decode_timeout_s: Positive = 30.0
    """A decoder without output for this long is stopped."""
    denoise: bool = True
    """Offer noise suppression; a recording has to request it."""


class FeedbackConfig(Section):
    """Labels from the people who listen, for `python -m training.adapt`."""

    enabled: bool = False
    """Let keys with the scope feedback mark utterances with the right label; the features of marked
    utterances are stored."""
    audio: bool = False
    """Store the audio of marked utterances as well; requires privacy.audit_log."""
    folder: Path = Path("feedback")
    """Folder of the marks, with one folder per tenant."""
    max_mb: Annotated[float, Field(gt=0, le=1_000_000)] = 100.0
    """Bytes on disk of the marks of one tenant."""
    recent: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Utterances per channel of a live stream that can be marked: the newest ones."""
    recent_mb: Annotated[float, Field(gt=0, le=100_000)] = 32.0
    """Memory of one tenant for them; the streams that spoke longest ago lose theirs first."""
