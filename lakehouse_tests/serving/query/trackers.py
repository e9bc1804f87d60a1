"""Snapshot trackers of a test's own stream, without threads: the test takes each step."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lakehouse.pipeline.lake import Lake
from lakehouse.serving.query.reader_pool import ReaderPool
from lakehouse.serving.query.snapshot_tracker import SnapshotTracker
from lakehouse_tests.pipeline.own import Own


def lake_of(own: Own, home: Path, *layers: str) -> Lake:
    """Open a lake as the serving process does, with only these tables of the stream, for example `silver` or `serving.alerts`."""
    lake = Lake(own.lake.settings.model_copy(update={"home": home}), own.lake.connection, metadata_only=True)
    lake.streams = own.lake.streams
    names = [_table(own.name, layer) for layer in layers]
    lake.tables.names = lambda: names  # type: ignore[method-assign]
    return lake


@contextmanager
def reading(own: Own, home: Path, *layers: str) -> Iterator[tuple[SnapshotTracker, ReaderPool]]:
    """Yield a tracker of these tables after its first snapshot, and a reader pool over it."""
    tracker = SnapshotTracker(lake_of(own, home, *layers))
    try:
        tracker.refresh()
        readers = ReaderPool(tracker)
        try:
            yield tracker, readers
        finally:
            readers.close()
    finally:
        tracker.close()


def _table(stream: str, layer: str) -> str:
    namespace, _, suffix = layer.partition(".")
    return f"{namespace}.{stream}_{suffix}" if suffix else f"{namespace}.{stream}"
