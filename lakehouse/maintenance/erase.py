"""Erasure: remove a subject's rows from landing, from every table and from every kept snapshot, with the files behind them.

Erasure can be interrupted anywhere and run again, because each step looks for what is still there. Landing objects are
deleted after bronze holds all of their rows and before bronze is rewritten. So no other subject's rows are lost, and
nothing lands again. Between `erase_rows` and `expire_history` the caller recomputes what is derived from bronze.
A row of another subject may mention this one in a text, in any landing object. Such rows are left as they are, redacted or
removed: one choice for all of them. See `residue_scan` for the search that proves nothing is left.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from typing import Literal
from urllib.parse import unquote

from pyiceberg.table import Table

from lakehouse.contracts.sql import literal, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import columns_of, scan_sql
from lakehouse.engine.filters import objects_filter
from lakehouse.errors import CommitConflictError
from lakehouse.landing.keys import LandingObject
from lakehouse.landing.listing import list_days
from lakehouse.landing.readers import bronze_rows
from lakehouse.landing.shared import delete_landing
from lakehouse.maintenance.subject import Subject
from lakehouse.pipeline.alerts import alert_kinds, alerts_key
from lakehouse.pipeline.bronze import ingest_days, ingested_objects
from lakehouse.pipeline.commits import retry_on_conflict
from lakehouse.pipeline.erasure_log import FOLDER, add_record
from lakehouse.pipeline.exports import export_dashboard, export_features
from lakehouse.pipeline.ingest import input_objects
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.properties import carried_properties
from lakehouse.pipeline.long_form import DAILY_METRICS
from lakehouse.pipeline.model_tables import models_below
from lakehouse.pipeline.row_changes import change_rows, delete_rows
from lakehouse.pipeline.table_specs import anomaly_tables
from lakehouse.serving.lookups.publish import drop_earlier_versions
from lakehouse.storage.durability import sync
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.manifests import referenced_files
from lakehouse.storage.iceberg.replace import merge_manifests
from lakehouse.storage.iceberg.snapshots import MAX_SNAPSHOTS_TO_EXPIRE, expire
from lakehouse.storage.objects.store import Objects, object_key

RUN_ID = "erase"

Mentions = Literal["leave", "redact", "remove"]
"""How to treat rows of others that mention the subject."""


@dataclass(slots=True)
class ErasureResult:
    """List a subject's rows: those found by `find_rows`, or removed by `erase_rows`."""

    rows: dict[str, int] = field(default_factory=dict)
    """Row counts by table."""
    landing_objects: dict[str, int] = field(default_factory=dict)
    """Row counts by landing object."""
    exports: list[str] = field(default_factory=list)
    """Objects for other tools that may hold the rows. They are deleted, and written again without them."""
    mentions: dict[str, int] = field(default_factory=dict)
    """Counts of rows of others that mention the subject, by landing object."""
    days: set[date] = field(default_factory=set)
    """Event dates of the rows, and of mentions that are not left as they are."""
    record: str | None = None
    """Key of the erasure record; None if nothing was removed."""


def find_rows(lake: Lake, subject: Subject, mentions: Mentions = "leave") -> ErasureResult:
    """Count a subject's rows, and rows of others that mention it, in landing and in every table. Changes nothing."""
    result = ErasureResult()
    name = subject.stream.name
    bronze = lake.tables.load(f"bronze.{name}")
    own, mentioned = subject.in_bronze(), subject.mentioned_in_bronze()
    with lake.engine.cursor() as cursor:
        counts = cursor.execute(
            f"""select _object, dt, count(*) filter ({own}), count(*) filter ({mentioned})
            from {scan_sql(bronze)}
            where {own} or {mentioned}
            group by all"""
        ).fetchall()
    for key, day, own_rows, mentioning in counts:
        _add(result.landing_objects, key, own_rows)
        _add(result.mentions, key, mentioning)
        if own_rows or mentions != "leave":
            result.days.add(day)
    result.rows[f"bronze.{name}"] = sum(result.landing_objects.values())
    for key, own_rows, mentioning in _rows_not_in_bronze(lake, subject):
        _add(result.landing_objects, key, own_rows)
        _add(result.mentions, key, mentioning)
    result.rows[f"quarantine.{name}"] = _rejected_rows(lake, subject)
    for table_name, where in _filters(lake, subject):
        with lake.engine.cursor() as cursor:
            scan = scan_sql(lake.tables.load(table_name))
            result.rows[table_name] = cursor.execute(f"select count(*) from {scan} where {where}").fetchall()[0][0]
    result.exports = [key for key in _exported_objects(lake, subject, result.days) if lake.objects.head(key)]
    return result


