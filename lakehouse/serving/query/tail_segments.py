"""Parquet files of the hot tail, in a folder of this process.

A file never changes. One that was replaced stays for a while, because queries over an older snapshot still read it.
"""

import os
import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import log as logarithm
from pathlib import Path
from uuid import uuid4

import duckdb
import psutil

from lakehouse.contracts.sql import literal
from lakehouse.engine.connection import DuckDB

MERGE_FACTOR = 8
"""Files of about one size that become one, so that a row is rewritten only a few times."""

SMALLEST_TIER_ROWS = 2_000
"""Files up to this size count as one size. Each further size is MERGE_FACTOR times the one before."""

RETIRED_SECONDS = 120.0
"""How long a replaced file stays for queries over an older snapshot."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A Parquet file with the valid rows of some landing objects."""

    path: Path
    objects: frozenset[str]
    rows: int
    bytes: int

    @property
    def tier(self) -> int:
        """How many merges of MERGE_FACTOR small files lead to a file of about this size."""
        return int(logarithm(max(self.rows / SMALLEST_TIER_ROWS, 1), MERGE_FACTOR))


class SegmentStore:
    """Write, rewrite and delete segments."""

    def __init__(self, parent: Path, engine: DuckDB) -> None:
        """Create a folder of this process in `parent`, and delete those of processes that have ended."""
        self._engine = engine
        self._retired: list[tuple[float, Path]] = []
        for folder in parent.glob("*"):
            pid = folder.name.partition("-")[0]
            if not (pid.isdigit() and psutil.pid_exists(int(pid))):
                shutil.rmtree(folder, ignore_errors=True)
        self.folder = parent / f"{os.getpid()}-{uuid4().hex[:8]}"
        self.folder.mkdir(parents=True)

    def write(
        self, stream: str, select: str, objects: frozenset[str], cursor: duckdb.DuckDBPyConnection | None = None
    ) -> Segment | None:
        """Write the rows of a SELECT, which come from these landing objects. None when there are no rows."""
        path = self.folder / f"{stream}-{uuid4().hex}.parquet"
        options = "format parquet, compression lz4"
        copied = (cursor or self._engine.cursor()).execute(f"copy ({select}) to {literal(str(path))} ({options})")
        rows = int((copied.fetchone() or (0,))[0])
        if not rows:
            path.unlink()
            return None
        return Segment(path, objects, rows, path.stat().st_size)

    def merge(self, stream: str, segments: Sequence[Segment]) -> Segment:
        """Write the rows of these segments to one new segment."""
        objects = frozenset[str]().union(*(segment.objects for segment in segments))
        merged = self.write(stream, scan_segments_sql(segments), objects)
        assert merged is not None, "a segment has rows"
        return merged

    def without(self, stream: str, segment: Segment, objects: Collection[str]) -> Segment | None:
        """Write the rows of a segment that come from other objects than these. None when there are none."""
        dropped = ", ".join(map(literal, sorted(objects)))
        select = f"{scan_segments_sql([segment])} where _object not in ({dropped})"
        return self.write(stream, select, segment.objects - frozenset(objects))

    def retire(self, segments: Sequence[Segment]) -> None:
        """Delete these segments after RETIRED_SECONDS."""
        self._retired += [(time.monotonic(), segment.path) for segment in segments]

    def delete_retired(self) -> None:
        """Delete the segments whose time is over."""
        now = time.monotonic()
        while self._retired and now - self._retired[0][0] > RETIRED_SECONDS:
            self._retired.pop(0)[1].unlink(missing_ok=True)

    def close(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def scan_segments_sql(segments: Sequence[Segment]) -> str:
    """Return a FROM clause that reads these segments."""
    return f"from read_parquet([{', '.join(literal(str(segment.path)) for segment in segments)}])"
