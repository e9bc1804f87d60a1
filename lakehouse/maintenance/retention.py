"""Retention: each layer lets go of the partitions that its contract no longer asks to keep, files first come last.

The order makes it safe to be killed anywhere: landing lets go of what bronze holds; bronze of what landing no longer has,
or it would be landed again; realtime of what bronze holds. Days before the first that silver keeps are never computed
again (see `layers.retention`), so nothing comes back. The files themselves go when no snapshot names them any more.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import TypeVar

from pyiceberg.expressions import And, BooleanExpression, LessThan
from pyiceberg.manifest import DataFile

from lakehouse.contracts.sql import literal
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import scan_sql
from lakehouse.http.idempotency import expire as expire_answers
from lakehouse.landing.keys import LandingObject
from lakehouse.landing.landing import days_landed, list_incoming, list_realtime_day
from lakehouse.pipeline.bronze import taken
from lakehouse.pipeline.exports import export_dashboard
from lakehouse.pipeline.gold import DAILY_METRICS, write_metrics
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.retention import first_kept
from lakehouse.pipeline.writing import commit_files, recomputing
from lakehouse.storage.iceberg.commit import files_of
from lakehouse.storage.iceberg.snapshots import EPOCH

T = TypeVar("T")

DELETED_AT_ONCE = 1000
DAYS_AT_ONCE = 365


@dataclass(frozen=True, slots=True)
class Dropped:
    """What a layer of a stream let go of: partitions with their files, or objects."""

    what: str
    partitions: int = 0
    files: int = 0
    bytes: int = 0
    rows: int = 0


def apply_retention(
    lake: Lake, stream: Stream, *, today: date | None = None, dry_run: bool = False
) -> Iterator[Dropped]:
    """Drop what the stream's contract no longer asks to keep, layer by layer; what was dropped as it is done."""
    run = _Retention(lake, stream, today or datetime.now(UTC).date(), dry_run)
    yield from run.landing()
    yield from run.realtime()
    yield from run.bronze()
    yield from run.by_day(f"quarantine.{stream.name}", first_kept(stream.contract, "quarantine", run.today))
    yield from run.by_day(f"silver.{stream.name}", first_kept(stream.contract, "silver", run.today))
    yield from run.unified_objects()
    yield from run.gold()
    yield from run.serving()


def forget_answers(lake: Lake, *, dry_run: bool = False) -> Dropped:
    """Delete the answers to idempotent requests that are older than they are promised for."""
    return Dropped("idempotency answers", files=0 if dry_run else expire_answers(lake.objects))