def _rejected_rows(lake: Lake, subject: Subject) -> int:
    """Count the subject's rows in quarantine, which is computed again without them."""
    bronze, quarantine = (
        scan_sql(lake.tables.load(f"{layer}.{subject.stream.name}")) for layer in ("bronze", "quarantine")
    )
    own = f"select _object, _row from {bronze} where {subject.in_bronze()}"
    with lake.engine.cursor() as cursor:
        select = f"select count(*) from {quarantine} semi join ({own}) as own using (_object, _row)"
        return int(cursor.execute(select).fetchall()[0][0])


def _add(counts: dict[str, int], key: str, rows: int) -> None:
    if rows:
        counts[key] = counts.get(key, 0) + rows


def _filters(lake: Lake, subject: Subject) -> list[tuple[str, str]]:
    """Return the tables derived from bronze whose columns identify the subject, each with its SQL filter."""
    name = subject.stream.name
    filters = []
    for table_name in (
        f"realtime.{name}", f"silver.{name}", f"gold.{name}_daily", f"serving.{name}_features", f"serving.{name}_alerts",
        *anomaly_tables(subject.stream),
    ):  # fmt: skip
        if where := subject.in_table(dict(columns_of(lake.tables.load(table_name)))):
            filters.append((table_name, where))
    for model in models_below(lake, subject.stream):
        where = subject.in_table(dict(columns_of(lake.tables.load(model.name))))
        if where and model.is_partitioned:  # the others are computed again as a whole
            filters.append((model.name, where))
    dimensions = [
        f"element_at(dimensions, {literal(field)})[1] = {literal(value)}" for field, value in subject.values.items()
    ]
    filters.append((DAILY_METRICS, f"coalesce(stream = {literal(name)} and {' and '.join(dimensions)}, false)"))
    return filters


def _landed(lake: Lake, subject: Subject) -> list[LandingObject]:
    stream = subject.stream
    by_day = list_days(lake.objects, stream.name, stream.contract.history_start, date.today() + timedelta(days=2))
    return [obj for objects in by_day.values() for obj in objects]


def _rows_not_in_bronze(lake: Lake, subject: Subject) -> list[tuple[str, int, int]]:
    """Count the subject's rows, and the mentions, of each landing object with any that bronze does not hold yet."""
    landed = _landed(lake, subject)
    in_bronze = ingested_objects(
        lake, lake.tables.load(f"bronze.{subject.stream.name}"), sorted({obj.day for obj in landed})
    )
    waiting = [obj for obj in landed if obj.key not in in_bronze]
    if not waiting:
        return []
    own, mentioned = subject.in_bronze(), subject.mentioned_in_bronze()
    with lake.engine.cursor() as cursor:
        rows = bronze_rows(cursor, subject.stream.contract, input_objects(lake.objects, waiting))
        select = f"""select _object::varchar, count(*) filter ({own}), count(*) filter ({mentioned})
            from landed
            where {own} or {mentioned}
            group by 1"""
        return rows.query("landed", select).fetchall()


def erase_rows(lake: Lake, subject: Subject, mentions: Mentions = "leave") -> ErasureResult:
    """Remove the subject's rows from landing and every table, and treat mentions in rows of others as chosen.

    What is computed from bronze must then be recomputed. Raises CommitConflictError if other writers keep committing
    first; run it again.
    """
    stream = subject.stream
    waiting = {key for key, own_rows, _ in _rows_not_in_bronze(lake, subject) if own_rows or mentions != "leave"}
    if waiting:
        days = sorted({obj.day for obj in _landed(lake, subject) if obj.key in waiting})
        ingest_days(lake, stream, days, run_id=RUN_ID)
    result = find_rows(lake, subject, mentions)
    removed = dict(result.landing_objects)
    if mentions != "leave":
        for key, rows in result.mentions.items():
            removed[key] = removed.get(key, 0) + (rows if mentions == "remove" else 0)
    result.record = add_record(
        lake.objects,
        stream.name,
        subject.values,
        rows=result.rows,
        landing_objects=removed,
        days=sorted(map(str, result.days)),
        mentions={"rows": sum(result.mentions.values()), "choice": mentions},
    )
    delete_landing(lake.objects, removed)
    _rewrite_bronze(lake, subject, mentions)
    for table_name, where in _filters(lake, subject):
        delete_rows(lake, table_name, where, run_id=RUN_ID)
    if mentions != "leave":
        _drop_from_realtime(lake, stream, result.mentions)
    lake.objects.delete(result.exports)
    return result


def _exported_objects(lake: Lake, subject: Subject, days: Iterable[date]) -> list[str]:
    """List the exports that may hold the subject's rows. They are written anew when their sources are recomputed."""
    name = subject.stream.name
    days = sorted(days)
    return [
        *(f"serving/unified/{name}/dt={day}/data.parquet" for day in days),
        *_alert_objects(lake, subject.stream, days),
        f"serving/dashboards/{name}_daily_metrics.parquet",
        f"serving/analytics/{name}_features.parquet",
    ]


