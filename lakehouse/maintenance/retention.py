"""Retention: drop the partitions and objects that a stream's contract no longer asks to keep.

Layers are dropped in an order that is safe to interrupt anywhere. Landing drops what bronze holds, bronze drops what
landing no longer has (it would be landed again), and realtime drops what bronze holds. Days before the first day that
silver keeps are never computed again (see `pipeline.lineage.retention`), so nothing comes back. The data files are
deleted once no snapshot references them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from pyiceberg.expressions import And, BooleanExpression, LessThan
from pyiceberg.manifest import DataFile

from lakehouse.contracts.sql import literal
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import scan_sql
from lakehouse.http.idempotency import expire
from lakehouse.landing.keys import LandingObject
from lakehouse.landing.listing import days_landed, list_incoming, list_realtime_day
from lakehouse.landing.shared import delete_landing, sections
from lakehouse.maintenance.file_changes import FileChanges
from lakehouse.pipeline.alerts import alerts_key
from lakehouse.pipeline.bronze import ingested_objects
from lakehouse.pipeline.commits import commit_files, retry_on_conflict
from lakehouse.pipeline.exports import export_dashboard
from lakehouse.pipeline.gold import write_metrics
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.retention import first_kept_day
from lakehouse.pipeline.long_form import DAILY_METRICS
from lakehouse.pipeline.table_specs import anomaly_tables
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import date_from_days, days_from_date

METRICS_DAYS_PER_COMMIT = 365


def apply_retention(
    lake: Lake, stream: Stream, *, today: date | None = None, dry_run: bool = False
) -> Iterator[FileChanges]:
    """Drop what the stream's contract no longer asks to keep, and yield what each layer dropped as it happens."""
    run = _Retention(lake, stream, today or datetime.now(UTC).date(), dry_run)
    yield from run.landing()
    yield from run.realtime()
    yield from run.bronze()
    yield from run.by_day(f"quarantine.{stream.name}", first_kept_day(stream.contract, "quarantine", run.today))
    yield from run.by_day(f"silver.{stream.name}", first_kept_day(stream.contract, "silver", run.today))
    yield from run.unified_objects()
    yield from run.gold()
    yield from run.serving()


def expire_idempotency_records(lake: Lake, *, dry_run: bool = False) -> FileChanges:
    """Delete stored responses to idempotent requests that are past their promised lifetime."""
    return FileChanges("idempotency answers", removed=0 if dry_run else expire(lake.objects))


