"""Generate the SQL of live gold: gold for closed days, and `gold.sql` over the unified view for open ones.

See `lineage.open_days` for which days are open, and `unified_view` for the names of the views.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from pyiceberg.table import Table

from lakehouse.contracts.sql import literal, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import bind, columns_of, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.pipeline.long_form import long_form_sql


@dataclass(frozen=True, slots=True)
class LiveRows:
    """Rows of live gold of a stream's open days, computed before a query reads them."""

    days: tuple[date, ...]
    """The open days, also those without rows."""
    path: str
    """A Parquet file with the columns of gold."""
    seconds: float = 0.0
    """How long they took, from asking for them."""


def model_sql(stream: Stream, daily: Table, unified: str) -> str:
    """Generate the SELECT of `gold.sql` over `unified`, a SELECT with silver's columns, in the columns and types of gold."""
    columns = ", ".join(f"{quote(name)}::{kind} as {quote(name)}" for name, kind in columns_of(daily))
    return f"select {columns} from ({bind(stream.sql('gold'), {'silver': unified})})"


def computed_sql(rows: LiveRows, daily: Table) -> str:
    """Generate the SELECT of computed rows, in the columns of gold."""
    return f"select {_names(daily)} from read_parquet({literal(rows.path)})"


def live_daily_sql(daily: Table, days: Collection[date], open_rows: str) -> str:
    """Generate the SELECT of a stream's live gold: `open_rows`, a SELECT, stands for the open days."""
    if not days:
        return f"from {scan_sql(daily)}"
    closed = f"select {_names(daily)} from {scan_sql(daily)} where not {days_filter(sorted(days))}"
    return f"{closed}\nunion all\n{open_rows}"


def live_metrics_sql(
    metrics: Table, days: Mapping[str, Collection[date]], open_rows: Iterable[str], stream: str | None = None
) -> str:
    """Generate the SELECT of live daily metrics: `open_rows`, in the same long form, stand for the open days by stream.

    With `stream`, only that stream's.
    """
    names = _names(metrics)
    closed = [] if stream is None else [f"stream = {literal(stream)}"]
    closed += [
        f"not (stream = {literal(name)} and {days_filter(sorted(dates), 'date_key')})"
        for name, dates in days.items()
        if dates
    ]
    where = f" where {' and '.join(closed)}" if closed else ""
    selects = [f"select {names} from {scan_sql(metrics)}{where}"]
    return "\nunion all\n".join([*selects, *(f"select {names} from ({rows})" for rows in open_rows)])


def open_metrics_sql(stream: Stream, daily: Table, open_rows: str, recorded: Sequence[date]) -> str:
    """Generate the SELECT in long form of a stream's open days, and of the closed days `recorded` of gold."""
    source = open_rows
    if recorded:
        source += f"\nunion all\nselect {_names(daily)} from {scan_sql(daily)} where {days_filter(recorded)}"
    return long_form_sql(stream, daily, source)


def _names(table: Table) -> str:
    return ", ".join(quote(name) for name, _ in columns_of(table))