def _alert_objects(lake: Lake, stream: Stream, days: Sequence[date]) -> list[str]:
    """List the objects of alerts of these days, except those of other streams."""
    others = [other for other in lake.streams.values() if other.name != stream.name]
    of_others = {alerts_key(other, kind, day) for other in others for day, kind in alert_kinds(lake, other, days)}
    folders = tuple(f"serving/alerts/{other.name}/" for other in others)
    suffixes = tuple(f"_{day:%Y%m%d}.json" for day in days)
    keys = (info.key for info in lake.objects.list("serving/alerts"))
    return [key for key in keys if key.endswith(suffixes) and not key.startswith(folders) and key not in of_others]


def rewrite_exports(lake: Lake, stream: Stream) -> None:
    """Rewrite the exports that cover all days, and drop older versions of look-ups."""
    export_dashboard(lake, stream)
    export_features(lake, stream)
    drop_earlier_versions(lake, stream)


def _rewrite_bronze(lake: Lake, subject: Subject, mentions: Mentions) -> None:
    name, own, mentioned = f"bronze.{subject.stream.name}", subject.in_bronze(), subject.mentioned_in_bronze()
    if mentions == "redact":
        columns = {
            column: f"case when {mentioned} then {subject.redacted(column)} else {quote(column)} end"
            for column in subject.text_columns
        }
        # First, because the filter of mentions has to see the rows as they are.
        change_rows(lake, name, mentioned, columns, run_id=RUN_ID)
    delete_rows(lake, name, f"({own} or {mentioned})" if mentions == "remove" else own, run_id=RUN_ID)


def _drop_from_realtime(lake: Lake, stream: Stream, objects: Iterable[str]) -> None:
    """Drop the rows of landing objects with mentions from realtime. Silver holds those of them that stay, redacted."""
    if keys := list(objects):
        delete_rows(lake, f"realtime.{stream.name}", objects_filter(keys), run_id=RUN_ID)


def subject_tables(lake: Lake, subject: Subject) -> list[str]:
    """List every table that may hold the subject's rows."""
    name = subject.stream.name
    return [
        *(f"{layer}.{name}" for layer in ("realtime", "bronze", "silver", "quarantine")),
        f"gold.{name}_daily", DAILY_METRICS, f"serving.{name}_features", f"serving.{name}_alerts",
        *anomaly_tables(subject.stream),
        *(model.name for model in models_below(lake, subject.stream)),
    ]  # fmt: skip


def expire_history(lake: Lake, subject: Subject) -> int:
    """Expire all snapshots and tags but the newest snapshot, delete the files only they used, and return how many.

    Raises CommitConflictError if other writers keep committing; run it again.
    """
    return sum(retry_on_conflict(partial(_expire_table, lake, name)) for name in subject_tables(lake, subject))


def _expire_table(lake: Lake, table_name: str) -> int:
    table = lake.tables.load(table_name)
    if table.current_snapshot() is None:
        return 0
    # Manifests keep entries of removed files, with the bounds of their values, until they are rewritten.
    merge_manifests(table)
    objects = Objects.from_url(lake.connection, table.location())
    # Record the candidates first, so that a run killed between expiring and deleting can be finished.
    pending_key = f"{FOLDER}/.pending/{table_name}.json"
    candidates = {*_pending(lake, pending_key), *_reachable_keys(table)}
    lake.objects.put(pending_key, json.dumps(sorted(candidates)).encode())
    _expire_all(table)
    kept = set(_reachable_keys(lake.tables.load(table_name)))
    unused = sorted(candidates - kept)
    objects.delete(unused)
    sync(lake.connection)  # a power cut must not bring files back and keep what follows
    lake.objects.delete([pending_key])
    return len(unused)


def _pending(lake: Lake, key: str) -> list[str]:
    return list(json.loads(lake.objects.get(key))) if lake.objects.head(key) else []


def _reachable_keys(table: Table) -> list[str]:
    return [unquote(object_key(path)) for path in referenced_files(table)]


def _expire_all(table: Table) -> None:
    """Drop all tags and branches but main, then all snapshots but the current one."""
    for name, ref in list(table.metadata.refs.items()):
        if name != "main":
            with table.manage_snapshots() as change:
                if ref.snapshot_ref_type == "tag":
                    change.remove_tag(name)
                else:
                    change.remove_branch(name)
    while old := [
        snapshot for snapshot in table.metadata.snapshots if snapshot.snapshot_id != table.metadata.current_snapshot_id
    ]:
        old = sorted(old, key=lambda snapshot: snapshot.sequence_number or 0)[:MAX_SNAPSHOTS_TO_EXPIRE]
        if not expire(table, old, carried_properties(table, old)):
            raise CommitConflictError(
                f"Snapshots of {qualified_name(table)} could not be expired: other commits kept winning. Run it again."
            )
        table.refresh()
