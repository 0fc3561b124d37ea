"""Exports of the history as Parquet, a row group for each chunk of sessions. Needs pyarrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa

from stream.errors import ConfigError
from stream.history.queries.export import Connect, in_parts, spoken
from stream.history.queries.filters import Filter
from stream.history.queries.sessions import bodies, roles_of
from stream.labels import LABELS
from stream.protocol.history import ExportRows

Row = dict[str, Any]


def write(
    path: Path,
    connect: Connect,
    wanted: Filter,
    rows: ExportRows,
    progress: Callable[[int], None] = lambda sessions: None,
) -> None:
    """Write a file; `progress` gets counts of sessions. Raises `ConfigError` without pyarrow."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ConfigError(
            "Parquet needs pyarrow: pip install 'emotide[parquet]', or export CSV or JSON lines"
        ) from None
    schema = _schema(pa, rows)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        made = _sessions if rows == "sessions" else _utterances

        def table(connection: sa.Connection, numbers: list[int]) -> Any:
            return pa.Table.from_pylist(list(made(connection, numbers)), schema)

        for part in in_parts(connect, wanted, table, progress):
            writer.write_table(part)


def _schema(pa: Any, rows: ExportRows) -> Any:
    text, texts, number = pa.string(), pa.list_(pa.string()), pa.float64()
    of_session = {"stream_id": text, "tenant": text, "started_at": pa.timestamp("ms", "UTC")}
    labels = {label: pa.float32() for label in LABELS}
    if rows == "sessions":
        fields = {
            **{"id": text, **of_session, "kind": text, "duration_s": number, "speech_s": number},
            **{"tags": texts, "roles": texts, "dominant": text, "activation": pa.float32()},
            **{"alert_count": pa.int32(), "severity": text, "dead_air_s": number, "model": text},
        }
    else:
        fields = {
            **{"session": text, **of_session, "channel": pa.int8(), "role": text},
            **{"position": pa.int32(), "start_s": number, "end_s": number},
            **{"activation": pa.float32(), "hints": texts, "baseline_weight": pa.float32()},
        }
    return pa.schema([*fields.items(), *labels.items()])


def _sessions(connection: sa.Connection, numbers: list[int]) -> Iterator[Row]:
    for body in bodies(connection, numbers):
        started = datetime.fromisoformat(body["started_at"])
        yield {**body, "started_at": started, **_shares(body["labels"])}


def _utterances(connection: sa.Connection, numbers: list[int]) -> Iterator[Row]:
    for session, said in spoken(connection, numbers):
        roles = roles_of(session.detail)
        of = {
            "session": session.uid,
            "stream_id": session.stream_id,
            "tenant": session.tenant,
            "started_at": datetime.fromtimestamp(session.started_ms / 1000, UTC),
        }
        for _, channel, position, start, end, scores, activation, hints, weight in said:
            yield {
                **of,
                "channel": channel,
                "role": roles.get(channel, "speaker"),
                "position": position,
                "start_s": start / 1000,
                "end_s": end / 1000,
                "activation": activation,
                "hints": orjson.loads(hints),
                "baseline_weight": weight,
                **_shares(orjson.loads(scores)),
            }


def _shares(scores: Mapping[str, float]) -> Row:
    return {label: scores.get(label) for label in LABELS}
