"""Derive the tables that streams need, with their columns, from contracts and SQL."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import duckdb

from lakehouse.contracts.column_comments import column_comments, window_comments
from lakehouse.contracts.default_sql import Query
from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.contracts.odcs import CONTRACT_FILE
from lakehouse.contracts.sql import BRONZE_COLUMNS, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import bind, describe
from lakehouse.errors import ContractError, LakehouseError
from lakehouse.pipeline.file_names import FILE_COLUMN
from lakehouse.pipeline.lineage.properties import defined_by
from lakehouse.pipeline.long_form import DAILY_METRICS
from lakehouse.pipeline.view_names import HEALTH_VIEW, LIVE_METRICS, stream_view_names
from lakehouse.storage.iceberg.schema import TableSpec, iceberg_type

Columns = tuple[tuple[str, str], ...]
"""Columns as (name, DuckDB type)."""

ORIGIN_COLUMNS: Columns = (("_object", "VARCHAR"), ("_row", "BIGINT"), ("_arrived_at", "TIMESTAMP"))
"""Where a row came from: its landing object, its number there, and when the object arrived."""

FILE_NAME = (FILE_COLUMN, "VARCHAR")
"""The name of the file that a row came from. The last column, where tables of earlier releases gain it."""

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
ANOMALY_COLUMNS: Columns = (
    ("event_time", "TIMESTAMP"),
    ("kind", "VARCHAR"),
    ("value", "DOUBLE"),
    ("expected", "DOUBLE"),
    ("low", "DOUBLE"),
    ("high", "DOUBLE"),
    ("score", "DOUBLE"),
    ("contribution", "VARCHAR"),
    ("entity", "VARCHAR"),
    ("severity", "VARCHAR"),
    ("threshold", "DOUBLE"),
    ("message", "VARCHAR"),
    ("event_key", "VARCHAR"),
)
"""The columns of an anomaly, after the day and the columns that name its series."""

SILVER_BEFORE_PROPERTY = "lakehouse.silver-before"
"""Of a table of anomalies: the sequence number that silver had when the table was made. Days of before are not stale."""

STATE_COLUMN = "detector_state"

NUMERIC_TYPES = ("BIGINT", "DOUBLE", "DECIMAL")

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

STORED_TYPES = {
    **dict.fromkeys(
        ("TINYINT", "SMALLINT", "UTINYINT", "USMALLINT", "UINTEGER", "INTEGER", "UBIGINT", "HUGEINT"), "BIGINT"
    ),
    "FLOAT": "DOUBLE",
    "TIMESTAMP_S": "TIMESTAMP",
    "TIMESTAMP_MS": "TIMESTAMP",
    "JSON": "VARCHAR",
    "UUID": "VARCHAR",
}
"""The type that a table stores in place of a type that it lacks, with the same values. A sum of integers is a HUGEINT; one
that does not fit into 64 bits fails its run."""

FREQUENT_COMMIT_PROPERTIES = {"lakehouse.snapshots-kept": "48"}
"""Keep few snapshots of tables that are committed every few minutes: a commit reads and writes the whole list."""

BRONZE_METRICS_PROPERTIES = {
    "write.metadata.metrics.default": "none",
    **{f"write.metadata.metrics.column.{name}": "full" for name in ("_row", "_arrived_at", "arrival_dt", "dt")},
}
"""Collect no bounds of uncast text: no query prunes by them, and collecting them takes a fifth of the time of a write."""


def table_specs(streams: Iterable[Stream]) -> list[TableSpec]:
    """List the tables of these streams. Raises ContractError where a stream's SQL is wrong, or two streams share a name."""
    streams = list(streams)
    check_names({stream.name: stream.folder for stream in streams})
    with open_in_memory() as database:
        specs = [spec for stream in streams for spec in _stream_specs(database, stream)]
    return [*specs, TableSpec(DAILY_METRICS, METRIC_COLUMNS, ("date_key",))]


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
    quarantine: Columns = (("dt", "DATE"), ("raw", "VARCHAR"), ("reasons", "VARCHAR[]"), *ORIGIN_COLUMNS, FILE_NAME)
    _check_alerts(database, stream, silver)
    return [
        *anomaly_specs(stream, dict(silver)),
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
        TableSpec(f"gold.{name}_daily", gold, ("dt",), descriptions | column_comments(stream.sql("gold"))),
        TableSpec(
            f"serving.{name}_features",
            features,
            ("dt",),
            descriptions | window_comments(stream.sql("features"), [column for column, _ in features]),
            FREQUENT_COMMIT_PROPERTIES,
        ),
        TableSpec(f"serving.{name}_alerts", ALERT_COLUMNS, ("dt",), properties=FREQUENT_COMMIT_PROPERTIES),
    ]


