"""Read landing objects into segments of the hot tail, by the same SQL that fills the realtime tables."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from lakehouse.contracts.sql import literal
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import DuckDB
from lakehouse.errors import LakehouseError
from lakehouse.landing.keys import LandingObject
from lakehouse.landing.readers import bronze_batches
from lakehouse.pipeline.ingest import input_objects
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.realtime import valid_rows_sql
from lakehouse.serving.query.recent_rejects import MAX_REJECTS
from lakehouse.serving.query.tail_segments import Segment, SegmentStore

log = logging.getLogger(__name__)

LIGHT_LOAD_OBJECTS = 8
"""Up to this many objects at a time, the rejected rows of every read are collected."""

REJECTS_INTERVAL_SECONDS = 1.0
"""Under more load they are collected once in this time, because that takes a fifth of the time of reading."""


@dataclass(frozen=True, slots=True)
class ReadObjects:
    """Landing objects of one stream that were read together."""

    stream: str
    objects: frozenset[str]
    segment: Segment | None = None
    """Their valid rows; None when they have none."""
    rejects: pa.Table | None = None
    """Their newest rejected rows as the landing readers return them; None when there are none or they were not
    collected."""
    readable: bool = True
    """Whether the object could be read. One that could not is left to realtime, which reports why."""


class TailReader:
    """Read and clean landing objects. One call at a time."""

    def __init__(self, lake: Lake, engine: DuckDB, segments: SegmentStore) -> None:
        self._lake = lake
        self._engine = engine
        self._segments = segments
        self._rejects_collected: dict[str, float] = {}
        """When the rejected rows of a stream were collected last."""

    def read(self, by_stream: Mapping[str, Sequence[LandingObject]]) -> list[ReadObjects]:
        """Read these objects of each stream."""
        if sum(map(len, by_stream.values())) <= LIGHT_LOAD_OBJECTS:
            self._rejects_collected.clear()
        return [read for name, landings in by_stream.items() for read in self._read(self._lake.streams[name], landings)]

    def _read(self, stream: Stream, landings: Sequence[LandingObject]) -> list[ReadObjects]:
        keys = frozenset(landing.key for landing in landings)
        try:
            batches = list(bronze_batches(stream.contract, input_objects(self._lake.objects, landings)))
        except LakehouseError as error:
            if len(landings) > 1:  # one by one, to find those that can be read
                return [read for landing in landings for read in self._read(stream, [landing])]
            log.info("%s is left to the realtime table: %s", landings[0].key, error)
            return [ReadObjects(stream.name, keys, readable=False)]
        if not batches:
            return [ReadObjects(stream.name, keys)]
        with self._engine.cursor() as cursor:
            chunk = pa.Table.from_batches(batches)
            cursor.register("chunk", chunk)
            segment = self._segments.write(stream.name, valid_rows_sql(stream), keys, cursor)
            has_rejects = chunk.num_rows > (segment.rows if segment else 0)
            rejects = _rejects(cursor, segment) if has_rejects and self._are_rejects_due(stream.name) else None
        return [ReadObjects(stream.name, keys, segment, rejects)]

    def _are_rejects_due(self, stream: str) -> bool:
        now = time.monotonic()
        if now - self._rejects_collected.get(stream, float("-inf")) < REJECTS_INTERVAL_SECONDS:
            return False
        self._rejects_collected[stream] = now
        return True


def _rejects(cursor: duckdb.DuckDBPyConnection, valid: Segment | None) -> pa.Table:
    """Return the newest rows of `chunk` that are not in the segment with the valid ones."""
    others = (
        f"anti join (from read_parquet({literal(str(valid.path))})) as valid using (_object, _row)" if valid else ""
    )
    newest = f"order by _arrived_at desc, _object desc, _row desc limit {MAX_REJECTS}"
    return cursor.execute(f"from chunk {others} {newest}").to_arrow_table()