@dataclass(frozen=True, slots=True)
class _Retention:
    lake: Lake
    stream: Stream
    today: date
    dry_run: bool
    gone: set[str] = field(default_factory=set)
    """Landing objects that were let go of, in a dry run too."""

    def landing(self) -> Iterator[Dropped]:
        """Objects older than the contract asks for, as far as bronze holds their rows."""
        first = first_kept(self.stream.contract, "landing", self.today)
        if first is None:
            return
        table = self.lake.tables.load(f"bronze.{self.stream.name}")
        days = files = size = 0
        for day, landings in self._landed_before(first).items():
            held = taken(self.lake, table, [day])
            gone = [one for one in landings if one.key in held]
            self._delete([one.key for one in gone])
            self.gone.update(one.key for one in gone)
            days, files, size = days + bool(gone), files + len(gone), size + sum(one.size for one in gone)
        if files:
            yield Dropped(f"landing/{self.stream.name}", days, files, size)

    def realtime(self) -> Iterator[Dropped]:
        """Hours older than the contract asks for, but none from which a landing object is not in bronze yet."""
        first = first_kept(self.stream.contract, "realtime", self.today)
        if first is None:
            return
        table = self.lake.tables.load(f"bronze.{self.stream.name}")
        waiting = [
            day
            for day, landings in self._landed_before(first).items()
            if {one.key for one in landings} - taken(self.lake, table, [day])
        ]
        hour = f"{min([first, *waiting])}-00"
        yield from self._drop(
            f"realtime.{self.stream.name}",
            _before("arrival_hour", hour),
            lambda file: str(file.partition[0]) < hour,
        )

    def bronze(self) -> Iterator[Dropped]:
        """Rows whose day of arrival and event date are both older than the contract asks for.

        Silver of a day that is kept is computed from all rows of that day, whenever they arrived; and what landing still
        has would be landed again.
        """
        first = first_kept(self.stream.contract, "bronze", self.today)
        if first is None:
            return
        landed = set(self._landed_before(first))

        def is_old(file: DataFile) -> bool:
            arrived, day = (EPOCH + timedelta(days=file.partition[position]) for position in (0, 1))
            return arrived < first and day < first and arrived not in landed

        both = And(_before("arrival_dt", first.isoformat()), _before("dt", first.isoformat()))
        yield from self._drop(f"bronze.{self.stream.name}", both, is_old)

    def by_day(self, name: str, first: date | None) -> Iterator[Dropped]:
        """The days before `first` of a table partitioned by `dt`."""
        if first is not None:
            days = (first - EPOCH).days
            yield from self._drop(name, _before("dt", first.isoformat()), lambda file: file.partition[0] < days)

    def unified_objects(self) -> Iterator[Dropped]:
        """The unified view's objects, which hold silver's rows."""
        first = first_kept(self.stream.contract, "silver", self.today)
        folder = f"serving/unified/{self.stream.name}"
        if first is None:
            return
        # Days as text sort as days do; an object of another name is nobody's of ours.
        last = f"{folder}/dt={first}"
        found = [one for one in self.lake.objects.list(folder) if f"{folder}/dt=0" < one.key < last]
        self._delete(one.key for one in found)
        if found:
            yield Dropped(folder, len(found), len(found), sum(one.size for one in found))

    def gold(self) -> Iterator[Dropped]:
        """The stream's aggregates, and their numbers in long form, whose days all streams share."""
        name, first = self.stream.name, first_kept(self.stream.contract, "gold", self.today)
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
            for days in _some(sorted(counts), DAYS_AT_ONCE):
                write_metrics(self.lake, days)
            export_dashboard(self.lake, self.stream)
        yield Dropped(f"{DAILY_METRICS} of {name}", len(counts), rows=sum(counts.values()))

    def serving(self) -> Iterator[Dropped]:
        """Features and alerts, and the alerts' objects."""
        name, first = self.stream.name, first_kept(self.stream.contract, "serving", self.today)
        yield from self._alert_objects(first)
        for kind in ("features", "alerts"):
            yield from self.by_day(f"serving.{name}_{kind}", first)

    def _alert_objects(self, first: date | None) -> Iterator[Dropped]:
        if first is None:
            return
        scan = scan_sql(self.lake.tables.load(f"serving.{self.stream.name}_alerts"))
        with self.lake.engine.cursor() as cursor:
            found = cursor.execute(f"select distinct alert, dt from {scan} where dt < date '{first}'").fetchall()
        keys = [f"serving/alerts/{alert}_{day:%Y%m%d}.json" for alert, day in found]
        self._delete(keys)
        if keys:
            yield Dropped("serving/alerts", len(keys), len(keys))

    def _landed_before(self, first: date) -> dict[date, list[LandingObject]]:
        """The landing objects that arrived before this day, by day."""
        name, objects = self.stream.name, self.lake.objects
        start = min(self.stream.contract.history_start, first)
        found = {
            day: list_realtime_day(objects, name, day)
            for day in days_landed(objects, name, start, first - timedelta(days=1))
        }
        for one in list_incoming(objects, name):
            if one.day < first:
                found.setdefault(one.day, []).append(one)
        left = {day: [one for one in landings if one.key not in self.gone] for day, landings in found.items()}
        return {day: landings for day, landings in left.items() if landings}

    def _drop(self, name: str, where: BooleanExpression, is_old: Callable[[DataFile], bool]) -> Iterator[Dropped]:
        def attempt() -> list[DataFile]:
            table = self.lake.tables.load(name)
            old = [file for file in files_of(table, where) if is_old(file)]
            if old and not self.dry_run:
                # No ledger: what is dropped is no change that anything would be computed from.
                commit_files(self.lake, table, [], where, removed=old, ledger={})
            return old

        if old := recomputing(attempt):
            yield Dropped(
                name,
                len({tuple(file.partition[n] for n in range(len(file.partition))) for file in old}),
                len(old),
                sum(file.file_size_in_bytes for file in old),
                sum(file.record_count for file in old),
            )

    def _delete(self, keys: Iterable[str]) -> None:
        for some in _some(keys, DELETED_AT_ONCE):
            if not self.dry_run:
                self.lake.objects.delete(some)


def _before(column: str, value: str) -> BooleanExpression:
    less: Callable[..., BooleanExpression] = LessThan  # pydantic hides its signature from type checkers
    return less(column, value)


def _some(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """The things, so many at a time."""
    left = iter(things)
    while some := list(islice(left, size)):
        yield some
