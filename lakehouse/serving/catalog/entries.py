"""List the entries of the catalog: tables, views, models, named queries, look-ups and dashboards."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import duckdb
import msgspec
from pyiceberg.table import Table

from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.contracts.sql import quote
from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError
from lakehouse.models.model import Model
from lakehouse.pipeline.table_specs import empty_sql
from lakehouse.pipeline.unified_view import columns_of_view, source_tables, view_exists, view_names
from lakehouse.pipeline.view_names import HEALTH_VIEW, LIVE_METRICS, live_daily, stream_view_names
from lakehouse.serving.catalog import descriptions
from lakehouse.serving.catalog.definitions import Definitions
from lakehouse.serving.query.dashboards import sql_of
from lakehouse.serving.query.lake_snapshot import LakeSnapshot
from lakehouse.serving.query.sql import names_mentioned
from lakehouse.storage.iceberg.schema import TableSpec

Kind = Literal["table", "view", "model", "query", "lookup", "dashboard"]

QUERIES, LOOKUPS, DASHBOARDS = "queries", "lookups", "dashboards"
"""The layers of named queries, look-ups and dashboards in names of the catalog."""


class Column(msgspec.Struct, frozen=True, omit_defaults=True):
    """A column."""

    name: str
    type: str
    description: str = ""
    classification: str = ""
    """How confidential its values are, as the contract says."""


class Entry(msgspec.Struct, frozen=True):
    """A table, view, model, named query, look-up or dashboard."""

    name: str
    """As `layer.name`; the layer of named queries is `queries`, of look-ups `lookups`, of dashboards `dashboards`."""
    kind: Kind
    description: str
    owner: str | None
    stream: str | None
    """The stream whose rows it has, if it is of one alone."""
    columns: list[Column]
    reads: list[str]
    """The entries that it is computed from."""
    rows: int | None = None
    """Rows of a table; null for views, and for tables that were never written."""
    bytes: int | None = None
    files: int | None = None
    committed_at: datetime | None = None
    """When the table was last changed."""


Entries = Mapping[str, Entry]


def list_entries(snapshot: LakeSnapshot, definitions: Definitions) -> Entries:
    """List every entry by name."""
    owners = {name: stream for stream in snapshot.streams.values() for name in stream_view_names(stream.name)}
    entries = [
        _table_entry(snapshot, definitions, name, owners.get(name))
        for name in view_names(snapshot)
        if _is_readable(snapshot, name)
    ]
    names = {entry.name for entry in entries}
    entries += [_new_model(definitions, model) for name, model in definitions.models.items() if name not in names]
    with open_in_memory() as database:
        entries += _queries(database, snapshot, definitions)
        entries += _lookups(database, snapshot, definitions)
    entries += _dashboards(snapshot, definitions)
    return {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.name)}


def _is_readable(snapshot: LakeSnapshot, name: str) -> bool:
    try:
        columns_of_view(snapshot, name)
    except LakehouseError:
        return False  # a table of a stream that is not created yet
    return True


def _table_entry(snapshot: LakeSnapshot, definitions: Definitions, name: str, stream: Stream | None) -> Entry:
    table = snapshot.tables.load(name) if snapshot.tables.exists(name) else None
    model = definitions.models.get(name)
    reads = [read for read in reads_of(snapshot, definitions, name) if read != name]
    return Entry(
        name=name,
        kind="model" if model else "view" if table is None else "table",
        description=_description(snapshot, name, model, stream),
        owner=model.header.owner if model else stream.contract.owner if stream else None,
        stream=stream.name if stream else None,
        columns=_columns(name, columns_of_view(snapshot, name), table, stream, _spec_of(snapshot, definitions, name)),
        reads=reads,
        **_sizes(table),
    )


def _description(snapshot: LakeSnapshot, name: str, model: Model | None, stream: Stream | None) -> str:
    if model is not None:
        return model.header.description
    if (live := snapshot.live_models.get(name)) is not None:
        return descriptions.live_view(live)
    return descriptions.SHARED.get(name, "") if stream is None else descriptions.stream_tables(stream).get(name, "")


def _columns(
    name: str,
    columns: Iterable[tuple[str, str]],
    table: Table | None,
    stream: Stream | None,
    spec: TableSpec | None,
) -> list[Column]:
    """Describe columns: by what the layer adds, what the table and the contract say, and by comments in the SQL."""
    known = dict(descriptions.COLUMNS)
    if name.endswith("_alerts"):
        known |= descriptions.ALERT_COLUMNS
    if name.endswith("_anomalies"):
        known |= descriptions.ANOMALY_COLUMNS
    if name.endswith("daily_metrics"):
        known |= descriptions.METRIC_COLUMNS
    if table is not None:
        known |= {field.name: field.doc for field in table.schema().fields if field.doc}
    fields = {field.name: field for field in stream.contract.fields} if stream else {}
    known |= {field.name: field.description for field in fields.values() if field.description}
    if spec is not None:
        known |= {column: text for column, text in spec.descriptions.items() if text}
    return [
        Column(column, kind, known.get(column, ""), fields[column].classification if column in fields else "")
        for column, kind in columns
    ]


def _spec_of(snapshot: LakeSnapshot, definitions: Definitions, name: str) -> TableSpec | None:
    """Return the specification of a table, or of the table that a live view adds rows to."""
    live = {live_daily(stream): f"gold.{stream}_daily" for stream in snapshot.streams}
    live |= {view: model.name for view, model in snapshot.live_models.items()}
    return definitions.specs.get(live.get(name, name))


def _sizes(table: Table | None) -> dict[str, Any]:
    snapshot = table.current_snapshot() if table is not None else None
    if snapshot is None or snapshot.summary is None:
        return {}
    totals = snapshot.summary.additional_properties
    counts = {
        name: int(totals[total]) if total in totals else None
        for name, total in {"rows": "total-records", "bytes": "total-files-size", "files": "total-data-files"}.items()
    }
    return {**counts, "committed_at": datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)}


def reads_of(snapshot: LakeSnapshot, definitions: Definitions, name: str) -> Sequence[str]:
    """List the tables and views that a table or view is computed from."""
    if name in definitions.models:
        return definitions.models[name].reads
    if (live := snapshot.live_models.get(name)) is not None and not snapshot.tables.exists(name):
        return [live.name, *live.reads]
    layer, _, short = name.partition(".")
    if name == LIVE_METRICS:
        return ["gold.daily_metrics", *map(live_daily, snapshot.streams)]
    if name == HEALTH_VIEW:
        return [table for table in source_tables(snapshot, name) if table.startswith(("silver.", "quarantine."))]
    if name == "gold.daily_metrics":
        return [f"gold.{stream}_daily" for stream in snapshot.streams]
    for stream in snapshot.streams:
        if name in stream_view_names(stream):
            return _stream_reads(stream).get(name, [])
    return source_tables(snapshot, name) if layer == "serving" and not snapshot.tables.exists(name) and short else []


def _stream_reads(stream: str) -> dict[str, list[str]]:
    silver, unified = f"silver.{stream}", f"serving.unified_{stream}"
    return {
        silver: [f"bronze.{stream}"],
        f"quarantine.{stream}": [f"bronze.{stream}"],
        f"gold.{stream}_daily": [silver],
        f"serving.{stream}_features": [silver],
        f"serving.{stream}_alerts": [silver],
        f"serving.{stream}_anomalies": [silver, f"serving.{stream}_anomaly_state"],
        f"serving.{stream}_anomaly_state": [silver],
        unified: [silver, f"realtime.{stream}"],
        f"serving.{stream}_current": [unified],
        live_daily(stream): [f"gold.{stream}_daily", unified],
    }


def _new_model(definitions: Definitions, model: Model) -> Entry:
    """Describe a model whose table is not there yet."""
    spec = definitions.specs.get(model.name)
    columns = (
        [Column(name, kind.lower(), spec.descriptions.get(name, "")) for name, kind in spec.columns] if spec else []
    )
    header = model.header
    return Entry(model.name, "model", header.description, header.owner, None, columns, model.reads)


def _queries(database: duckdb.DuckDBPyConnection, snapshot: LakeSnapshot, definitions: Definitions) -> Iterator[Entry]:
    for query in definitions.queries.values():
        reads = [name for name in sorted(names_mentioned(query.sql)) if view_exists(snapshot, name)]
        columns = describe_select(database, snapshot, query.sql, reads, dict.fromkeys(query.parameters))
        yield Entry(
            f"{QUERIES}.{query.name}", "query", query.description, None, _only_stream(snapshot, reads), columns, reads
        )


def _lookups(database: duckdb.DuckDBPyConnection, snapshot: LakeSnapshot, definitions: Definitions) -> Iterator[Entry]:
    for lookup in definitions.lookups.values():
        reads = [table.name for table in lookup.tables if view_exists(snapshot, table.name)]
        columns = describe_select(database, snapshot, lookup.sql, reads)
        yield Entry(
            f"{LOOKUPS}.{lookup.name}",
            "lookup",
            lookup.description,
            None,
            _only_stream(snapshot, reads),
            columns,
            reads,
        )


def _dashboards(snapshot: LakeSnapshot, definitions: Definitions) -> Iterator[Entry]:
    for dashboard in definitions.dashboards.values():
        reads = [name for name in sorted(names_mentioned(sql_of(dashboard))) if view_exists(snapshot, name)]
        words = f"{dashboard.title}. {dashboard.description}" if dashboard.description else dashboard.title
        yield Entry(
            f"{DASHBOARDS}.{dashboard.name}", "dashboard", words, None, _only_stream(snapshot, reads), [], reads
        )


def _only_stream(snapshot: LakeSnapshot, reads: Sequence[str]) -> str | None:
    """Return the stream that all of these tables and views belong to."""
    owners = {
        next((stream for stream in snapshot.streams if name in stream_view_names(stream)), None) for name in reads
    }
    return owners.pop() if len(owners) == 1 else None


def describe_select(
    database: duckdb.DuckDBPyConnection,
    snapshot: LakeSnapshot,
    sql: str,
    reads: Sequence[str],
    parameters: Mapping[str, None] | None = None,
) -> list[Column]:
    """Find the columns of a SELECT over these tables and views, without rows. There are none if it can't run now."""
    try:
        for name in reads:
            layer, _, short = name.partition(".")
            database.execute(f"create schema if not exists {quote(layer)}")
            columns = tuple(columns_of_view(snapshot, name))
            database.execute(f"create or replace view {quote(layer)}.{quote(short)} as {empty_sql(columns)}")
        described = database.execute(f"select * from ({sql}\n) limit 0", parameters or {}).description
    except (duckdb.Error, LakehouseError):
        return []
    return [Column(name, str(kind).lower()) for name, kind, *_ in described]
