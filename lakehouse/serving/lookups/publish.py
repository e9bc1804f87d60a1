"""Look-ups: what is known of each entity, by its id, as sorted Parquet objects that a serving process makes an index of.

An object is `serving/lookup/{name}/{version}.parquet`; its first column is the `id`, as text and in order. The version is
made of the sequence numbers of the tables it was computed from, so a slower run never replaces what a later one knows.
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
from lakehouse.pipeline.lineage.staleness import last_changes, sequence_of
from lakehouse.serving.lookups import dynamodb
from lakehouse.serving.lookups.paths import CUSTOMER_STREAMS, CUSTOMERS, cached_copies, cached_copy, lookups_folder
from lakehouse.storage.objects.store import Objects

PREFIX = "serving/lookup"
MAX_VERSIONS = 2
"""Versions that stay: a reader may just be fetching the one before."""

ROW_GROUP = 20_480


@dataclass(frozen=True, slots=True)
class LookupVersion:
    """An object that holds a look-up, and the sequence numbers of what it was computed from."""

    key: str
    version: tuple[int, ...]
    size: int
    """Bytes."""

    @property
    def stem(self) -> str:
        """The version as the object's name has it."""
        return Path(self.key).stem


@dataclass(frozen=True, slots=True)
class RefreshResult:
    """What a run did: the newest object, the entities in it, and how many of them it has changed or removed."""

    published: LookupVersion
    entities: int
    changed: int


def list_versions(objects: Objects, name: str) -> list[LookupVersion]:
    """The versions of a look-up that there are, the newest last."""
    found = []
    for info in objects.list(f"{PREFIX}/{name}/"):
        numbers = Path(info.key).stem.split("-")
        if info.key.endswith(".parquet") and all(number.isdigit() for number in numbers):
            found.append(LookupVersion(info.key, tuple(map(int, numbers)), info.size))
    return sorted(found, key=lambda one: one.version)


def refresh_entities(lake: Lake, stream: Stream) -> RefreshResult:
    """Bring the look-up of a stream's features up to date: each entity's newest, read from the days that changed alone."""
    features = lake.tables.load(f"serving.{stream.name}_features")

    def select(cursor: duckdb.DuckDBPyConnection, before: LookupVersion | None) -> str:
        return _newest_sql(cursor, lake, features, _entity(stream, features), before)

    return _refresh(lake, stream.name, (sequence_of(features),), select)


def refresh_customers(lake: Lake) -> RefreshResult:
    """Bring the look-up of customers up to date: what silver of retail and orders together knows of each."""
    tables = {name: lake.tables.load(f"silver.{name}") for name in CUSTOMER_STREAMS}
    sql = bind(
        Path(__file__).with_name("customers.sql").read_text(),
        {name: f"from {scan_sql(table)}" for name, table in tables.items()},
    )
    return _refresh(lake, CUSTOMERS, tuple(map(sequence_of, tables.values())), lambda *_: sql)


def delete_old_versions(lake: Lake, name: str) -> None:
    """Delete the versions of a look-up before the newest, and the copies of them on this machine, whoever has them open."""
    versions = list_versions(lake.objects, name)
    lake.objects.delete(one.key for one in versions[:-1])
    folder = lookups_folder(lake.settings)
    newest = {cached_copy(folder, name, one.stem) for one in versions[-1:]}
    for path in cached_copies(folder, name):
        if path not in newest:
            path.unlink(missing_ok=True)


def entity_keys(lake: Lake, stream: Stream, values: Mapping[str, str]) -> list[tuple[str, str]]:
    """The look-ups, each with the id, that tell of the entity whom these values of the stream's fields name."""
    entity = _entity(stream, lake.tables.load(f"serving.{stream.name}_features"))
    found = [(stream.name, values[entity])] if entity in values else []
    if stream.name in CUSTOMER_STREAMS and "customer_id" in values:
        found.append((CUSTOMERS, values["customer_id"]))
    return found


def has_customers(streams: Sequence[str]) -> bool:
    """Whether these streams are enough for the look-up of customers."""
    return set(CUSTOMER_STREAMS) <= {*streams}


Select = Callable[[duckdb.DuckDBPyConnection, LookupVersion | None], str]


