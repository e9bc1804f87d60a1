"""Rows that were refused just now, so that they are seen before their day is computed: the newest of each stream, in memory.

Why they were is worked out when somebody asks, for under load that takes as long as all else that is done with what lands.
Who reads them leaves out those of objects that bronze holds: what became of those rows, the tables say.
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

from lakehouse.contracts.streams import Stream
from lakehouse.serving.query.rejects import RejectSample, recent_rejects_sql, reject_samples

log = logging.getLogger(__name__)

KEPT = 200
"""Rows of a stream,"""

MOST_BYTES = 16 << 20
"""or less where they are larger than that."""


class RecentRejects:
    """The newest refused rows of each stream. Any thread may ask and add."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._waiting: dict[str, pa.Table] = {}
        self._rows: defaultdict[str, list[RejectSample]] = defaultdict(list)
        self._lock = Lock()
        self._explaining = Lock()
        self.changes = 0
        """How often rows came or went."""

    def add(self, stream: str, rows: pa.Table) -> None:
        """Have these rows, as the readers give them, those that arrived last first; too many push out those before."""
        with self._lock:
            held = self._waiting.get(stream)
            every = rows if held is None else pa.concat_tables([rows, held])
            room = int(every.num_rows * MOST_BYTES / max(every.nbytes, 1))
            # A copy, so that what it is taken from is not kept with it.
            self._waiting[stream] = every.take(pa.array(range(min(every.num_rows, self._kept, max(room, 1)))))
            self.changes += 1

    def of(self, stream: Stream) -> list[RejectSample]:
        """A stream's rows, those that arrived last first. Takes some milliseconds when new ones have come."""
        with self._explaining:
            with self._lock:
                waiting = self._waiting.pop(stream.name, None)
            explained = [] if waiting is None else _explained(stream, waiting)
            with self._lock:
                every = {(row.object, row.row): row for row in (*self._rows[stream.name], *explained)}
                newest = sorted(every.values(), key=_arrival, reverse=True)[: self._kept]
                self._rows[stream.name] = newest
                return list(newest)

    def forget(self, stream: str, objects: Collection[str]) -> None:
        """Give up the rows of these landing objects."""
        with self._lock:
            before = len(self._rows[stream])
            self._rows[stream] = [row for row in self._rows[stream] if row.object not in objects]
            self.changes += len(self._rows[stream]) < before
            if (waiting := self._waiting.get(stream)) is not None:
                theirs: Any = pc.is_in(waiting.column("_object"), pa.array(sorted(objects), pa.string()))
                self._waiting[stream] = waiting.filter(pc.invert(theirs))


def _explained(stream: Stream, rows: pa.Table) -> list[RejectSample]:
    with closing(duckdb.connect(config={"threads": 1})) as database:
        database.execute("set timezone = 'UTC'")
        database.register("landed", rows)
        try:
            found = database.execute(recent_rejects_sql(stream, "landed")).to_arrow_table()
        except duckdb.Error as problem:  # what the tables hold is shown all the same
            log.warning("%s: what was refused is not to be seen until its day is computed: %s", stream.name, problem)
            return []
    return reject_samples(found.to_pylist(), just_arrived=True)


def _arrival(row: RejectSample) -> tuple[float, str, int]:
    return row.arrived_at.timestamp(), row.object or "", row.row or 0
