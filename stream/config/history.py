"""Section `history`: finished sessions in a database."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from stream.config.section import Section, TenantName

Days = Annotated[float, Field(ge=0, le=36_500)]

SQLITE = "sqlite:///"
URL = rf"({SQLITE}.+|postgresql://.+)"


def _database(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    if text and re.fullmatch(URL, text) is None:
        raise ValueError("must be sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME")
    if text.startswith("sqlite:///:memory:"):
        raise ValueError("a database in memory keeps nothing; name a file")
    return url


class HistoryConfig(Section):
    """History of finished sessions: scores, never audio, words or features; docs/operations.md."""

    url: Annotated[SecretStr, AfterValidator(_database)] = SecretStr("")
    """Database: sqlite:///FILE (one server) or postgresql://USER:PASSWORD@HOST/NAME; empty: nothing
    is kept."""
    keep_days: Days = 90.0
    """Days after which a session is deleted; 0: never."""
    tenants: dict[TenantName, Days] = Field(default_factory=dict)
    """Days of tenants with a time of their own."""
    recordings: bool = False
    """Keep the results of recordings (/v1/files) as well."""
    spool: Path = Path("history-spool")
    """Folder of sessions that wait for the database; each server needs its own."""
    spool_mb: Annotated[float, Field(ge=1, le=1_000_000)] = 256.0
    """Size of that folder; beyond it the oldest sessions are dropped, and counted."""
    queue_mb: Annotated[float, Field(ge=1, le=100_000)] = 16.0
    """Memory for finished sessions that wait for the writer."""
    live_mb: Annotated[float, Field(ge=1, le=100_000)] = 64.0
    """Memory for the utterances of live streams; those beyond it are left out of their sessions."""
    checkpoint_s: Annotated[float, Field(ge=1, le=3_600)] = 30.0
    """Seconds between two copies of live streams on disk, in case the server is killed."""

    @property
    def enabled(self) -> bool:
        return bool(self.url.get_secret_value())

    @property
    def is_sqlite(self) -> bool:
        return self.sqlite_file is not None

    @property
    def sqlite_file(self) -> Path | None:
        """File of an SQLite database; None for another one."""
        url = self.url.get_secret_value()
        return Path(url.removeprefix(SQLITE)) if url.startswith(SQLITE) else None

    def days(self, tenant: str) -> float | None:
        """Return the days for which a tenant's sessions are kept; None: until they are erased."""
        return self.tenants.get(tenant, self.keep_days) or None
