"""Derive the tables that streams need, with their columns, from contracts and SQL."""

from collections.abc import Iterable
from pathlib import Path

import duckdb

from lakehouse.contracts.sql import BRONZE_COLUMNS, quote
from lakehouse.contracts.streams import Query, Stream
from lakehouse.engine.connection import bind, describe
from lakehouse.errors import ContractError
from lakehouse.pipeline.lineage.properties import defined_by
from lakehouse.storage.iceberg.schema import TableSpec

Columns = tuple[tuple[str, str], ...]
"""Columns as (name, DuckDB type)."""

ORIGIN_COLUMNS: Columns = (("_object", "VARCHAR"), ("_row", "BIGINT"), ("_arrived_at", "TIMESTAMP"))
"""Where a row came from: its landing object, its number there, and when the object arrived."""

ALERT_COLUMNS: Columns = (
    ("dt", "DATE"),
    ("alert", "VARCHAR"),
    ("severity", "VARCHAR"),
    ("entity", "VARCHAR"),
    ("event_time", "TIMESTAMP"),
    ("value", "DOUBLE"),
    ("threshold", "DOUBLE"),
    ("message", "VARCHAR"),
    ("event_key", "VARCHAR"),
)
DAYS_COLUMNS: Columns = (("dt", "DATE"),)
"""The input `days` of `features.sql`."""

WINDOWS_COLUMNS: Columns = (("as_of", "DATE"), ("dt", "DATE"), ("in_1d", "BOOLEAN"), ("in_7d", "BOOLEAN"))
"""The input `windows` of `features.sql`; see `WINDOWS_SQL` in `features`."""

METRIC_COLUMNS: Columns = (
    ("date_key", "DATE"),
    ("stream", "VARCHAR"),
    ("metric_name", "VARCHAR"),
    ("metric_value", "DOUBLE"),
    ("dimensions", "MAP(VARCHAR, VARCHAR)"),
)

FREQUENT_COMMIT_PROPERTIES = {"lakehouse.snapshots-kept": "48"}
"""Keep few snapshots of tables that are committed every few minutes: a commit reads and writes the whole list."""

BRONZE_METRICS_PROPERTIES = {
    "write.metadata.metrics.default": "none",
    **{f"write.metadata.metrics.column.{name}": "full" for name in ("_row", "_arrived_at", "arrival_dt", "dt")},
}
"""Collect no bounds of uncast text: no query prunes by them, and collecting them takes a fifth of the time of a write."""


def table_specs(streams: Iterable[Stream]) -> list[TableSpec]:
    """List the tables of these streams. Raises ContractError where a stream's SQL is wrong."""
    with duckdb.connect() as database:
        specs = [spec for stream in streams for spec in _stream_specs(database, stream)]
    return [*specs, TableSpec("gold.daily_metrics", METRIC_COLUMNS, ("date_key",))]


def _stream_specs(database: duckdb.DuckDBPyConnection, stream: Stream) -> list[TableSpec]:
    name, contract = stream.name, stream.contract
    descriptions = {field.name: field.description for field in contract.fields}
    definition = defined_by(stream.definition)
    typed = tuple((field.name, field.type.sql) for field in contract.fields)
    valid: Columns = (*typed, ("dt", "DATE"), ("_arrived_at", "TIMESTAMP"))
    silver = _columns(database, stream, "silver", {"valid": valid})
    realtime = _columns(database, stream, "silver", {"valid": (*valid, *ORIGIN_COLUMNS[:2])})
    gold = _columns(database, stream, "gold", {"silver": silver})
    feature_inputs = {"events": silver, "days": DAYS_COLUMNS, "windows": WINDOWS_COLUMNS}
    features = _columns(database, stream, "features", feature_inputs)
    quarantine: Columns = (("dt", "DATE"), ("raw", "VARCHAR"), ("reasons", "VARCHAR[]"), *ORIGIN_COLUMNS)
    _check_alerts(database, stream, silver)
    return [
        TableSpec(
            f"bronze.{name}",
            _bronze_columns(stream),
            ("arrival_dt", "dt"),
            descriptions,
            BRONZE_METRICS_PROPERTIES | definition,
        ),
        TableSpec(
            f"realtime.{name}",
            (*realtime, ("arrival_hour", "VARCHAR")),
            ("arrival_hour",),
            descriptions,
            FREQUENT_COMMIT_PROPERTIES | definition,
        ),
        TableSpec(f"silver.{name}", silver, ("dt",), descriptions),
        TableSpec(f"quarantine.{name}", quarantine, ("dt",)),
        TableSpec(f"gold.{name}_daily", gold, ("dt",)),
        TableSpec(f"serving.{name}_features", features, ("dt",), properties=FREQUENT_COMMIT_PROPERTIES),
        TableSpec(f"serving.{name}_alerts", ALERT_COLUMNS, ("dt",), properties=FREQUENT_COMMIT_PROPERTIES),
    ]


def _bronze_columns(stream: Stream) -> Columns:
    types = {"_row": "BIGINT", "_arrived_at": "TIMESTAMP"}
    fields = ((field.name, "VARCHAR") for field in stream.contract.fields)
    added = ((name, types.get(name, "VARCHAR")) for name in BRONZE_COLUMNS)
    return (*fields, *added, ("arrival_dt", "DATE"), ("dt", "DATE"))


def _check_alerts(database: duckdb.DuckDBPyConnection, stream: Stream, silver: Columns) -> None:
    expected = [name for name, _ in ALERT_COLUMNS]
    if [name for name, _ in _columns(database, stream, "alerts", {"events": silver})] != expected:
        raise ContractError(f"{stream.folder / 'alerts.sql'}: must give the columns {', '.join(expected)}")


def _columns(database: duckdb.DuckDBPyConnection, stream: Stream, query: Query, inputs: dict[str, Columns]) -> Columns:
    """Read the columns that a stream's SQL returns for inputs of these columns, without running it over rows."""
    empty = {name: empty_sql(columns) for name, columns in inputs.items()}
    path: Path = stream.folder / f"{query}.sql"
    try:
        columns = describe(database, bind(stream.sql(query), empty))
    except Exception as error:
        raise ContractError(f"{path}: {error}") from error
    if "dt" not in dict(columns):
        raise ContractError(f"{path}: must give a column dt")
    return columns


def empty_sql(columns: Columns) -> str:
    """Generate a SELECT of these columns without rows."""
    return "select " + ", ".join(f"null::{sql_type} as {quote(name)}" for name, sql_type in columns) + " limit 0"
