"""Find which columns each column of an entry is computed from: by the contract for layers, else by the SQL."""

from collections.abc import Sequence

from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.column_lineage import ColumnLineage, model_lineage, sql_lineage, stream_select
from lakehouse.pipeline.view_names import stream_view_names
from lakehouse.serving.catalog.definitions import Definitions
from lakehouse.serving.catalog.entries import DASHBOARDS, LOOKUPS, QUERIES, Entries, Entry
from lakehouse.storage.iceberg.schema import TableSpec

Columns = Sequence[tuple[str, str]]


def column_sources(entries: Entries, definitions: Definitions, entry: Entry) -> ColumnLineage:
    """Return the columns that each column of an entry is computed from, as (entry, column).

    It lacks columns of models in Python, and of SQL that can't be followed.
    """
    layer, _, short = entry.name.partition(".")
    if layer == DASHBOARDS:
        return {}
    if layer == QUERIES:
        return _of_sql(entries, entry, definitions.queries[short].sql)
    if layer == LOOKUPS:
        return _of_sql(entries, entry, definitions.lookups[short].sql)
    if (model := definitions.models.get(entry.name)) is not None:
        specs = {name: TableSpec(name, tuple(_columns(entries, name)), ()) for name in model.reads if name in entries}
        return model_lineage(model, specs) if len(specs) == len(model.reads) else {}
    for stream in definitions.streams.values():
        if entry.name in stream_view_names(stream.name):
            return _of_stream(entries, stream, entry)
    return _same_names(entries, entry)


def _of_stream(entries: Entries, stream: Stream, entry: Entry) -> ColumnLineage:
    try:
        found = stream_select(stream, entry.name)
    except LakehouseError:
        return {}
    if found is None:
        return _same_names(entries, entry)
    sql, source = found
    return sql_lineage(sql, {source: _columns(entries, source)}) if source in entries else {}


def _of_sql(entries: Entries, entry: Entry, sql: str) -> ColumnLineage:
    return sql_lineage(sql, {name: _columns(entries, name) for name in entry.reads if name in entries})


def _same_names(entries: Entries, entry: Entry) -> ColumnLineage:
    """Return the columns of the same name in what the entry reads: layers and views hand them on."""
    has = {name: {column for column, _ in _columns(entries, name)} for name in entry.reads if name in entries}
    given = {"raw": "_raw"} if entry.name.startswith("quarantine.") else {}
    return {
        column.name: [(name, source) for name in has if (source := given.get(column.name, column.name)) in has[name]]
        for column in entry.columns
    }


def _columns(entries: Entries, name: str) -> Columns:
    return [(column.name, column.type.upper()) for column in entries[name].columns]
