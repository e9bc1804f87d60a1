"""Compute look-ups and publish them: the features of each entity, by its id, and the rows of declared look-ups by key.

See `versions` for the published objects and `cache` for the copies that answer requests.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import uuid4

import duckdb
import pyarrow.parquet as pq
from pyiceberg.table import Table

from lakehouse.contracts.sql import literal, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import columns_of, describe, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.errors import LookupFileError
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.staleness import last_changes
from lakehouse.pipeline.unified_view import source_tables, view_sql
from lakehouse.serving.lookups import dynamodb
from lakehouse.serving.lookups.checking import published_sql
from lakehouse.serving.lookups.declaration import (
    DeclaredLookups,
    Lookup,
    discover_lookups,
    lookup_error,
    sql_error,
)
from lakehouse.serving.lookups.versions import (
    MAX_VERSIONS,
    LookupVersion,
    delete_old_versions,
    list_versions,
    published_names,
    scan_version_sql,
    version_key,
)
from lakehouse.storage.durability import sync
from lakehouse.storage.iceberg.snapshots import sequence_of

ROW_GROUP_ROWS = 20_480
MAX_EXAMPLES = 3
"""Ids that an error names."""


@dataclass(frozen=True, slots=True)
class RefreshResult:
    """The result of a refresh: the newest version, its number of entities, and how many were changed or removed."""

    version: LookupVersion
    entities: int
    changed: int


SelectBuilder = Callable[[duckdb.DuckDBPyConnection, LookupVersion | None], str]
"""Build the SELECT of a look-up's rows. It may reuse rows of the version before."""

Check = Callable[[duckdb.DuckDBPyConnection, str], None]
"""Check the rows that are about to be published, in this FROM item."""


def declared_lookups(lake: Lake) -> DeclaredLookups:
    """Read the look-ups that are declared over the lake's streams."""
    return discover_lookups(lake.settings.lookups, lake.streams)


def refresh_entities(lake: Lake, stream: Stream) -> RefreshResult:
    """Bring a stream's look-up up to date: the newest features of each entity. Reads only the days that changed."""
    features = lake.tables.load(f"serving.{stream.name}_features")

    def select(cursor: duckdb.DuckDBPyConnection, before: LookupVersion | None) -> str:
        return _newest_features_sql(cursor, lake, features, _entity_column(stream, features), before)

    return _refresh(lake, stream.name, (sequence_of(features),), select)


def refresh_declared(lake: Lake, lookup: Lookup) -> RefreshResult:
    """Bring a declared look-up up to date, if a table that it reads, or its file, has changed.

    Raises LookupFileError, and keeps the last version, if the file is wrong or the key does not identify rows.
    """
    rows = published_sql(lake, lookup)
    numbers = tuple(source_versions(lake, lookup).values())
    catalog = f"lookup_{uuid4().hex}"

    def select(cursor: duckdb.DuckDBPyConnection, _before: LookupVersion | None) -> str:
        cursor.execute(f"attach ':memory:' as {catalog}")
        cursor.execute(f"use {catalog}")
        for table in lookup.tables:
            layer, _, name = table.name.partition(".")
            cursor.execute(f"create schema if not exists {quote(layer)}")
            cursor.execute(f"create view {quote(layer)}.{quote(name)} as {view_sql(lake, table.name)}")
        return rows

    def check(cursor: duckdb.DuckDBPyConnection, published: str) -> None:
        _check_key(cursor, lookup, published)

    try:
        return _refresh(lake, lookup.name, numbers, select, check, lookup)
    except (duckdb.ProgrammingError, duckdb.DataError) as error:
        raise sql_error(lookup.path, error) from error
    finally:
        with lake.engine.cursor() as cursor:
            cursor.execute(f"detach database if exists {catalog}")


def source_versions(lake: Lake, lookup: Lookup) -> dict[str, int]:
    """Return the sequence number of each table that a look-up reads, also through views."""
    names = dict.fromkeys(name for table in lookup.tables for name in source_tables(lake, table.name))
    return {name: sequence_of(lake.tables.load(name)) for name in names}


