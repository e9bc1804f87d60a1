"""Compute look-ups and publish them: the features of each entity, by its id.

See `versions` for the published objects and `cache` for the copies that answer requests.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
from pyiceberg.table import Table

from lakehouse.contracts.sql import literal, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import bind, columns_of, describe, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.staleness import last_changes
from lakehouse.serving.lookups import dynamodb
from lakehouse.serving.lookups.paths import CUSTOMER_STREAMS, CUSTOMERS
from lakehouse.serving.lookups.versions import (
    MAX_VERSIONS,
    LookupVersion,
    list_versions,
    scan_version_sql,
    version_key,
)
from lakehouse.storage.iceberg.snapshots import sequence_of

ROW_GROUP_ROWS = 20_480


@dataclass(frozen=True, slots=True)
class RefreshResult:
    """The result of a refresh: the newest version, its number of entities, and how many were changed or removed."""

    version: LookupVersion
    entities: int
    changed: int


SelectBuilder = Callable[[duckdb.DuckDBPyConnection, LookupVersion | None], str]
"""Build the SELECT of a look-up's rows. It may reuse rows of the version before."""


def refresh_entities(lake: Lake, stream: Stream) -> RefreshResult:
    """Bring a stream's look-up up to date: the newest features of each entity. Reads only the days that changed."""
    features = lake.tables.load(f"serving.{stream.name}_features")

    def select(cursor: duckdb.DuckDBPyConnection, before: LookupVersion | None) -> str:
        return _newest_features_sql(cursor, lake, features, _entity_column(stream, features), before)

    return _refresh(lake, stream.name, (sequence_of(features),), select)


def refresh_customers(lake: Lake) -> RefreshResult:
    """Bring the customers look-up up to date: each customer's history in silver of retail and orders."""
    tables = {name: lake.tables.load(f"silver.{name}") for name in CUSTOMER_STREAMS}
    sql = bind(
        Path(__file__).with_name("customers.sql").read_text(),
        {name: f"from {scan_sql(table)}" for name, table in tables.items()},
    )
    return _refresh(lake, CUSTOMERS, tuple(map(sequence_of, tables.values())), lambda *_: sql)


def entity_keys(lake: Lake, stream: Stream, values: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return each look-up, with the id, that holds the entity named by these values of the stream's fields."""
    keys: list[tuple[str, str]] = []
    if stream.has_features:
        entity = _entity_column(stream, lake.tables.load(f"serving.{stream.name}_features"))
        keys += [(stream.name, values[entity])] if entity in values else []
    if stream.name in CUSTOMER_STREAMS and "customer_id" in values:
        keys.append((CUSTOMERS, values["customer_id"]))
    return keys


def has_customers(streams: Sequence[str]) -> bool:
    """Return whether these streams include all that the customers look-up needs."""
    return set(CUSTOMER_STREAMS) <= {*streams}


def _refresh(lake: Lake, name: str, numbers: tuple[int, ...], select: SelectBuilder) -> RefreshResult:
    before = max(list_versions(lake.objects, name), key=lambda version: version.numbers, default=None)
    with lake.engine.scratch() as folder, lake.engine.cursor() as cursor:
        if before is not None and before.numbers >= numbers:
            row = cursor.execute(f"select count(*) from {scan_version_sql(lake, before)}").fetchone() or (0,)
            _write_to_dynamodb(lake, cursor, name, before, None)
            return RefreshResult(before, row[0], 0)
        path = folder / "lookup.parquet"
        cursor.execute(
            f"copy ({select(cursor, before)} order by id) to {literal(str(path))}"
            f" (format parquet, compression zstd, row_group_size {ROW_GROUP_ROWS})"
        )
        key = version_key(name, numbers)
        lake.objects.put_file(key, path)
        lake.changes("lookups").mark(name)
        version = LookupVersion(key, numbers, path.stat().st_size)
        changed = _count_changes(
            cursor, f"read_parquet({literal(str(path))})", scan_version_sql(lake, before) if before else None
        )
        _write_to_dynamodb(lake, cursor, name, version, before)
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
