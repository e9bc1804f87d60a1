"""Name the tables that a table is computed from, with the rows of them that one of its rows is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from lakehouse.contracts.sql import literal, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import columns_of
from lakehouse.errors import QueryError
from lakehouse.models.model import Model
from lakehouse.pipeline.features import FEATURE_WINDOW_DAYS
from lakehouse.pipeline.long_form import DAILY_METRICS, METRIC_TYPES
from lakehouse.pipeline.model_specs import day_column
from lakehouse.pipeline.readable_lake import ReadableLake
from lakehouse.pipeline.tracing.grouping import ORIGIN, Grouping, find_grouping
from lakehouse.pipeline.unified_view import live_name
from lakehouse.pipeline.view_names import LIVE_METRICS, live_daily

BY_DAY = "its SQL joins, looks at other rows or returns no column that tells them apart"


@dataclass(frozen=True, slots=True)
class Step:
    """The step from a table to one that it is computed from."""

    source: str
    look_back: int = 0
    """How many days before its own a row is made of, too."""
    grouping: Grouping | None = None
    """Which rows of these days a row is made of; None for all of them."""
    reason: str = ""
    """Why it is all of them."""
    only: str = "true"
    """The rows of the table that this step is about."""


def steps_of(lake: ReadableLake, models: Mapping[str, Model], table: str) -> list[Step]:
    """List the steps from a table that is neither bronze, quarantine nor silver of a stream.

    Raises QueryError for a table, or a view, whose rows can't be traced.
    """
    if (model := models.get(table)) is not None:
        return _model_steps(lake, model)
    if (model := lake.live_models.get(table)) is not None and not lake.tables.exists(table):
        return [replace(step, source=live_name(lake, step.source)) for step in _model_steps(lake, model)]
    if table == DAILY_METRICS:
        return [_metrics_step(lake, stream, f"gold.{name}_daily") for name, stream in lake.streams.items()]
    if table == LIVE_METRICS:
        return [_metrics_step(lake, stream, live_daily(name)) for name, stream in lake.streams.items()]
    for stream in lake.streams.values():
        if steps := _stream_steps(lake, stream, table):
            return steps
    raise QueryError(
        f"Rows of {table} can't be traced: it is no table or view of a stream or model. Trace what it reads."
    )


def _stream_steps(lake: ReadableLake, stream: Stream, table: str) -> list[Step]:
    """List the steps from a table or view of a stream; none from those of others."""
    layer, _, short = table.partition(".")
    silver = f"silver.{stream.name}"
    if table == f"gold.{stream.name}_daily":
        grouping = find_grouping(stream.sql("gold"), _columns(lake, silver))
        return [Step(silver, grouping=grouping, reason=BY_DAY)]
    unified = f"serving.unified_{stream.name}"
    if table == live_daily(stream.name):
        grouping = find_grouping(stream.sql("gold"), _columns(lake, silver))
        return [Step(unified, grouping=grouping, reason=BY_DAY)]
    if table == f"serving.{stream.name}_current" and stream.contract.changes:
        same = {column: f"{quote(ORIGIN)}.{quote(column)}" for column in ("dt", *stream.contract.key)}
        return [Step(unified, grouping=Grouping(columns=same))]
    if table == f"serving.{stream.name}_features":
        return [Step(silver, FEATURE_WINDOW_DAYS - 1, reason="features look at the events of many days")]
    if layer == "serving" and short in (
        f"{stream.name}_alerts",
        f"{stream.name}_anomalies",
        f"{stream.name}_anomaly_state",
    ):
        return [Step(silver, reason="alerts and anomalies look at many events of their day")]
    return []


def _model_steps(lake: ReadableLake, model: Model) -> list[Step]:
    if model.function is not None:
        reason = "it is computed by Python"
    elif model.header.history is not None:
        reason = "it keeps a history of versions"
    elif len(model.reads) == 1:
        grouping = find_grouping(model.sql, _columns(lake, model.reads[0]))
        if grouping is not None:
            return [Step(model.reads[0], model.header.look_back, grouping)]
        reason = BY_DAY
    else:
        reason = "it reads several tables"
    return [Step(name, model.header.look_back, reason=reason) for name in model.reads]


def _metrics_step(lake: ReadableLake, stream: Stream, daily: str) -> Step:
    """Return the step from the numbers in long form to a stream's gold, or live gold; see `long_form_sql`."""
    columns = columns_of(lake.tables.load(f"gold.{stream.name}_daily"))
    dimensions = [name for name, kind in columns if name != "dt" and not kind.startswith(METRIC_TYPES)]
    keys, values = (
        ", ".join(map(literal, dimensions)),
        ", ".join(f"{ORIGIN}.{quote(name)}::varchar" for name in dimensions),
    )
    rows = {"date_key": f"{ORIGIN}.dt", "dimensions": f"map([{keys}]::varchar[], [{values}]::varchar[])"}
    return Step(daily, grouping=Grouping(columns=rows), only=f"stream = {literal(stream.name)}")


def days_before(days: Sequence[date], look_back: int) -> list[date]:
    """List these days and those that a look back reaches, in order."""
    return sorted({day - timedelta(days=back) for day in days for back in range(look_back + 1)})


def day_of(lake: ReadableLake, table: str) -> str | None:
    """Return the column by whose days a table is partitioned; None if it is not. Views of a stream have `dt`."""
    if not lake.tables.exists(table):
        return "date_key" if table == LIVE_METRICS else "dt"
    return day_column(field.name for field in lake.tables.load(table).spec().fields)


def _columns(lake: ReadableLake, table: str) -> list[str]:
    return [name for name, _ in columns_of(lake.tables.load(table))]
