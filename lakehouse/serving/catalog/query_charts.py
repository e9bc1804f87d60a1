"""Check the charts of named queries against the columns of their rows, which follow from the tables of now."""

from collections.abc import Mapping

from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.models.chart import ChartError
from lakehouse.pipeline.unified_view import view_exists
from lakehouse.serving.catalog.entries import describe_select
from lakehouse.serving.query.lake_snapshot import LakeSnapshot
from lakehouse.serving.query.named_queries import NamedQuery, chart_error
from lakehouse.serving.query.sql import names_mentioned

Queries = Mapping[str, NamedQuery]


def check_charts(queries: Queries, before: Queries, snapshot: LakeSnapshot) -> tuple[dict[str, NamedQuery], list[str]]:
    """Return the queries whose charts draw columns that there are, and what is wrong with the others.

    A wrong one stays as it was `before`, or is left out. One that reads a table that does not exist yet is not checked.
    """
    right, problems = dict[str, NamedQuery](), list[str]()
    with open_in_memory() as database:
        for name, query in queries.items():
            reads = [read for read in names_mentioned(query.sql) if view_exists(snapshot, read)] if query.chart else []
            columns = (
                describe_select(database, snapshot, query.sql, reads, dict.fromkeys(query.parameters)) if reads else []
            )
            try:
                if query.chart is not None and columns:
                    query.chart.check_columns([column.name for column in columns])
                right[name] = query
            except ChartError as error:
                problems.append(str(chart_error(query.path, error)))
                if name in before:
                    right[name] = before[name]
    return right, problems
