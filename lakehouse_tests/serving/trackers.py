"""Moments of a stream of a test's own, whose threads do not run: each step is the test's."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lakehouse.pipeline.lake import Lake
from lakehouse.serving.query.reader_pool import ReaderPool
from lakehouse.serving.query.snapshot_tracker import SnapshotTracker
from lakehouse_tests.pipeline.own import Own


def lake_of(own: Own, home: Path, *layers: str) -> Lake:
    """A lake as a serving process opens it, with these tables of the stream alone, such as `silver` or `serving.alerts`."""
    lake = Lake(own.lake.settings.model_copy(update={"home": home}), own.lake.connection, metadata_only=True)
    lake.streams = own.lake.streams
    names = [_table(own.name, layer) for layer in layers]
    lake.tables.names = lambda: names  # type: ignore[method-assign]
    return lake


@contextmanager
def reading(own: Own, home: Path, *layers: str) -> Iterator[tuple[SnapshotTracker, ReaderPool]]:
    """Moments of these tables, the first taken, and readers of them."""
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
    namespace, _, what = layer.partition(".")
    return f"{namespace}.{stream}_{what}" if what else f"{namespace}.{stream}"
