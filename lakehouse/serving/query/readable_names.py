"""Find what a key for some streams may read: their tables and views, and tables that were computed from nothing else."""

from collections.abc import Iterable

from lakehouse.pipeline.lineage.properties import recorded_sources
from lakehouse.pipeline.readable_lake import ReadableLake
from lakehouse.pipeline.unified_view import source_tables, view_exists
from lakehouse.pipeline.view_names import stream_view_names


def names_of_streams(lake: ReadableLake, streams: Iterable[str]) -> set[str]:
    """Return the names whose rows come from these streams alone, such as those of models over them.

    That is read from what each commit of a table recorded, so that a changed model opens no rows that it had before.
    """
    names = {name for stream in streams for name in stream_view_names(stream)}
    others = {name: sources for name in lake.tables.names() if (sources := _sources(lake, name))}
    while found := [name for name, sources in others.items() if sources <= names]:
        names.update(found)
        for name in found:
            del others[name]
    live = {
        name for name in lake.live_models if view_exists(lake, name) and names.issuperset(source_tables(lake, name))
    }
    return names | live


def _sources(lake: ReadableLake, name: str) -> set[str]:
    return recorded_sources(lake.tables.load(name))
