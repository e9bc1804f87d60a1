"""Compute what the detector of one series expected at each row of a day: the value, and the band of normal values."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from lakehouse.anomalies.extremes import Floats
from lakehouse.contracts.sql import quote
from lakehouse.contracts.streams import Stream
from lakehouse.pipeline.anomaly_detection import open_detector
from lakehouse.pipeline.anomaly_series import rule_of, series_sql, split_series
from lakehouse.pipeline.lineage.staleness import last_changes
from lakehouse.pipeline.table_specs import STATE_COLUMN, anomaly_tables
from lakehouse.serving.query.lake_snapshot import LakeSnapshot
from lakehouse.serving.query.reader_pool import ReaderPool

MAX_ROWS = 200_000
"""How many rows of a day the detector goes through."""

READ_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Band:
    """Rows of a series in order. The band is NaN while the detector knows too little."""

    times: Floats
    """Seconds since 1970."""
    values: Floats
    expected: Floats
    low: Floats
    high: Floats
    is_anomaly: Sequence[bool]

    def last(self, rows: int) -> "Band":
        """Return the last rows."""
        return Band(
            self.times[-rows:],
            self.values[-rows:],
            self.expected[-rows:],
            self.low[-rows:],
            self.high[-rows:],
            self.is_anomaly[-rows:],
        )


async def band_of(readers: ReaderPool, snapshot: LakeSnapshot, stream: Stream, entity: str, day: date) -> Band | None:
    """Run the detector of a series over a day of the unified view; None if the day has no row of it.

    It goes on from the newest state before the day, as a run over silver does, so it gives what that run gives.
    """
    is_entity = f"{_entity_sql(stream)} = ?"
    events = f"select * from serving.unified_{stream.name} where dt = ?::date and {is_entity}"
    given = [day.isoformat(), entity]
    rows = await readers.run(series_sql(stream, events), given, rows=MAX_ROWS, seconds=READ_SECONDS, snapshot=snapshot)
    series = [*split_series(rule_of(stream), rows.table)]
    if not series:
        return None
    (one, *_) = series
    before = await asyncio.to_thread(_newest_state_before, snapshot, stream, day)
    stored = None
    if before is not None:
        sql = f"select {STATE_COLUMN} from {anomaly_tables(stream)[1]} where dt = ?::date and {is_entity}"
        states = await readers.run(sql, [before.isoformat(), entity], seconds=READ_SECONDS, snapshot=snapshot)
        stored = states.table.column(0)[0].as_py() if states.table.num_rows else None
    scores = await asyncio.to_thread(open_detector(rule_of(stream), stored).update, one.times, one.values)
    low, high = (np.where(np.isfinite(part), part, np.nan) for part in (scores.low, scores.high))
    return Band(one.times, one.values, scores.expected, low, high, scores.is_alert.tolist())


def _entity_sql(stream: Stream) -> str:
    """Generate the expression of `entity`, as `name_of` writes it."""
    return " || ', ' || ".join(f"coalesce({quote(name)}::varchar, '')" for name in rule_of(stream).by)


def _newest_state_before(snapshot: LakeSnapshot, stream: Stream, day: date) -> date | None:
    states = snapshot.tables.load(anomaly_tables(stream)[1])
    return max((known for known in last_changes(states) if known < day), default=None)