def is_stale(lake: Lake, lookup: Lookup) -> bool:
    """Return whether a declared look-up is older than its file or a table, realtime aside, which changes all the time.

    One that was never computed is stale once a table has rows.
    """
    sources = source_versions(lake, lookup)
    version = _newest(lake, lookup.name)
    if version is None:
        return any(sources.values())
    if not _is_of(version, lookup) or len(version.numbers) != len(sources):
        return True
    read = dict(zip(sources, version.numbers, strict=True))
    return any(number > read[name] for name, number in sources.items() if not name.startswith("realtime."))


def _check_key(cursor: duckdb.DuckDBPyConnection, lookup: Lookup, published: str) -> None:
    """Raise LookupFileError if a row has no key, or another row's."""
    kept = "The last good version stays"
    row = cursor.execute(f"select count(*) from {published} where id is null").fetchone()
    if row and row[0]:
        message = f"the key {lookup.key} is null in {row[0]:,} row{'s' * (row[0] > 1)}. {kept}"
        raise lookup_error(lookup.path, lookup.key_line, message)
    repeated = cursor.execute(
        f"select id, count(*) as rows, count(*) over () from {published} group by id having count(*) > 1"
        f" order by id limit {MAX_EXAMPLES}"
    ).fetchall()
    if repeated:
        examples = ", ".join(f"{id_!r} ({rows:,} rows)" for id_, rows, _ in repeated)
        message = (
            f"the key {lookup.key} is not unique: {repeated[0][2]:,} of its values have more than one row, such as"
        )
        raise lookup_error(lookup.path, lookup.key_line, f"{message} {examples}. {kept}")