def anomaly_specs(stream: Stream, silver: Mapping[str, str]) -> list[TableSpec]:
    """List the tables of a stream's anomalies, if its contract asks for them; `silver` has the types of its columns.

    Raises ContractError if the contract names a column that silver lacks, or a measure that is no number.
    """
    rule = stream.contract.anomaly
    if rule is None:
        return []
    where = f"{stream.folder / CONTRACT_FILE}: customProperties.anomaly"
    if unknown := [name for name in (rule.measure, *rule.by) if name not in silver]:
        raise ContractError(f"{where}: {', '.join(unknown)} is no column of silver; there are {', '.join(silver)}")
    if not silver[rule.measure].startswith(NUMERIC_TYPES):
        raise ContractError(f"{where}: {rule.measure} is {silver[rule.measure]}, must be a number")
    taken = {"dt", STATE_COLUMN, *dict(ANOMALY_COLUMNS)}
    if reserved := taken.intersection(rule.by):
        raise ContractError(f"{where}: series can't be told apart by {', '.join(sorted(reserved))}")
    series: Columns = (("dt", "DATE"), *((name, silver[name]) for name in rule.by))
    anomalies, states = anomaly_tables(stream)
    return [
        TableSpec(anomalies, (*series, *ANOMALY_COLUMNS), ("dt",), properties=FREQUENT_COMMIT_PROPERTIES),
        TableSpec(states, (*series, (STATE_COLUMN, "VARCHAR")), ("dt",), properties=FREQUENT_COMMIT_PROPERTIES),
    ]


def anomaly_tables(stream: Stream) -> tuple[str, ...]:
    """Return the table of a stream's anomalies and that of the detectors' states; none without a rule of anomalies."""
    if stream.contract.anomaly is None:
        return ()
    return f"serving.{stream.name}_anomalies", f"serving.{stream.name}_anomaly_state"


def _bronze_columns(stream: Stream) -> Columns:
    types = {"_row": "BIGINT", "_arrived_at": "TIMESTAMP"}
    fields = ((field.name, "VARCHAR") for field in stream.contract.fields)
    added = ((name, types.get(name, "VARCHAR")) for name in BRONZE_COLUMNS)
    return (*fields, *added, ("arrival_dt", "DATE"), ("dt", "DATE"), FILE_NAME)


def check_names(folders: Mapping[str, Path]) -> None:
    """Refuse streams whose tables or views would have the name of another's, such as `a_b` beside `unified_a`.

    `folders` has the folder of each stream by its name. Raises ContractError for the later one of the two.
    """
    owners = dict.fromkeys(
        ("customers", DAILY_METRICS, HEALTH_VIEW, LIVE_METRICS, "serving.audit_log"), "the lakehouse"
    )
    for stream, folder in folders.items():
        for name in sorted({stream, *stream_view_names(stream)}):
            if owner := owners.get(name):
                raise ContractError(f"{folder}: {name} would also be a name of {owner}; rename the stream.")
            owners[name] = f"the stream {stream}"


def _check_alerts(database: duckdb.DuckDBPyConnection, stream: Stream, silver: Columns) -> None:
    """Check that the alerts have the columns of their table, in types that are cast to the table's without loss."""
    path, expected = stream.folder / "alerts.sql", [name for name, _ in ALERT_COLUMNS]
    columns = _columns(database, stream, "alerts", {"events": silver})
    if [name for name, _ in columns] != expected:
        raise ContractError(f"{path}: must give the columns {', '.join(expected)}")
    for (name, given), (_, needed) in zip(columns, ALERT_COLUMNS, strict=True):
        if not _is_castable(database, given, needed):
            raise ContractError(f"{path}: {name} is {given}, must be {needed}")


def _is_castable(database: duckdb.DuckDBPyConnection, given: str, needed: str) -> bool:
    if needed == "VARCHAR":
        return True
    row = database.execute(f"select can_cast_implicitly(null::{given}, null::{needed})").fetchone()
    return bool(row and row[0])


def _columns(database: duckdb.DuckDBPyConnection, stream: Stream, query: Query, inputs: dict[str, Columns]) -> Columns:
    """Find the columns that a stream's SQL returns for inputs of these columns, in the types that tables store.

    The SQL runs over no rows. Raises ContractError, which names the file and the column, if no table can store the type.
    """
    empty = {name: empty_sql(columns) for name, columns in inputs.items()}
    path: Path = stream.folder / f"{query}.sql"
    try:
        columns = describe(database, bind(stream.sql(query), empty))
    except ContractError:
        raise
    except Exception as error:
        raise ContractError(_in_file(path, str(error), len(inputs) + 1)) from error
    try:
        return stored_columns(columns, day="dt")
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from error


def stored_columns(columns: Iterable[tuple[str, str]], day: str | None) -> Columns:
    """Find the types in which a table stores columns of these DuckDB types.

    Raises ContractError if no table can store a type, or if there is no date column `day`.
    """
    stored = tuple((name, _stored_type(name, given)) for name, given in columns)
    if day and (given := dict(stored).get(day)) != "DATE":
        raise ContractError(f"{day} is {given}, must be DATE" if given else f"must give a column {day}")
    return stored


def _in_file(path: Path, message: str, lines_before: int) -> str:
    """Write DuckDB's message on the SQL of a file, which stood after so many lines, with the line of the file."""
    if (match := re.search(r"\bLINE (\d+):", message)) is None or not path.is_file():
        return f"{path}: {message}"
    text = path.read_text(encoding="utf-8")
    blank = text[: len(text) - len(text.lstrip())].count("\n")
    line = int(match[1]) - lines_before + blank
    return f"{path}: line {line}: {message[: match.start(1)]}{line}{message[match.end(1) :]}"


def _stored_type(name: str, given: str) -> str:
    stored = "VARCHAR" if given.startswith("ENUM(") else STORED_TYPES.get(given, given)
    try:
        iceberg_type(stored)
    except LakehouseError as error:
        raise ContractError(f"{name}: {error}") from error
    return stored


def empty_sql(columns: Columns) -> str:
    """Generate a SELECT of these columns without rows."""
    return "select " + ", ".join(f"null::{sql_type} as {quote(name)}" for name, sql_type in columns) + " limit 0"
