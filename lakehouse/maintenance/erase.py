"""Erasure: a subject's rows leave landing, every table and every kept snapshot, and no file of theirs stays.

Killed anywhere it can be run again: each step looks for what is there. Landing objects go before bronze is rewritten, and
after it holds all of their rows, so that nothing of others is lost and nothing is landed again. What is computed from
bronze is computed again by the caller between `erase_rows` and `forget_history`.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import partial
from urllib.parse import unquote, urlparse

from pyiceberg.table import Table

from lakehouse.contracts.sql import literal, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import columns_of, scan_sql
from lakehouse.engine.stream_writer import write_stream
from lakehouse.errors import CommitConflictError
from lakehouse.landing.keys import LandingObject
from lakehouse.landing.landing import list_days
from lakehouse.landing.readers import bronze_rows
from lakehouse.maintenance.orphans import reachable
from lakehouse.maintenance.subject import Subject
from lakehouse.pipeline.bronze import land_days, sources, taken
from lakehouse.pipeline.erasure_log import FOLDER, add_record
from lakehouse.pipeline.exports import export_dashboard, export_features
from lakehouse.pipeline.gold import DAILY_METRICS
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.properties import carried
from lakehouse.pipeline.writing import commit_files, recomputing
from lakehouse.serving.lookups.paths import CUSTOMERS
from lakehouse.serving.lookups.publish import forget_versions
from lakehouse.storage.iceberg.commit import files_of, partitions_filter, upload
from lakehouse.storage.iceberg.data_file import Value
from lakehouse.storage.iceberg.replace import merge_manifests
from lakehouse.storage.iceberg.snapshots import EPOCH, EXPIRE_AT_MOST, expire
from lakehouse.storage.objects.store import Objects

RUN_ID = "erase"


@dataclass(slots=True)
class Erased:
    """What was found of a subject, and removed unless it was only looked for."""

    rows: dict[str, int] = field(default_factory=dict)
    """Rows by table."""
    landing_objects: dict[str, int] = field(default_factory=dict)
    """Landing objects with rows of theirs, and how many."""
    days: set[date] = field(default_factory=set)
    """Event dates of the rows."""
    record: str | None = None
    """The key of the record."""


def find(lake: Lake, subject: Subject) -> Erased:
    """What there is of a subject; nothing is changed."""
    found = Erased()
    name = subject.stream.name
    bronze = lake.tables.load(f"bronze.{name}")
    with lake.engine.cursor() as cursor:
        for key, day, rows in cursor.execute(
            f"select _object, dt, count(*) from {scan_sql(bronze)} where {subject.in_bronze()} group by all"
        ).fetchall():
            found.landing_objects[key] = found.landing_objects.get(key, 0) + rows
            found.days.add(day)
    found.rows[f"bronze.{name}"] = sum(found.landing_objects.values())
    for key, rows in _waiting(lake, subject).items():
        found.landing_objects[key] = rows
    for table_name, where in _tables(lake, subject):
        with lake.engine.cursor() as cursor:
            scan = scan_sql(lake.tables.load(table_name))
            found.rows[table_name] = cursor.execute(f"select count(*) from {scan} where {where}").fetchall()[0][0]
    return found


def _tables(lake: Lake, subject: Subject) -> list[tuple[str, str]]:
    """Tables below bronze that can tell whose their rows are, with the filter of the subject's."""
    name = subject.stream.name
    found = []
    for table_name in (
        f"realtime.{name}", f"silver.{name}", f"gold.{name}_daily", f"serving.{name}_features", f"serving.{name}_alerts"
    ):  # fmt: skip
        if where := subject.in_table(dict(columns_of(lake.tables.load(table_name)))):
            found.append((table_name, where))
    whose = [
        f"element_at(dimensions, {literal(field)})[1] = {literal(value)}" for field, value in subject.values.items()
    ]
    found.append((DAILY_METRICS, f"coalesce(stream = {literal(name)} and {' and '.join(whose)}, false)"))
    return found


