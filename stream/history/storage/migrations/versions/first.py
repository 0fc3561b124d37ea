"""Sessions with their utterances, gaps and alerts; roll-ups by hour; erasures."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

LABELS = (
    *("angry", "disgusted", "fearful", "happy", "neutral"),
    *("other", "sad", "surprised", "unknown"),
)
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "sessions",
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
    )
    scanned = ("started_ms", "uid", "kind", "duration_s", "activation", "dominant", "alerts")
    _index("sessions_scan", "sessions", "tenant", *scanned)
    _index("sessions_started", "sessions", "started_ms")
    _index("sessions_stream", "sessions", "tenant", "stream_id")
    _index("sessions_activation", "sessions", "tenant", "activation")
    _index("sessions_duration", "sessions", "tenant", "duration_s")
    for table, column in (("session_tags", "tag"), ("session_roles", "role")):
        _child(table, sa.Column(column, sa.Text, primary_key=True), *_of_session())
        _index(f"{table}_{column}", table, "tenant", column, "session_started_ms", "session")
    _child(
        "session_labels",
        sa.Column("label", sa.Text, primary_key=True),
        sa.Column("share", sa.Float, nullable=False),
        *_of_session(),
    )
    _index("session_labels_share", "session_labels", "tenant", "label", "share", "session")
    _child(
        "session_attributes",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    _index("session_attributes_value", "session_attributes", "name", "value")
    _child(
        "utterances",
        sa.Column("channel", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("start_ms", sa.BigInteger, nullable=False),
        sa.Column("end_ms", sa.BigInteger, nullable=False),
        sa.Column("scores", sa.JSON, nullable=False),
        sa.Column("activation", sa.Float),
        sa.Column("hints", sa.JSON, nullable=False),
        sa.Column("baseline_weight", sa.Float, nullable=False),
    )
    _child(
        "gaps",
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("channel", sa.Integer, nullable=False),
        sa.Column("start_ms", sa.BigInteger, nullable=False),
        sa.Column("end_ms", sa.BigInteger, nullable=False),
        sa.Column("missing_ms", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    _child(
        "session_alerts",
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
    )
    by_rule = ("tenant", "rule", "session_started_ms", "session")
    _index("session_alerts_rule", "session_alerts", *by_rule)
    hour = [
        ("tenant", sa.Text),
        ("tag", sa.Text),
        ("hour_ms", sa.BigInteger),
    ]
    op.create_table(
        "rollups",
        *(sa.Column(name, kind, primary_key=True, autoincrement=False) for name, kind in hour),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("speech_s", sa.Float, nullable=False),
        sa.Column("scored_s", sa.Float, nullable=False),
        sa.Column("activation_s", sa.Float, nullable=False),
        sa.Column("activation_sum", sa.Float, nullable=False),
        sa.Column("alerts", sa.BigInteger, nullable=False),
        sa.Column("dead_air_calls", sa.BigInteger, nullable=False),
        sa.Column("dead_air_s", sa.Float, nullable=False),
        *(sa.Column(label, sa.Float) for label in LABELS),
        sqlite_with_rowid=False,
    )
    _index("rollups_hour", "rollups", "hour_ms")
    op.create_table(
        "erasures",
        sa.Column("number", NUMBER, primary_key=True),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("before_ms", sa.BigInteger, nullable=False),
    )
    _index("erasures_digest", "erasures", "digest")


def downgrade() -> None:
    for table in (
        "erasures",
        "rollups",
        "session_alerts",
        "gaps",
        "utterances",
        "session_attributes",
        "session_labels",
        "session_roles",
        "session_tags",
        "sessions",
    ):
        op.drop_table(table)


def _child(name: str, *columns: sa.Column[Any]) -> None:
    """Create a table of rows that belong to a session."""
    reference = sa.ForeignKey("sessions.number", ondelete="CASCADE")
    session = sa.Column("session", NUMBER, reference, primary_key=True, autoincrement=False)
    op.create_table(name, session, *columns, sqlite_with_rowid=False)


def _of_session() -> tuple[sa.Column[Any], ...]:
    """Return copies of a session's tenant and start, so that one index answers a filter."""
    return (
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("session_started_ms", sa.BigInteger, nullable=False),
    )


def _index(name: str, table: str, *columns: str) -> None:
    op.create_index(name, table, [*columns])
