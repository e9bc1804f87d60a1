"""One lake, opened: its storage, tables, engine and streams, and the tables that its contracts and SQL call for."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import duckdb
from pyiceberg.table import Table

from lakehouse.contracts.sql import BRONZE_COLUMNS, quote
from lakehouse.contracts.streams import Query, Stream, discover, known
from lakehouse.engine.connection import DuckDB, bind, describe
from lakehouse.errors import ContractError
from lakehouse.pipeline.lineage.properties import defined_by
from lakehouse.pipeline.lineage.realtime_coverage import is_worth_it, uncovered_hours
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as server
from lakehouse.storage.iceberg.change_marks import Changes
from lakehouse.storage.iceberg.tables import Tables, TableSpec
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects

LINEAGE = (("_object", "VARCHAR"), ("_row", "BIGINT"), ("_arrived_at", "TIMESTAMP"))
ALERT_COLUMNS = (
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
METRIC_COLUMNS = (
    ("date_key", "DATE"),
    ("stream", "VARCHAR"),
    ("metric_name", "VARCHAR"),
    ("metric_value", "DOUBLE"),
    ("dimensions", "MAP(VARCHAR, VARCHAR)"),
)
OFTEN = {"lakehouse.snapshots-kept": "48"}
"""Tables committed every few minutes keep few snapshots: a commit reads and writes the whole list."""

UNMEASURED = {
    "write.metadata.metrics.default": "none",
    **{f"write.metadata.metrics.column.{name}": "full" for name in ("_row", "_arrived_at", "arrival_dt", "dt")},
}
"""Bounds of texts that nobody has cast help nobody, and take a fifth of the time that it takes to write them."""


class Lake:
    """Everything a layer needs; opening it asks nothing of the storage yet."""

    def __init__(
        self, settings: Settings, connection: Connection | None = None, *, metadata_only: bool = False
    ) -> None:
        """With `metadata_only`, tables are looked up and not written; see Tables."""
        self.settings = settings
        self._connection = connection
        self._metadata_only = metadata_only
        self._uncovered: dict[str, tuple[tuple[str, str], Sequence[str] | None]] = {}

    @cached_property
    def connection(self) -> Connection:
        """The storage. Raises StorageUnavailableError when the embedded server is not up."""
        return self._connection or server.connection(self.settings)

    @cached_property
    def streams(self) -> dict[str, Stream]:
        """All streams by name. Raises ContractError."""
        return discover(self.settings.streams)

    @cached_property
    def tables(self) -> Tables:
        """The catalog's tables."""
        return Tables(self.connection, metadata_only=self._metadata_only, changes=self.changes("tables"))

    def changes(self, kind: str) -> Changes:
        """Where this home's programs mark what they have changed: `tables` by name, or `lookups`."""
        return Changes(self.settings.root / "changes" / kind)

    @property
    def tail(self) -> Mapping[str, Sequence[str]]:
        """What landed after what realtime holds is known to the serving process alone."""
        return {}

    def uncovered(self, stream: Stream, silver: Table, realtime: Table) -> Sequence[str] | None:
        """The hours of realtime, as loaded, of which silver, as loaded, may lack a key; None is all of them."""
        if not is_worth_it(realtime):
            return None
        versions = silver.metadata_location, realtime.metadata_location
        if stream.name not in self._uncovered or self._uncovered[stream.name][0] != versions:
            found = uncovered_hours(stream, realtime, self.tables.load(f"bronze.{stream.name}"), silver)
            self._uncovered[stream.name] = versions, found
        return self._uncovered[stream.name][1]

    @cached_property
    def objects(self) -> Objects:
        """Landing and serving objects."""
        return Objects.from_connection(self.connection)

    @cached_property
    def engine(self) -> DuckDB:
        """DuckDB with this process's share of memory and threads."""
        return DuckDB(
            self.connection,
            memory_limit_mb=self.settings.memory_limit_mb,
            threads=self.settings.threads,
            scratch=self.settings.root / "scratch",
        )

    def stream(self, name: str) -> Stream:
        """The stream of that name. Raises UnknownStreamError that lists those there are."""
        return known(self.streams, name)

    def bootstrap(self) -> list[str]:
        """Make or evolve every table; what was done, a line each. Raises SchemaChangeError."""
        return self.tables.ensure(table_specs(self.streams.values()))