@dataclass(frozen=True, slots=True)
class _Retention:
    lake: Lake
    stream: Stream
    today: date
    dry_run: bool
    dropped_keys: set[str] = field(default_factory=set)
    """Landing objects that this run dropped, or would drop in a dry run."""
    ingested: dict[tuple[str, date], set[str]] = field(default_factory=dict)
    """Landing objects that bronze holds, by stream and day of arrival."""

    def landing(self) -> Iterator[FileChanges]:
        """Drop objects older than the contract keeps, provided bronze holds their rows."""
        first = first_kept_day(self.stream.contract, "landing", self.today)
        if first is None:
            return
        table = self.lake.tables.load(f"bronze.{self.stream.name}")
        days = files = size = 0
        for day, objects in self._landed_before(first).items():
            in_bronze = ingested_objects(self.lake, table, [day])
            ingested = [obj for obj in objects if obj.key in in_bronze]
            dropped = [obj for obj in ingested if obj.shared_key is None]
            self._delete(obj.key for obj in dropped)
            dropped += self._drop_sections([obj for obj in ingested if obj.shared_key is not None])
            self.dropped_keys.update(obj.key for obj in dropped)
            days, files, size = days + bool(dropped), files + len(dropped), size + sum(obj.size for obj in dropped)
        if files:
            yield FileChanges(f"landing/{self.stream.name}", removed=files, bytes=size, partitions=days)

    def _drop_sections(self, expired: Sequence[LandingObject]) -> list[LandingObject]:
        """Drop sections of shared objects; returns those that were.

        A shared object is deleted when no stream needs its section any longer. It is written again only where another
        stream keeps its own for longer; where bronze of another lacks its own, it waits for the next run.
        """
        needs = {obj.key: {self._need(other) for other in sections(str(obj.shared_key))} for obj in expired}
        whole = [obj for obj in expired if needs[obj.key] == {None}]
        moved = [obj for obj in expired if "kept" in needs[obj.key]]
        self._delete(str(obj.shared_key) for obj in whole)
        if not self.dry_run:
            delete_landing(self.lake.objects, (obj.key for obj in moved))
        return [*whole, *moved]

    def _need(self, section: LandingObject) -> Literal["kept", "pending"] | None:
        """Return why a section can't be deleted yet; None if it can."""
        stream = self.lake.streams.get(section.stream)
        first = first_kept_day(stream.contract, "landing", self.today) if stream else None
        if stream is None or first is None or section.day >= first:
            return "kept"
        if (section.stream, section.day) not in self.ingested:
            table = self.lake.tables.load(f"bronze.{section.stream}")
            self.ingested[section.stream, section.day] = ingested_objects(self.lake, table, [section.day])
        return None if section.key in self.ingested[section.stream, section.day] else "pending"

    def realtime(self) -> Iterator[FileChanges]:
        """Drop hours older than the contract keeps, up to the first day with landing objects that bronze lacks."""
        first = first_kept_day(self.stream.contract, "realtime", self.today)
        if first is None:
            return
        table = self.lake.tables.load(f"bronze.{self.stream.name}")
        incomplete = [
            day
            for day, objects in self._landed_before(first).items()
            if {obj.key for obj in objects} - ingested_objects(self.lake, table, [day])
        ]
        hour = f"{min([first, *incomplete])}-00"
        yield from self._drop(
            f"realtime.{self.stream.name}",
            _before("arrival_hour", hour),
            lambda file: str(file.partition[0]) < hour,
        )

    def bronze(self) -> Iterator[FileChanges]:
        """Drop rows whose arrival date and event date are both older than the contract keeps.

        A silver day that is kept is computed from all its rows, whenever they arrived. Arrival days that landing still
        has are kept too, because they would be landed again.
        """
        first = first_kept_day(self.stream.contract, "bronze", self.today)
        if first is None:
            return
        landed = set(self._landed_before(first))

        def is_old(file: DataFile) -> bool:
            arrival_day, day = (date_from_days(file.partition[position]) for position in (0, 1))
            return arrival_day < first and day < first and arrival_day not in landed

        both = And(_before("arrival_dt", first.isoformat()), _before("dt", first.isoformat()))
        yield from self._drop(f"bronze.{self.stream.name}", both, is_old)

    def by_day(self, name: str, first: date | None) -> Iterator[FileChanges]:
        """Drop the days before `first` from a table partitioned by `dt`."""
        if first is not None:
            days = days_from_date(first)
            yield from self._drop(name, _before("dt", first.isoformat()), lambda file: file.partition[0] < days)

    def unified_objects(self) -> Iterator[FileChanges]:
        """Drop the exported objects of the unified view, which hold silver's rows."""
        first = first_kept_day(self.stream.contract, "silver", self.today)
        folder = f"serving/unified/{self.stream.name}"
        if first is None:
            return
        # Days as text sort like dates. A key without `dt=<digit>` was not written by an export.
        last = f"{folder}/dt={first}"
        old = [info for info in self.lake.objects.list(folder) if f"{folder}/dt=0" < info.key < last]
        self._delete(info.key for info in old)
        if old:
            yield FileChanges(folder, removed=len(old), bytes=sum(info.size for info in old), partitions=len(old))

    def gold(self) -> Iterator[FileChanges]:
        """Drop the stream's aggregates, and its rows of the daily metrics table that all streams share."""
        name, first = self.stream.name, first_kept_day(self.stream.contract, "gold", self.today)
        yield from self.by_day(f"gold.{name}_daily", first)
        if first is None:
            return
        scan = scan_sql(self.lake.tables.load(DAILY_METRICS))
        with self.lake.engine.cursor() as cursor:
            counts = dict(
                cursor.execute(
                    f"""select date_key, count(*)
                    from {scan}
                    where date_key < date '{first}' and stream = {literal(name)}
                    group by date_key"""
                ).fetchall()
            )
        if not counts:
            return
        if not self.dry_run:
            days = sorted(counts)
            for start in range(0, len(days), METRICS_DAYS_PER_COMMIT):
                write_metrics(self.lake, days[start : start + METRICS_DAYS_PER_COMMIT])
            export_dashboard(self.lake, self.stream)
        yield FileChanges(f"{DAILY_METRICS} of {name}", partitions=len(counts), rows=sum(counts.values()))

    def serving(self) -> Iterator[FileChanges]:
        """Drop features, alerts and anomalies, and the exported alert objects."""
        name, first = self.stream.name, first_kept_day(self.stream.contract, "serving", self.today)
        yield from self._alert_objects(first)
        for kind in ("features", "alerts"):
            yield from self.by_day(f"serving.{name}_{kind}", first)
        for table in anomaly_tables(self.stream):
            yield from self.by_day(table, first)

    def _alert_objects(self, first: date | None) -> Iterator[FileChanges]:
        if first is None:
            return
        scan = scan_sql(self.lake.tables.load(f"serving.{self.stream.name}_alerts"))
        with self.lake.engine.cursor() as cursor:
            old = cursor.execute(f"select distinct alert, dt from {scan} where dt < date '{first}'").fetchall()
        keys = [alerts_key(self.stream, kind, day) for kind, day in old]
        self._delete(keys)
        if keys:
            yield FileChanges("serving/alerts", removed=len(keys), partitions=len(keys))

    def _landed_before(self, first: date) -> dict[date, list[LandingObject]]:
        """List the landing objects that arrived before `first` and were not dropped by this run, by arrival day."""
        name, objects = self.stream.name, self.lake.objects
        start = min(self.stream.contract.history_start, first)
        by_day = {
            day: list_realtime_day(objects, name, day)
            for day in days_landed(objects, name, start, first - timedelta(days=1))
        }
        for incoming in list_incoming(objects, name):
            if incoming.day < first:
                by_day.setdefault(incoming.day, []).append(incoming)
        kept = {day: [obj for obj in landed if obj.key not in self.dropped_keys] for day, landed in by_day.items()}
        return {day: landed for day, landed in kept.items() if landed}

    def _drop(self, name: str, where: BooleanExpression, is_old: Callable[[DataFile], bool]) -> Iterator[FileChanges]:
        def attempt() -> list[DataFile]:
            table = self.lake.tables.load(name)
            old = [file for file in select_files(table, where) if is_old(file)]
            if old and not self.dry_run:
                # No ledger: dropping expired partitions makes nothing downstream stale.
                commit_files(self.lake, table, [], where, removed=old, ledger={})
            return old

        if old := retry_on_conflict(attempt):
            yield FileChanges(
                name,
                removed=len(old),
                bytes=sum(file.file_size_in_bytes for file in old),
                partitions=len({tuple(file.partition[n] for n in range(len(file.partition))) for file in old}),
                rows=sum(file.record_count for file in old),
            )

    def _delete(self, keys: Iterable[str]) -> None:
        if not self.dry_run:
            self.lake.objects.delete(keys)


def _before(column: str, value: str) -> BooleanExpression:
    less_than: Callable[..., BooleanExpression] = LessThan  # pydantic hides its signature from type checkers
    return less_than(column, value)