def _refresh(lake: Lake, name: str, version: tuple[int, ...], select: Select) -> RefreshResult:
    before = max(list_versions(lake.objects, name), key=lambda one: one.version, default=None)
    with lake.engine.scratch() as folder, lake.engine.cursor() as cursor:
        if before is not None and before.version >= version:
            entities = cursor.execute(f"select count(*) from {_scan(lake, before)}").fetchone() or (0,)
            _to_dynamodb(lake, cursor, name, before, None)
            return RefreshResult(before, entities[0], 0)
        path = folder / "lookup.parquet"
        cursor.execute(
            f"copy ({select(cursor, before)} order by id) to {literal(str(path))}"
            f" (format parquet, compression zstd, row_group_size {ROW_GROUP})"
        )
        key = f"{PREFIX}/{name}/{'-'.join(f'{number:012d}' for number in version)}.parquet"
        lake.objects.put_file(key, path)
        lake.changes("lookups").mark(name)
        done = LookupVersion(key, version, path.stat().st_size)
        moved = _changes(cursor, f"read_parquet({literal(str(path))})", _scan(lake, before) if before else None)
        _to_dynamodb(lake, cursor, name, done, before)
        lake.objects.delete(one.key for one in list_versions(lake.objects, name)[:-MAX_VERSIONS])
        return RefreshResult(done, pq.read_metadata(path).num_rows, moved)


def _newest_sql(
    cursor: duckdb.DuckDBPyConnection, lake: Lake, features: Table, entity: str, before: LookupVersion | None
) -> str:
    names = [name for name, _ in columns_of(features)]
    columns = ", ".join(["id", *map(quote, names)])
    source = f"(select {quote(entity)}::varchar as id, * from {scan_sql(features)} where {quote(entity)} is not null)"
    newest = "qualify row_number() over (partition by id order by dt desc) = 1"
    everything = f"select {columns} from {source} {newest}"
    if before is None:
        return everything
    old = _scan(lake, before)
    if describe(cursor, f"from {old}") != describe(cursor, everything):
        return everything
    days = [*last_changes(features, since=before.version[0])]
    # An entity that is no longer in the day it was last seen on: what it was before is in any other day.
    return f"""with fresh as (
  select {columns} from {source} where {days_filter(days)} {newest}
),
gone as (
  select id from {old} where {days_filter(days)} and id not in (select id from fresh)
),
every as (
  select {columns} from {old} where not ({days_filter(days)})
  union all
  from fresh
  union all
  select {columns} from {source} where id in (select id from gone)
)
select {columns} from every {newest}"""


def _changes(cursor: duckdb.DuckDBPyConnection, now: str, before: str | None) -> int:
    if before is None or describe(cursor, f"from {now}") != describe(cursor, f"from {before}"):
        row = cursor.execute(f"select count(*) from {now}").fetchone()
    else:
        row = cursor.execute(
            f"select count(distinct id) from ((from {now} except from {before}) union all"
            f" (from {before} except from {now}))"
        ).fetchone()
    return int(row[0]) if row else 0


def _to_dynamodb(
    lake: Lake, cursor: duckdb.DuckDBPyConnection, name: str, now: LookupVersion, before: LookupVersion | None
) -> None:
    if (table := dynamodb.open_table(lake.settings)) is None:
        return
    held = table.version(name)
    if held == now.key:
        return
    new, old = _scan(lake, now), _scan(lake, before) if before is not None and held == before.key else None
    rows = f"from {new} except from {old}" if old else f"from {new}"
    if old:
        gone = cursor.execute(f"select id from {old} where id not in (select id from {new})").fetchall()
        table.delete(name, (id_ for (id_,) in gone))
    table.put(name, cursor.cursor().execute(rows).to_arrow_reader(10_000))
    if not old:
        table.keep_only(name, {id_ for (id_,) in cursor.execute(f"select id from {new}").fetchall()})
    table.remember(name, now.key)


def _scan(lake: Lake, one: LookupVersion) -> str:
    return f"read_parquet({literal(f's3://{lake.connection.bucket}/{one.key}')})"


def _entity(stream: Stream, features: Table) -> str:
    """The column that tells entities apart: the contract's, or the first one beside the day."""
    columns = [name for name, _ in columns_of(features)]
    entity = stream.contract.entity
    return entity if entity in columns else next(name for name in columns if name != "dt")
