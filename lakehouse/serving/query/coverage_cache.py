"""The hours of realtime that unified views must read, computed again only for streams whose tables changed."""

import logging
from collections.abc import Mapping, Sequence

from pyiceberg.table import Table

from lakehouse.contracts.streams import Stream
from lakehouse.pipeline.lineage.realtime_coverage import is_large, uncovered_hours
from lakehouse.serving.query.lake_snapshot import PinnedTables, UncoveredHours

log = logging.getLogger(__name__)

LAYERS = ("realtime", "bronze", "silver")
"""The tables of a stream that decide its uncovered hours."""


class CoverageCache:
    """The uncovered hours of each stream. One call at a time."""

    def __init__(self, streams: Mapping[str, Stream]) -> None:
        self.streams = streams
        self._hours: dict[str, tuple[list[str], Sequence[str] | None]] = {}
        """Of each stream, the metadata files that its hours were computed from, and the hours."""

    def hours(self, tables: PinnedTables) -> UncoveredHours:
        """Return the uncovered hours of every stream that has all of its tables. Reads manifests of changed tables."""
        hours = {}
        for name, stream in self.streams.items():
            names = [f"{layer}.{name}" for layer in LAYERS]
            if not all(map(tables.exists, names)):
                continue
            realtime, bronze, silver = (tables.load(table) for table in names)
            files = [table.metadata_location for table in (realtime, bronze, silver)]
            if self._hours.get(name, ([], None))[0] != files:
                self._hours[name] = files, _compute(stream, realtime, bronze, silver)
            hours[name] = self._hours[name][1]
        return hours


def _compute(stream: Stream, realtime: Table, bronze: Table, silver: Table) -> Sequence[str] | None:
    """Compute the hours to read; all of them after an error, so that queries go on."""
    try:
        return uncovered_hours(stream, realtime, bronze, silver) if is_large(realtime) else None
    except Exception:
        log.exception("Coverage of realtime.%s can't be computed: all of it is read", stream.name)
        return None