def _landed(lake: Lake, subject: Subject) -> list[LandingObject]:
    stream = subject.stream
    days = list_days(lake.objects, stream.name, stream.contract.history_start, date.today() + timedelta(days=2))
    return [one for found in days.values() for one in found]


def _waiting(lake: Lake, subject: Subject) -> dict[str, int]:
    """Landing objects with rows of the subject that bronze has not taken."""
    landed = _landed(lake, subject)
    known = taken(lake, lake.tables.load(f"bronze.{subject.stream.name}"), sorted({one.day for one in landed}))
    todo = [one for one in landed if one.key not in known]
    if not todo:
        return {}
    with lake.engine.cursor() as cursor:
        rows = bronze_rows(cursor, subject.stream.contract, sources(lake, todo))
        select = f"select _object::varchar, count(*) from landed where {subject.in_bronze()} group by 1"
        return dict(rows.query("landed", select).fetchall())


def erase_rows(lake: Lake, subject: Subject) -> Erased:
    """Take the subject's rows out of landing and every table; what is computed from bronze is then to be computed again.

    Raises CommitConflictError when other writers keep being first; run it again.
    """
    stream = subject.stream
    if waiting := _waiting(lake, subject):
        land_days(
            lake, stream, sorted({one.day for one in _landed(lake, subject) if one.key in waiting}), run_id=RUN_ID
        )
    found = find(lake, subject)
    found.record = add_record(
        lake.objects,
        stream.name,
        subject.values,
        rows=found.rows,
        landing_objects=found.landing_objects,
        days=sorted(map(str, found.days)),
    )
    lake.objects.delete(found.landing_objects)
    _rewrite(lake, f"bronze.{stream.name}", subject.in_bronze())
    for table_name, where in _tables(lake, subject):
        _rewrite(lake, table_name, where)
    lake.objects.delete(_objects_of(lake, subject, found.days))
    return found


def _objects_of(lake: Lake, subject: Subject, days: Iterable[date]) -> list[str]:
    """Serving objects that may hold rows of the subject's; they are written anew with what they are computed from."""
    name = subject.stream.name
    dates = {f"_{day:%Y%m%d}.json" for day in days}
    alerts = [info.key for info in lake.objects.list("serving/alerts") if info.key[-14:] in dates]
    return [
        *(f"serving/unified/{name}/dt={day}/data.parquet" for day in days),
        *alerts,
        f"serving/dashboards/{name}_daily_metrics.parquet",
        f"serving/analytics/{name}_features.parquet",
    ]


def export_again(lake: Lake, stream: Stream) -> None:
    """Write the objects anew that hold something of all days, and let the versions of look-ups before these go."""
    export_dashboard(lake, stream)
    export_features(lake, stream)
    for name in (stream.name, CUSTOMERS):
        forget_versions(lake, name)


def _rewrite(lake: Lake, table_name: str, whose: str) -> None:
    recomputing(partial(_attempt, lake, table_name, whose))


def _attempt(lake: Lake, table_name: str, whose: str) -> None:
    """Replace the partitions that hold such rows by what is left of them."""
    table = lake.tables.load(table_name)
    by = [part.name for part in table.spec().fields]
    keys = ", ".join(map(quote, by))
    with lake.engine.cursor() as cursor, lake.engine.scratch() as folder:
        partitions: list[tuple[Value, ...]] = cursor.execute(
            f"select distinct {keys} from {scan_sql(table)} where {whose}"
        ).fetchall()
        if not partitions:
            return
        cursor.execute("create temp table partitions as " + " union all ".join(_row(by, one) for one in partitions))
        touched = partitions_filter(by[0], [one[0] for one in partitions])
        wanted = {tuple(_internal(value) for value in one) for one in partitions}
        removed = [one for one in files_of(table, touched) if tuple(one.partition[i] for i in range(len(by))) in wanted]
        columns = ", ".join(quote(column.name) for column in table.schema().fields)
        kept = cursor.execute(
            f"select {columns} from {scan_sql(table)} semi join partitions using ({keys}) where not {whose}"
        )
        files = write_stream(lake.engine, iter(kept.to_arrow_reader(122_880)), "from chunk", table, folder)
        added = upload(lake.connection, table, files)
        ledger = {_name(by[-1], one[-1]): {"rows": 0} for one in partitions}
        for file, data_file in zip(files, added, strict=True):
            ledger[_name(by[-1], file.partition[-1])]["rows"] += data_file.record_count
        commit_files(lake, table, added, touched, removed=removed, ledger=ledger, run_id=RUN_ID)


