"""Compute the tables of a stream's anomalies: the anomalies of each day, and the states of the detectors after it.

A day is a function of its silver and of the states after the day before. So a day whose states change makes the next one
stale. One run commits both tables: first the states, then the anomalies, which record what they were computed from.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.table import Table

from lakehouse.contracts.sql import quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import columns_of, copy_to_files, scan_sql
from lakehouse.pipeline.anomaly_detection import Detected, detect_day
from lakehouse.pipeline.anomaly_series import Series, read_series, rule_of
from lakehouse.pipeline.commits import (
    NO_ROWS,
    WriteResult,
    commit_days,
    commit_files,
    partition_sizes,
    retry_on_conflict,
)
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.properties import computed_from
from lakehouse.pipeline.lineage.staleness import last_changes, redefined_days
from lakehouse.pipeline.table_specs import SILVER_BEFORE_PROPERTY, STATE_COLUMN, anomaly_tables
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.commit import discarded_on_failure, upload
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import NewFile, partitions_filter
from lakehouse.storage.iceberg.snapshots import sequence_of

States = Mapping[Series, str]
"""The stored state of each series' detector."""


@dataclass(frozen=True, slots=True)
class AnomalyResult:
    """The commits of one run: of the anomalies, and of the states that changed."""

    anomalies: WriteResult
    states: WriteResult


@dataclass(slots=True)
class _Written:
    """The days and files of one table that a run writes."""

    table: Table
    days: list[date] = field(default_factory=list)
    files: list[NewFile] = field(default_factory=list)

    def add(self, lake: Lake, folder: Path, day: date, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of a day to a file."""
        self.days.append(day)
        if not rows:
            return
        columns = [name for name, _ in columns_of(self.table)]
        found = pa.table({name: [day if name == "dt" else row.get(name) for row in rows] for name in columns})
        with lake.engine.cursor() as cursor:
            cursor.register("found_rows", found)
            name = f"{self.table.name()[-1]}-{day}"
            self.files += copy_to_files(
                cursor, "select * from found_rows", self.table, folder, name=name, partition=(day,)
            )


def write_anomalies(
    lake: Lake, stream: Stream, days: Sequence[date], *, cascade: bool = False, run_id: str = ""
) -> AnomalyResult:
    """Replace the anomalies of these days and the states after them.

    With `cascade`, the days after them follow as long as the states before each have changed. Raises CommitConflictError
    if other writers keep committing first.
    """
    if not days:
        return AnomalyResult(*(WriteResult(name, {}) for name in anomaly_tables(stream)))
    return retry_on_conflict(lambda: _write(lake, stream, sorted(set(days)), cascade, run_id))


def stale_anomaly_days(lake: Lake, stream: Stream) -> set[date]:
    """Find the days whose anomalies predate their silver, the contract's rule, or the states after the day before.

    Days without anomalies that silver held before there was a table of them are left out, so that declaring a rule computes
    no history. They are computed when they change, or in a backfill.
    """
    silver, anomalies, states = (lake.tables.load(name) for name in (f"silver.{stream.name}", *anomaly_tables(stream)))
    changes, changed = last_changes(silver), last_changes(states)
    first = int(anomalies.properties.get(SILVER_BEFORE_PROPERTY, -1))
    read = computed_from(anomalies, silver, changes)
    stale = {day for day, sequence in changes.items() if sequence > read.get(day, first)}
    stale |= redefined_days(anomalies, stream.anomaly_definition, changes)
    states_read, computed = computed_from(anomalies, states, changes), sorted(changed)
    for day, sequence in states_read.items():
        earlier = bisect_left(computed, day) - 1
        if earlier >= 0 and changed[computed[earlier]] > sequence:
            stale.add(day)
    return stale


def read_states(lake: Lake, stream: Stream, states: Table, day: date | None) -> dict[Series, str]:
    """Read the states after a day, by series."""
    if day is None:
        return {}
    by = ", ".join(f"{quote(name)}::varchar" for name in rule_of(stream).by)
    with lake.engine.cursor() as cursor:
        rows = cursor.execute(f"select {by}, {STATE_COLUMN} from {scan_sql(states)} where dt = date '{day}'").fetchall()
    return {tuple(row[:-1]): row[-1] for row in rows}


def detect(lake: Lake, stream: Stream, silver: Table, day: date, before: States) -> Detected:
    """Detect the anomalies of a day of silver from the states after the day before."""
    events = f"select * from {scan_sql(silver)} where dt = date '{day}'"
    with lake.engine.cursor() as cursor:
        return detect_day(rule_of(stream), day, before, read_series(cursor, stream, events))


def _write(lake: Lake, stream: Stream, days: Sequence[date], cascade: bool, run_id: str) -> AnomalyResult:
    silver = lake.tables.load(f"silver.{stream.name}")
    anomalies, states = (_Written(lake.tables.load(name)) for name in anomaly_tables(stream))
    sources = {f"silver.{stream.name}": sequence_of(silver), **stream.anomaly_definition.sources}
    with lake.engine.scratch() as folder:
        read = _compute(lake, stream, silver, anomalies, states, days, cascade, folder)
        stored, sequence = _commit_states(lake, states, read, sources, run_id)
        sources[stored.table] = sequence
        with discarded_on_failure(lake.connection) as uploaded:
            uploaded += upload(lake.connection, anomalies.table, anomalies.files)
            written = commit_days(
                lake, anomalies.table, anomalies.files, uploaded, anomalies.days, sources=sources, run_id=run_id
            )
    return AnomalyResult(written, stored)


def _compute(
    lake: Lake, stream: Stream, silver: Table, anomalies: _Written, states: _Written, days: Sequence[date],
    cascade: bool, folder: Path,
) -> set[date]:  # fmt: skip
    """Detect day by day and write the files. Returns the days whose states were read."""
    known = sorted(last_changes(states.table))
    read: set[date] = set()
    before: States = {}
    last: date | None = None
    is_changed = False
    for day in sorted({*days, *(one for one in known if cascade and one > days[0])}):
        if day not in days and not is_changed:
            continue
        earlier = max((one for one in {*known, *anomalies.days} if one < day), default=None)
        if earlier is not None and earlier != last:
            before = read_states(lake, stream, states.table, earlier)
            read.add(earlier)
        detected = detect(lake, stream, silver, day, before)
        is_changed = day not in known or detected.states != read_states(lake, stream, states.table, day)
        anomalies.add(lake, folder, day, detected.rows)
        if is_changed:
            columns = rule_of(stream).by
            rows = [
                dict(zip(columns, series, strict=True)) | {STATE_COLUMN: text}
                for series, text in detected.states.items()
            ]
            states.add(lake, folder, day, rows)
        before, last = detected.states, day
    return read


def _commit_states(
    lake: Lake, states: _Written, read: set[date], sources: Mapping[str, int], run_id: str
) -> tuple[WriteResult, int]:
    """Commit the states that changed. Returns the sequence number of what the table holds then, too."""
    name = qualified_name(states.table)
    if not states.days:
        return WriteResult(name, {}), sequence_of(states.table)
    added = upload(lake.connection, states.table, states.files)
    sizes = partition_sizes(states.files, added)
    ledger = {str(day): sizes.get(day, NO_ROWS) for day in states.days}
    # The days that were read are touched as well, because another run may be changing them.
    touched = partitions_filter("dt", sorted({*states.days, *read}))
    removed = select_files(states.table, partitions_filter("dt", states.days))
    done = commit_files(
        lake, states.table, added, touched, removed=removed, ledger=ledger, sources=sources, run_id=run_id
    )
    return WriteResult(name, ledger, done), done.sequence
