"""Tables of the history. `migrations/` makes them; a test compares the two."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from stream.labels import LABELS

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""Type of `sessions.number`: SQLite counts up INTEGER primary keys only."""

metadata = sa.MetaData()


def _session(**options: Any) -> sa.Column[int]:
    reference = sa.ForeignKey("sessions.number", ondelete="CASCADE")
    return sa.Column("session", NUMBER, reference, nullable=False, **options)


def _of_session() -> tuple[sa.Column[str], sa.Column[int]]:
    """Return copies of a session's tenant and start, so that one index answers a filter."""
    return (
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("session_started_ms", sa.BigInteger, nullable=False),
    )


SCANNED: Final = (
    *("tenant", "started_ms", "uid", "kind", "duration_s", "activation", "dominant", "alerts"),
)
"""Columns of the index by time. It has all that is filtered, so that no rows are read for it."""

sessions: Final = sa.Table(
    "sessions",
    metadata,
    sa.Column("number", NUMBER, primary_key=True),
    sa.Column("uid", sa.Text, nullable=False, unique=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("stream_id", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("node", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("model_license", sa.Text, nullable=False),
    sa.Column("started_ms", sa.BigInteger, nullable=False),
    sa.Column("duration_s", sa.Float, nullable=False),
    sa.Column("speech_s", sa.Float, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("activation", sa.Float),
    sa.Column("dominant", sa.Text),
    sa.Column("alerts", sa.Integer, nullable=False),
    sa.Column("severity", sa.Text),
    sa.Column("dead_air_s", sa.Float),
    *(sa.Column(label, sa.Float) for label in LABELS),
    sa.Column("detail", sa.JSON, nullable=False),
    sa.Index("sessions_scan", *SCANNED),
    sa.Index("sessions_started", "started_ms"),
    sa.Index("sessions_stream", "tenant", "stream_id"),
    sa.Index("sessions_activation", "tenant", "activation"),
    sa.Index("sessions_duration", "tenant", "duration_s"),
)
"""One row per finished session; `started_ms` is Unix time in milliseconds.

Each label has its share as in `session_labels`, so that a summary reads one row per session."""

session_tags: Final = sa.Table(
    "session_tags",
    metadata,
    _session(primary_key=True),
    sa.Column("tag", sa.Text, primary_key=True),
    *_of_session(),
    sa.Index("session_tags_tag", "tenant", "tag", "session_started_ms", "session"),
    sqlite_with_rowid=False,
)

session_roles: Final = sa.Table(
    "session_roles",
    metadata,
    _session(primary_key=True),
    sa.Column("role", sa.Text, primary_key=True),
    *_of_session(),
    sa.Index("session_roles_role", "tenant", "role", "session_started_ms", "session"),
    sqlite_with_rowid=False,
)

session_labels: Final = sa.Table(
    "session_labels",
    metadata,
    _session(primary_key=True),
    sa.Column("label", sa.Text, primary_key=True),
    sa.Column("share", sa.Float, nullable=False),
    *_of_session(),
    sa.Index("session_labels_share", "tenant", "label", "share", "session"),
    sqlite_with_rowid=False,
)
"""Mean share of each label over a session, weighted by speech."""

session_attributes: Final = sa.Table(
    "session_attributes",
    metadata,
    _session(primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Index("session_attributes_value", "name", "value"),
    sqlite_with_rowid=False,
)
"""Attributes of a stream; values are hashed like stream ids, so they serve erasure only."""

utterances: Final = sa.Table(
    "utterances",
    metadata,
    _session(primary_key=True),
    sa.Column("channel", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("start_ms", sa.BigInteger, nullable=False),
    sa.Column("end_ms", sa.BigInteger, nullable=False),
    sa.Column("scores", sa.JSON, nullable=False),
    sa.Column("activation", sa.Float),
    sa.Column("hints", sa.JSON, nullable=False),
    sa.Column("baseline_weight", sa.Float, nullable=False),
    sqlite_with_rowid=False,
)

gaps: Final = sa.Table(
    "gaps",
    metadata,
    _session(primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("channel", sa.Integer, nullable=False),
    sa.Column("start_ms", sa.BigInteger, nullable=False),
    sa.Column("end_ms", sa.BigInteger, nullable=False),
    sa.Column("missing_ms", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

session_alerts: Final = sa.Table(
    "session_alerts",
    metadata,
    _session(primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("role", sa.Text),
    sa.Column("started_ms", sa.BigInteger, nullable=False),
    sa.Column("ended_ms", sa.BigInteger),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("acknowledged_by", sa.Text),
    sa.Column("acknowledged_ms", sa.BigInteger),
    *_of_session(),
    sa.Index("session_alerts_rule", "tenant", "rule", "session_started_ms", "session"),
    sqlite_with_rowid=False,
)
"""`started_ms` and `ended_ms` are positions of the stream, `acknowledged_ms` is Unix time."""

rollups: Final = sa.Table(
    "rollups",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("tag", sa.Text, primary_key=True),
    sa.Column("hour_ms", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("calls", sa.BigInteger, nullable=False),
    sa.Column("speech_s", sa.Float, nullable=False),
    sa.Column("scored_s", sa.Float, nullable=False),
    sa.Column("activation_s", sa.Float, nullable=False),
    sa.Column("activation_sum", sa.Float, nullable=False),
    sa.Column("alerts", sa.BigInteger, nullable=False),
    sa.Column("dead_air_calls", sa.BigInteger, nullable=False),
    sa.Column("dead_air_s", sa.Float, nullable=False),
    *(sa.Column(label, sa.Float) for label in LABELS),
    sa.Index("rollups_hour", "hour_ms"),
    sqlite_with_rowid=False,
)
"""Sums over the sessions of a tenant that began in one hour and have a tag; tag "": all of them.

`scored_s` is the speech of sessions with labels. Each label has the sum of its share x speech in
seconds, null where no session had it: the mean share is this over `scored_s`. `activation_s` is the
speech of sessions with an activation: the mean is `activation_sum` over that. `dead_air_calls` are
the sessions in which a conversation was measured.
"""

erasures: Final = sa.Table(
    "erasures",
    metadata,
    sa.Column("number", NUMBER, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("before_ms", sa.BigInteger, nullable=False),
    sa.Index("erasures_digest", "digest"),
)
"""Keyed hashes of what was erased: sessions that began before it and still wait in a spool, on this
machine or another, must not come back."""
