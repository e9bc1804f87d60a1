"""Trace rows back to what they were made of, by SQL that this process runs."""

from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.tracing.trace import Trace, find_origins
from lakehouse.serving.query.sql import run_query


def trace_rows(lake: Lake, table: str, where: str, limit: int) -> Trace:
    """Trace the rows of a table that meet an SQL condition, with at most `limit` objects and rows of each stream.

    Raises QueryError if the condition is wrong, or for a table whose rows can't be traced.
    """
    search, rows = find_origins(lake, lake.models.models.by_name, table, where, limit), None
    while True:
        try:
            select = search.send(rows)  # type: ignore[arg-type]
        except StopIteration as end:
            trace: Trace = end.value
            return trace
        rows = [row for part in run_query(lake, select).tables for row in part.to_pylist()]