def entity_keys(lake: Lake, stream: Stream, values: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return each look-up, with the id, that holds the entity named by these values of the stream's fields."""
    keys: list[tuple[str, str]] = []
    if stream.has_features:
        entity = _entity_column(stream, lake.tables.load(f"serving.{stream.name}_features"))
        keys += [(stream.name, values[entity])] if entity in values else []
    declared = declared_lookups(lake).reading(stream.name)
    return keys + [(lookup.name, values[lookup.key]) for lookup in declared if lookup.key in values]


def names_with(lake: Lake, stream: Stream) -> list[str]:
    """List the published look-ups that may hold rows of a stream: all but those of other streams."""
    return [name for name in published_names(lake.objects) if name == stream.name or name not in lake.streams]


def drop_earlier_versions(lake: Lake, stream: Stream) -> None:
    """Delete the versions of look-ups that may hold rows which the stream no longer has.

    The newest version stays, computed again where it is stale. It is deleted where it can't be: its file is gone or wrong.
    """
    declared = declared_lookups(lake).by_name
    for name in names_with(lake, stream):
        delete_old_versions(lake, name, keep=1 if _is_current(lake, name, declared.get(name)) else 0)


def _is_current(lake: Lake, name: str, lookup: Lookup | None) -> bool:
    """Compute a declared look-up again if it is stale. Return whether its newest version is then current."""
    if lookup is None:
        version = _newest(lake, name)
        return version is None or not version.definition
    try:
        refresh_declared(lake, lookup)
    except LookupFileError:
        return False
    return True


def _newest(lake: Lake, name: str) -> LookupVersion | None:
    return max(list_versions(lake.objects, name), key=lambda version: version.numbers, default=None)


def _is_of(version: LookupVersion, lookup: Lookup) -> bool:
    """Return whether a version was computed by this look-up's file. Earlier releases did not record it of their own."""
    return version.definition == lookup.definition or (lookup.is_shipped and not version.definition)


def _refresh(
    lake: Lake,
    name: str,
    numbers: tuple[int, ...],
    select: SelectBuilder,
    check: Check = lambda *_: None,
    declared: Lookup | None = None,
) -> RefreshResult:
    before = _newest(lake, name)
    with lake.engine.scratch() as folder, lake.engine.cursor() as cursor:
        same = before is not None and (declared is None or _is_of(before, declared))
        if before is not None and same and before.numbers >= numbers:
            row = cursor.execute(f"select count(*) from {scan_version_sql(lake, before)}").fetchone() or (0,)
            _write_to_dynamodb(lake, cursor, name, before, None)
            return RefreshResult(before, row[0], 0)
        path = folder / "lookup.parquet"
        cursor.execute(
            f"copy ({select(cursor, before)} order by id) to {literal(str(path))}"
            f" (format parquet, compression zstd, row_group_size {ROW_GROUP_ROWS})"
        )
        written = f"read_parquet({literal(str(path))})"
        check(cursor, written)
        definition = declared.definition if declared else ""
        version = LookupVersion(version_key(name, numbers, definition), numbers, path.stat().st_size, definition)
        lake.objects.put_file(version.key, path)
        sync(lake.connection)
        others = [old for old in list_versions(lake.objects, name) if old.definition != definition]
        lake.objects.delete(old.key for old in ([] if same else others))
        lake.changes("lookups").mark(name)
        changed = _count_changes(cursor, written, scan_version_sql(lake, before) if before and same else None)
        _write_to_dynamodb(lake, cursor, name, version, before if same else None)
        lake.objects.delete(old.key for old in list_versions(lake.objects, name)[:-MAX_VERSIONS])
        return RefreshResult(version, pq.read_metadata(path).num_rows, changed)


def _newest_features_sql(
    cursor: duckdb.DuckDBPyConnection, lake: Lake, features: Table, entity: str, before: LookupVersion | None
) -> str:
    names = [name for name, _ in columns_of(features)]
    columns = ", ".join(["id", *map(quote, names)])
    source = f"(select {quote(entity)}::varchar as id, * from {scan_sql(features)} where {quote(entity)} is not null)"
    newest = "qualify row_number() over (partition by id order by dt desc) = 1"
    everything = f"select {columns} from {source} {newest}"
    if before is None:
        return everything
    old = scan_version_sql(lake, before)
    if describe(cursor, f"from {old}") != describe(cursor, everything):
        return everything
    changed = days_filter([*last_changes(features, since=before.numbers[0])])
    # An entity may be gone from the day that was its newest. Its features then come from any other day.
    return f"""with fresh as (
  select {columns} from {source} where {changed} {newest}
),
gone as (
  select id from {old} where {changed} and id not in (select id from fresh)
),
every as (
  select {columns} from {old} where not ({changed})
  union all
  from fresh
  union all
  select {columns} from {source} where id in (select id from gone)
)
select {columns} from every {newest}"""


def _count_changes(cursor: duckdb.DuckDBPyConnection, now: str, before: str | None) -> int:
    """Count the entities that were changed, added or removed."""
    if before is None or describe(cursor, f"from {now}") != describe(cursor, f"from {before}"):
        row = cursor.execute(f"select count(*) from {now}").fetchone()
    else:
        row = cursor.execute(
            f"select count(distinct id) from ((from {now} except from {before}) union all"
            f" (from {before} except from {now}))"
        ).fetchone()
    return int(row[0]) if row else 0


def _write_to_dynamodb(
    lake: Lake, cursor: duckdb.DuckDBPyConnection, name: str, version: LookupVersion, before: LookupVersion | None
) -> None:
    """Make the DynamoDB table hold this version, where one is set. Writes only the difference to the version before."""
    if (table := dynamodb.open_table(lake.settings)) is None:
        return
    held = table.version(name)
    if held == version.key:
        return
    new = scan_version_sql(lake, version)
    old = scan_version_sql(lake, before) if before is not None and held == before.key else None
    if old and describe(cursor, f"from {old}") != describe(cursor, f"from {new}"):
        old = None
    rows = f"from {new} except from {old}" if old else f"from {new}"
    if old:
        gone = cursor.execute(f"select id from {old} where id not in (select id from {new})").fetchall()
        table.delete(name, (id_ for (id_,) in gone))
    table.put(name, cursor.cursor().execute(rows).to_arrow_reader(10_000))
    if not old:
        table.keep_only(name, {id_ for (id_,) in cursor.execute(f"select id from {new}").fetchall()})
    table.set_version(name, version.key)


def _entity_column(stream: Stream, features: Table) -> str:
    """Return the column that identifies entities: the contract's, or the first one that is not the day."""
    columns = [name for name, _ in columns_of(features)]
    entity = stream.contract.entity
    return entity if entity in columns else next(name for name in columns if name != "dt")
