"""The newest rejected rows of each stream, in memory, so that they are visible before their day is computed.

Their reasons are worked out when they are read, because under load that takes as long as everything else that is done with
new objects. A reader leaves out rows of objects that bronze holds: the tables say what became of those.
"""

import logging
from collections import defaultdict
from collections.abc import Collection
from contextlib import closing
from threading import Lock
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.contracts.streams import Stream
from lakehouse.serving.query.rejects import RejectSample, recent_rejects_sql, reject_samples

log = logging.getLogger(__name__)

MAX_REJECTS = 200
"""Rows kept per stream."""

MAX_REJECTS_BYTES = 16 << 20
"""Size of the rows kept per stream; fewer are kept where they would be larger together."""


class RecentRejects:
    """The newest rejected rows of each stream. Any thread may call any method."""

    def __init__(self, max_rows: int = MAX_REJECTS) -> None:
        self._max_rows = max_rows
        self._unexplained: dict[str, pa.Table] = {}
        self._samples: defaultdict[str, list[RejectSample]] = defaultdict(list)
        self._lock = Lock()
        self._explaining = Lock()
        self.changes = 0
        """How often rows were added or dropped."""

    def add(self, stream: str, rows: pa.Table) -> None:
        """Add rows as the landing readers return them, the newest first. The oldest are dropped when there are too many."""
        with self._lock:
            held = self._unexplained.get(stream)
            every = rows if held is None else pa.concat_tables([rows, held])
            fitting = max(int(every.num_rows * MAX_REJECTS_BYTES / max(every.nbytes, 1)), 1)
            # Copy, because a slice would keep the whole chunk in memory.
            self._unexplained[stream] = every.take(pa.array(range(min(every.num_rows, self._max_rows, fitting))))
            self.changes += 1

    def newest(self, stream: Stream) -> list[RejectSample]:
        """Return a stream's rejected rows, the newest first. Takes some milliseconds when new ones were added."""
        with self._explaining:
            with self._lock:
                unexplained = self._unexplained.pop(stream.name, None)
            explained = [] if unexplained is None else _explain(stream, unexplained)
            with self._lock:
                samples = {(row.object, row.row): row for row in (*self._samples[stream.name], *explained)}
                newest = sorted(samples.values(), key=_arrival, reverse=True)[: self._max_rows]
                self._samples[stream.name] = newest
                return list(newest)

    def drop(self, stream: str, objects: Collection[str]) -> None:
        """Drop the rows of these landing objects."""
        with self._lock:
            before = len(self._samples[stream])
            self._samples[stream] = [row for row in self._samples[stream] if row.object not in objects]
            self.changes += len(self._samples[stream]) < before
            if (unexplained := self._unexplained.get(stream)) is not None:
                dropped: Any = pc.is_in(unexplained.column("_object"), pa.array(sorted(objects), pa.string()))
                self._unexplained[stream] = unexplained.filter(pc.invert(dropped))


def _explain(stream: Stream, rows: pa.Table) -> list[RejectSample]:
    """Work out why each of these rows was rejected; no rows after an error, so that those in the table are still shown."""
    with closing(open_in_memory()) as database:
        database.execute("set timezone = 'UTC'")
        database.register("landed", rows)
        try:
            samples = database.execute(recent_rejects_sql(stream, "landed")).to_arrow_table()
        except duckdb.Error as error:
            log.warning("%s: newest rejected rows are invisible until their day is computed: %s", stream.name, error)
            return []
    return reject_samples(samples.to_pylist(), just_arrived=True)


def _arrival(row: RejectSample) -> tuple[float, str, int]:
    return row.arrived_at.timestamp(), row.object or "", row.row or 0