def table_specs(streams: Iterable[Stream]) -> list[TableSpec]:
    """The tables of these streams, their columns read off their contracts and SQL."""
    with duckdb.connect() as database:
        specs = [spec for stream in streams for spec in _stream_specs(database, stream)]
    return [*specs, TableSpec("gold.daily_metrics", METRIC_COLUMNS, ("date_key",))]


def _stream_specs(database: duckdb.DuckDBPyConnection, stream: Stream) -> list[TableSpec]:
    contract = stream.contract
    words = {field.name: field.description for field in contract.fields}
    typed = ((field.name, field.type.sql) for field in contract.fields)
    valid = (*typed, ("dt", "DATE"), ("_arrived_at", "TIMESTAMP"))
    bronze_types = {"_row": "BIGINT", "_arrived_at": "TIMESTAMP"}
    bronze = (
        *((field.name, "VARCHAR") for field in contract.fields),
        *((name, bronze_types.get(name, "VARCHAR")) for name in BRONZE_COLUMNS),
    )
    silver = _described(database, stream, "silver", {"valid": valid})
    realtime = _described(database, stream, "silver", {"valid": (*valid, *LINEAGE[:2])})
    days = (("dt", "DATE"),)
    alerts = _described(database, stream, "alerts", {"events": silver})
    if tuple(name for name, _ in alerts) != tuple(name for name, _ in ALERT_COLUMNS):
        raise ContractError(
            f"{stream.folder / 'alerts.sql'}: must give the columns {', '.join(n for n, _ in ALERT_COLUMNS)}"
        )
    name, defined = stream.name, defined_by(stream.definition)
    return [
        TableSpec(
            f"bronze.{name}",
            (*bronze, ("arrival_dt", "DATE"), ("dt", "DATE")),
            ("arrival_dt", "dt"),
            words,
            UNMEASURED | defined,
        ),
        TableSpec(
            f"realtime.{name}", (*realtime, ("arrival_hour", "VARCHAR")), ("arrival_hour",), words, OFTEN | defined
        ),
        TableSpec(f"silver.{name}", silver, ("dt",), words),
        TableSpec(
            f"quarantine.{name}", (("dt", "DATE"), ("raw", "VARCHAR"), ("reasons", "VARCHAR[]"), *LINEAGE), ("dt",)
        ),
        TableSpec(f"gold.{name}_daily", _described(database, stream, "gold", {"silver": silver}), ("dt",)),
        TableSpec(
            f"serving.{name}_features",
            _described(database, stream, "features", {"events": silver, "days": days}),
            ("dt",),
            properties=OFTEN,
        ),
        TableSpec(f"serving.{name}_alerts", ALERT_COLUMNS, ("dt",), properties=OFTEN),
    ]


def _described(
    database: duckdb.DuckDBPyConnection, stream: Stream, query: Query, inputs: dict[str, tuple[tuple[str, str], ...]]
) -> tuple[tuple[str, str], ...]:
    empty = {name: empty_sql(columns) for name, columns in inputs.items()}
    path: Path = stream.folder / f"{query}.sql"
    try:
        columns = describe(database, bind(stream.sql(query), empty))
    except Exception as problem:
        raise ContractError(f"{path}: {problem}") from problem
    if "dt" not in dict(columns):
        raise ContractError(f"{path}: must give a column dt")
    return columns


def empty_sql(columns: tuple[tuple[str, str], ...]) -> str:
    """A SELECT of these columns and no rows."""
    return "select " + ", ".join(f"null::{sql_type} as {quote(name)}" for name, sql_type in columns) + " limit 0"
