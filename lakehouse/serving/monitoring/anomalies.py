"""Detect anomalies in rows that no table holds yet, from the states that the tables hold: the same as a run over silver will."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
from pyiceberg.table import Table

from lakehouse.contracts.sql import quote
from lakehouse.contracts.streams import Stream
from lakehouse.pipeline.anomaly_detection import AnomalyTail
from lakehouse.pipeline.anomaly_series import Series, rule_of, series_sql, split_series
from lakehouse.pipeline.lineage.staleness import last_changes
from lakehouse.pipeline.table_specs import STATE_COLUMN, anomaly_tables
from lakehouse.serving.monitoring.alerts import ANOMALY, Alert
from lakehouse.serving.monitoring.newest_rows import newest_rows_sql
from lakehouse.serving.query.lake_snapshot import LakeSnapshot
from lakehouse.serving.query.reader_pool import ReaderPool

log = logging.getLogger(__name__)

MAX_TAIL_ROWS = 1_000_000
"""Rows of a stream since the newest states that the tail goes through. With more, its anomalies come with the tables."""

OVERLAP = timedelta(seconds=30)
"""How far each look at the newest rows goes back before the last, because rows become visible some time after they arrived."""

READ_SECONDS = 60.0

Alerts = dict[tuple[object, ...], Alert]


@dataclass(slots=True)
class _StreamTail:
    """The anomalies of one stream's rows since the newest states of days before."""

    base: tuple[object, ...] = ()
    """The start of the tail: the stream, the first day of its rows, and the version of the states before it."""
    tail: AnomalyTail | None = None
    read_at: datetime | None = None
    found: list[dict[str, Any]] = field(default_factory=list)
    states_snapshot: int | None = None
    changes: Mapping[date, int] = field(default_factory=dict)


class AnomalyTails:
    """The anomalies of all streams' newest rows."""

    def __init__(self, readers: ReaderPool) -> None:
        self._readers = readers
        self._streams: dict[str, _StreamTail] = {}

    async def fresh(self, snapshot: LakeSnapshot, stream: Stream, first_day: date) -> Alerts:
        """Return the anomalies since `first_day` as alerts, computed from the newest rows; none without a table of them."""
        if stream.contract.anomaly is None or anomalies_table(snapshot, stream.name) is None:
            return {}
        tail = self._streams.setdefault(stream.name, _StreamTail())
        before, since = await asyncio.to_thread(_newest_states, snapshot, stream, tail)
        base = (stream, since, before and tail.changes[before])
        now = datetime.now(UTC)
        if base != tail.base or tail.tail is None:
            states = await self._states(snapshot, stream, before)
            tail.tail, tail.base, tail.read_at = AnomalyTail(rule_of(stream), states), base, None
        rows = await self._rows(snapshot, stream, since, tail.read_at)
        if rows.num_rows >= MAX_TAIL_ROWS:
            log.warning(
                "%s has too many rows since %s: its anomalies are reported once they are in the table",
                stream.name,
                since,
            )
            return {}
        found = await asyncio.to_thread(_detect, stream, tail.tail, rows)
        tail.read_at, tail.found = now, found
        alerts = (_alert(stream.name, row) for row in found if row["event_time"].date() >= first_day)
        return {alert.identity: alert for alert in alerts}

    def found(self, stream: str) -> list[dict[str, Any]]:
        """Return the anomalies of a stream's newest rows at the last look, by the columns of their table."""
        return self._streams[stream].found if stream in self._streams else []

    async def _states(self, snapshot: LakeSnapshot, stream: Stream, day: date | None) -> dict[Series, str]:
        if day is None:
            return {}
        by = ", ".join(f"{quote(name)}::varchar as {quote(name)}" for name in rule_of(stream).by)
        sql = f"select {by}, {STATE_COLUMN} from {anomaly_tables(stream)[1]} where dt = ?::date"
        result = await self._readers.run(sql, [day.isoformat()], seconds=READ_SECONDS, snapshot=snapshot)
        rows = zip(*(column.to_pylist() for column in result.table.columns), strict=True)
        return {tuple(row[:-1]): row[-1] for row in rows}

    async def _rows(self, snapshot: LakeSnapshot, stream: Stream, since: date, read_at: datetime | None) -> pa.Table:
        """Read the rows since a day; after the first time, those that arrived since the last."""
        if read_at is None:
            events = f"select * from serving.unified_{stream.name} where dt >= date '{since}'"
        else:
            newest = await asyncio.to_thread(newest_rows_sql, snapshot, stream, read_at - OVERLAP)
            events = f"select * from ({newest}) where dt >= date '{since}'"
        today = datetime.now(UTC).date()
        sql = series_sql(stream, f"{events} and dt <= date '{today}'")
        result = await self._readers.run(sql, rows=MAX_TAIL_ROWS, seconds=READ_SECONDS, snapshot=snapshot)
        return result.table


def anomalies_table(snapshot: LakeSnapshot, stream: str) -> Table | None:
    """Return the table of a stream's anomalies; None for a stream without one."""
    name = f"serving.{stream}_anomalies"
    has_rule = stream in snapshot.streams and snapshot.streams[stream].contract.anomaly is not None
    return snapshot.tables.load(name) if has_rule and snapshot.tables.exists(name) else None


def _newest_states(snapshot: LakeSnapshot, stream: Stream, tail: _StreamTail) -> tuple[date | None, date]:
    """Find the newest day before today with states, and the day from which rows are read: today, or yesterday."""
    table = snapshot.tables.load(anomaly_tables(stream)[1])
    if table.metadata.current_snapshot_id != tail.states_snapshot or not tail.changes:
        tail.states_snapshot, tail.changes = table.metadata.current_snapshot_id, last_changes(table)
    today = datetime.now(UTC).date()
    yesterday = today - timedelta(days=1)
    since = today if yesterday in tail.changes else yesterday
    return max((day for day in tail.changes if day < since), default=None), since


def _detect(stream: Stream, tail: AnomalyTail, rows: pa.Table) -> list[dict[str, Any]]:
    for one in split_series(rule_of(stream), rows):
        tail.add(one)
    return tail.anomalies()


def _alert(stream: str, row: Mapping[str, Any]) -> Alert:
    moment: datetime = row["event_time"]
    return Alert(
        stream=stream,
        alert=ANOMALY,
        severity=row["severity"],
        entity=row["entity"],
        event_time=moment.replace(tzinfo=UTC),
        value=row.get("value"),
        threshold=row.get("threshold"),
        message=row["message"],
        dt=moment.date(),
        event_key=row["event_key"],
    )