def _row(by: Sequence[str], partition: Sequence[Value]) -> str:
    return "select " + ", ".join(
        f"date '{value}' as {quote(name)}" if isinstance(value, date) else f"{literal(str(value))} as {quote(name)}"
        for name, value in zip(by, partition, strict=True)
    )


def _internal(value: Value) -> str | int:
    return (value - EPOCH).days if isinstance(value, date) else value


def _name(column: str, value: Value) -> str:
    return f"{value}:00" if column == "arrival_hour" else str(value)


def table_names(lake: Lake, subject: Subject) -> list[str]:
    """Every table that may hold something of the subject."""
    name = subject.stream.name
    return [
        *(f"{layer}.{name}" for layer in ("realtime", "bronze", "silver", "quarantine")),
        f"gold.{name}_daily", DAILY_METRICS, f"serving.{name}_features", f"serving.{name}_alerts",
    ]  # fmt: skip


def forget_history(lake: Lake, subject: Subject) -> int:
    """Let every snapshot but the newest go, tags with them, and delete the files that only they named; how many.

    Raises CommitConflictError when others commit all the while; run it again.
    """
    return sum(recomputing(partial(_forget, lake, name)) for name in table_names(lake, subject))


def _forget(lake: Lake, table_name: str) -> int:
    table = lake.tables.load(table_name)
    if table.current_snapshot() is None:
        return 0
    _drop_deleted_entries(table)
    objects = Objects.from_connection(replace(lake.connection, bucket=urlparse(table.location()).netloc))
    # Written down first: whoever is killed between expiring and deleting goes on from there.
    todo = f"{FOLDER}/.pending/{table_name}.json"
    lake.objects.put(todo, json.dumps(sorted({*_pending(lake, todo), *_reached(table)})).encode())
    _expire_all(table)
    table = lake.tables.load(table_name)
    kept = set(_reached(table))
    gone = [key for key in _pending(lake, todo) if key not in kept]
    for start in range(0, len(gone), 1000):
        objects.delete(gone[start : start + 1000])
    lake.objects.delete([todo])
    return len(gone)


def _drop_deleted_entries(table: Table) -> None:
    """Manifests say of files just removed which values they held, until they are written anew."""
    merge_manifests(table)


def _pending(lake: Lake, key: str) -> list[str]:
    return list(json.loads(lake.objects.get(key))) if lake.objects.head(key) else []


def _reached(table: Table) -> list[str]:
    return [unquote(urlparse(path).path.lstrip("/")) for path in reachable(table)]


def _expire_all(table: Table) -> None:
    for name, ref in list(table.metadata.refs.items()):
        if name != "main":
            with table.manage_snapshots() as change:
                if ref.snapshot_ref_type == "tag":
                    change.remove_tag(name)
                else:
                    change.remove_branch(name)
    while old := [one for one in table.metadata.snapshots if one.snapshot_id != table.metadata.current_snapshot_id]:
        old = sorted(old, key=lambda one: one.sequence_number or 0)[:EXPIRE_AT_MOST]
        if not expire(table, old, carried(table, old)):
            raise CommitConflictError(f"{'.'.join(table.name())} is committed to too often just now; run it again.")
        table.refresh()
