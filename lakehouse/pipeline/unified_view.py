"""Generate the SQL of every name you can query: tables as `layer.name`, and the views, over one set of snapshots.

A unified view is silver plus the realtime rows whose key is not in silver. So it has each event once, at every moment.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from functools import partial
from types import MappingProxyType

from pyiceberg.table import Table

from lakehouse.contracts.sql import latest_sql, literal, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import columns_of, scan_sql
from lakehouse.engine.filters import days_filter, hours_filter
from lakehouse.errors import UnreadableTableError
from lakehouse.models.model import Model
from lakehouse.pipeline.lineage.open_days import metrics_open_days, open_days
from lakehouse.pipeline.live_gold import (
    computed_sql,
    live_daily_sql,
    live_metrics_sql,
    model_sql,
    open_metrics_sql,
)
from lakehouse.pipeline.live_models import live_model_sql, open_model_days
from lakehouse.pipeline.long_form import DAILY_METRICS
from lakehouse.pipeline.model_specs import day_column
from lakehouse.pipeline.open_rows import open_rows_sql
from lakehouse.pipeline.readable_lake import ReadableLake
from lakehouse.pipeline.view_names import HEALTH_VIEW, LIVE_METRICS, live_daily, live_model
from lakehouse.storage.iceberg.tables import NAMESPACES

UNREADABLE = "unreadable"
"""The column that says why a stream's rows can't be counted, null where they are."""

HEALTH_COLUMNS = [
    ("stream", "varchar"), ("dt", "date"), ("events", "bigint"), ("quarantined", "bigint"),
    ("newest_event", "timestamp"), ("newest_arrival", "timestamp"), (UNREADABLE, "varchar"),
]  # fmt: skip


def unified_sql(
    stream: Stream,
    silver: Table,
    realtime: Table,
    days: Sequence[date] | None = None,
    *,
    uncovered: Sequence[str] | None,
    tail: Sequence[str] = (),
) -> str:
    """Generate the SELECT of silver merged by key with realtime and the hot tail. It has silver's columns.

    Args:
        stream: The stream, whose contract has the key.
        silver: Silver as loaded.
        realtime: Realtime as loaded.
        days: The event dates to select; None for all.
        uncovered: The hours of realtime to read, or None for all. Silver has every key of the others.
        tail: Parquet files with realtime's columns. Their rows may be in realtime too.

    """
    where = "true" if days is None else days_filter(days)
    columns = ", ".join(quote(name) for name, _ in columns_of(silver))
    from_silver = f"select {columns} from {scan_sql(silver)} where {where}"
    sources = [] if realtime.current_snapshot() is None or uncovered == [] else [_hours_sql(realtime, uncovered)]
    sources += [tail_sql(realtime, tail)] if tail else []
    if not sources:
        return from_silver
    key = ("dt", *stream.contract.key)
    same = " and ".join(f"merged.{quote(name)} is not distinct from fresh.{quote(name)}" for name in key)
    keys = ", ".join(map(quote, key))
    realtime_columns = ", ".join(quote(name) for name, _ in columns_of(realtime))
    arrived = "\n  union all\n  ".join(f"select {realtime_columns} from {source} where {where}" for source in sources)
    # Few keys arrive again. Finding them keeps only hashes in memory, and only rows whose hash occurs twice are sorted.
    return f"""with arrived as not materialized (
  select *, hash({keys}) as _hash
  from (
  {arrived}
  )
),
again as materialized (
  select _hash
  from arrived
  group by _hash
  having count(*) > 1
),
fresh as not materialized (
  from arrived
  anti join again using (_hash)
  union all
  from (
    {latest_sql(stream.contract.key, "(from arrived semi join again using (_hash))")}
  )
),
merged as (
  select {keys}
  from {scan_sql(silver)}
  where {where} and dt in (select distinct dt from arrived)
)
{from_silver}
union all
select {columns}
from fresh
anti join merged on {same}"""


def tail_sql(realtime: Table, tail: Sequence[str]) -> str:
    """Generate the FROM item of the hot tail, in the types of realtime: a file has those that the stream's SQL gave."""
    columns = ", ".join(f"{quote(name)}::{kind} as {quote(name)}" for name, kind in columns_of(realtime))
    return f"(select {columns} from read_parquet([{', '.join(map(literal, tail))}]))"


def _hours_sql(realtime: Table, hours: Sequence[str] | None) -> str:
    """Generate the FROM item of these hours of realtime, or of all."""
    scan = scan_sql(realtime)
    return scan if hours is None else f"(from {scan} where {hours_filter(hours)})"


def current_sql(stream: Stream, unified: str) -> str:
    """Generate the SELECT of the latest state of each entity in a change stream, without deleted ones."""
    changes = stream.contract.changes
    assert changes is not None, f"{stream.name} is no change stream"
    key = ", ".join(map(quote, changes.key))
    return f"""select *
from (
  select *
  from ({unified})
  qualify row_number() over (partition by {key} order by {quote(changes.version)} desc, _arrived_at desc) = 1
)
where {quote(changes.operation)} <> '{changes.delete}'"""


def health_sql(lake: ReadableLake) -> str:
    """Generate the SELECT of each stream's events, open rows of quarantine and newest times by day, over the unified views.

    A stream of which a table can't be read has one row, without a day and counts, that says why.
    """
    rows = "\nunion all\n".join(_health_rows_sql(lake, stream) for stream in lake.streams.values()) or (
        "select null as stream, null as dt, 0 as events, 0 as quarantined, null as event_time, null as _arrived_at,"
        f" null as {UNREADABLE} where false"
    )
    return f"""select
  stream::varchar as stream,
  dt::date as dt,
  sum(events)::bigint as events,
  sum(quarantined)::bigint as quarantined,
  max(event_time)::timestamp as newest_event,
  max(_arrived_at)::timestamp as newest_arrival,
  {UNREADABLE}::varchar as {UNREADABLE}
from ({rows})
group by all"""


def _health_rows_sql(lake: ReadableLake, stream: Stream) -> str:
    name, event_time = literal(stream.name), quote(stream.contract.event_time)
    try:
        unified, open_rows = _unified_of(lake, stream), _open_rows_sql(lake, stream)
    except UnreadableTableError as error:
        return f"""select {name} as stream, null as dt, null as events, null as quarantined,
  null as event_time, null as _arrived_at, {literal(str(error))} as {UNREADABLE}"""
    return f"""select {name} as stream, dt, 1 as events, 0 as quarantined, {event_time} as event_time, _arrived_at,
  null as {UNREADABLE}
from ({unified})
union all
select {name}, dt, 0, 1, null, _arrived_at, null
from ({open_rows})"""


def _open_rows_sql(lake: ReadableLake, stream: Stream) -> str:
    """Generate the SELECT of open rows. It does not read bronze if there are none."""
    quarantine = lake.tables.load(f"quarantine.{stream.name}")
    snapshot = quarantine.current_snapshot()
    summary = snapshot.summary.additional_properties if snapshot and snapshot.summary else {"total-records": "0"}
    return f"from {scan_sql(quarantine)}" if summary.get("total-records") == "0" else open_rows_sql(lake, stream)


def view_names(lake: ReadableLake) -> list[str]:
    """List every name you can query, tables and views, as `layer.name`."""
    views = [name for stream in lake.streams for name in (f"serving.unified_{stream}", live_daily(stream))]
    views += [f"serving.{name}_current" for name, stream in lake.streams.items() if stream.contract.changes]
    names = lake.tables.names()
    views += [view for view in lake.live_models if _model_of(lake, view) is not None and view not in names]
    return sorted([*names, *views, HEALTH_VIEW, LIVE_METRICS])


def view_exists(lake: ReadableLake, name: str) -> bool:
    """Return whether you can query a name, without listing all tables."""
    layer, _, short = name.partition(".")
    if layer not in NAMESPACES or not short:
        return False
    is_view = name in (HEALTH_VIEW, LIVE_METRICS) or (_stream_of(lake, name) or _model_of(lake, name)) is not None
    return is_view or lake.tables.exists(name)


def view_sql(lake: ReadableLake, name: str) -> str:
    """Generate the SELECT behind a name of `view_names`. Raises LakehouseError if there is no such table."""
    if name == HEALTH_VIEW:
        return health_sql(lake)
    if name == LIVE_METRICS:
        return metrics_view_sql(lake, lake.streams.values())
    if (model := _model_of(lake, name)) is not None:
        still_open = open_model_days(lake, model, partial(_open_days_of, lake))
        return live_model_sql(lake, model, still_open, partial(_live_input_sql, lake))
    if (stream := _stream_of(lake, name)) is None:
        return f"from {scan_sql(lake.tables.load(name))}"
    if name == live_daily(stream.name):
        daily, days = lake.tables.load(f"gold.{stream.name}_daily"), live_days(lake, stream)
        return live_daily_sql(daily, days, live_rows_sql(lake, stream, days))
    unified = _unified_of(lake, stream)
    return unified if name == f"serving.unified_{stream.name}" else current_sql(stream, unified)


def _unified_of(lake: ReadableLake, stream: Stream, days: Sequence[date] | None = None) -> str:
    silver, realtime = lake.tables.load(f"silver.{stream.name}"), lake.tables.load(f"realtime.{stream.name}")
    hours, tail = lake.uncovered(stream, silver, realtime), lake.tail.get(stream.name, ())
    return unified_sql(stream, silver, realtime, days, uncovered=hours, tail=tail)


def _open_days_of(lake: ReadableLake, name: str) -> set[date]:
    """List the open days of a table: those whose live view may have other rows."""
    if name == DAILY_METRICS:
        metrics = lake.tables.load(name)
        return {day for stream in lake.streams.values() for day in _open_metrics(lake, stream, metrics)[0]}
    if (model := _model_of(lake, live_name(lake, name))) is not None:
        return {*open_model_days(lake, model, partial(_open_days_of, lake))}
    return {day for stream in _streams_of_table(lake, name) for day in live_days(lake, stream)}


def _live_input_sql(lake: ReadableLake, name: str, days: Sequence[date]) -> str:
    """Generate the SELECT of a table's rows of these days, with what has landed since where the table has a live view."""
    live = live_name(lake, name)
    if live.startswith("serving.unified_"):
        (stream,) = _streams_of_table(lake, name)
        return f"from ({_unified_of(lake, stream, days)}) where {days_filter(days)}"
    column = day_column(field.name for field in lake.tables.load(name).spec().fields)
    where = f" where {days_filter(days, column)}" if column else ""
    return f"from ({view_sql(lake, live)}){where}"


def live_name(lake: ReadableLake, table: str) -> str:
    """Return the view that has a table's rows with what has landed since; the table itself where there is none."""
    if table == DAILY_METRICS:
        return LIVE_METRICS
    for stream in _streams_of_table(lake, table):
        return f"serving.unified_{stream.name}" if table.startswith("silver.") else live_daily(stream.name)
    model = _model_of(lake, live_model(table))
    return live_model(table) if model is not None and model.name == table else table


def _streams_of_table(lake: ReadableLake, name: str) -> list[Stream]:
    """Return the stream whose silver or daily gold this table is, if it is one."""
    return [
        stream for stream in lake.streams.values() if name in (f"silver.{stream.name}", f"gold.{stream.name}_daily")
    ]


def live_days(lake: ReadableLake, stream: Stream) -> Sequence[date]:
    """List the open days of a stream: live gold has `gold.sql` over the unified view for them, and gold for all others."""
    rows = lake.live_rows.get(stream.name)
    return open_days(stream, lake.tables.load, lake.tail.get(stream.name, ())) if rows is None else rows.days


def live_rows_sql(lake: ReadableLake, stream: Stream, days: Sequence[date]) -> str:
    """Generate the SELECT of live gold's rows of these days, all that are open."""
    daily, rows = lake.tables.load(f"gold.{stream.name}_daily"), lake.live_rows.get(stream.name)
    return model_sql(stream, daily, _unified_of(lake, stream, days)) if rows is None else computed_sql(rows, daily)


def metrics_view_sql(lake: ReadableLake, streams: Iterable[Stream], only: str | None = None) -> str:
    """Generate the SELECT of the live daily metrics. `streams` are those whose open days it has; `only` leaves out all others.

    A stream of which a table can't be read fails queries of its own numbers, and of all.
    """
    metrics = lake.tables.load(DAILY_METRICS)
    days, selects = dict[str, set[date]](), list[str]()
    for stream in streams:
        try:
            days[stream.name], select = _open_metrics(lake, stream, metrics)
        except UnreadableTableError as error:
            select = _error_sql(lake, DAILY_METRICS, error, {"stream": literal(stream.name)})
        selects += [select] if select else []
    return live_metrics_sql(metrics, days, selects, only)


def _open_metrics(lake: ReadableLake, stream: Stream, metrics: Table) -> tuple[set[date], str | None]:
    """Return the days of a stream that the daily metrics lack, and the SELECT of their numbers."""
    daily = lake.tables.load(f"gold.{stream.name}_daily")
    days = live_days(lake, stream)
    recorded = metrics_open_days(stream, daily, metrics).difference(days)
    if not days and not recorded:
        return set(), None
    rows = live_rows_sql(lake, stream, days)
    return recorded.union(days), open_metrics_sql(stream, daily, rows, sorted(recorded))


def source_tables(lake: ReadableLake, name: str) -> list[str]:
    """List the tables that a name of `view_names` reads. The first has the columns of a view of one stream."""
    if name == HEALTH_VIEW:
        return [
            f"{layer}.{stream}" for stream in lake.streams for layer in ("silver", "realtime", "quarantine", "bronze")
        ]
    if name == LIVE_METRICS:
        return [DAILY_METRICS, *(table for stream in lake.streams for table in source_tables(lake, live_daily(stream)))]
    if (model := _model_of(lake, name)) is not None:
        return [model.name, *(table for read in model.reads for table in source_tables(lake, live_name(lake, read)))]
    if (stream := _stream_of(lake, name)) is None:
        return [name]
    gold = [f"gold.{stream.name}_daily"] if name == live_daily(stream.name) else []
    return [*gold, f"silver.{stream.name}", f"realtime.{stream.name}"]


def columns_of_view(lake: ReadableLake, name: str) -> list[tuple[str, str]]:
    """List the columns of a name of `view_names` as (name, DuckDB type), from metadata alone."""
    return HEALTH_COLUMNS if name == HEALTH_VIEW else columns_of(lake.tables.load(source_tables(lake, name)[0]))


def _model_of(lake: ReadableLake, name: str) -> Model | None:
    """Return the model whose live view this is: its table exists, and no table has the name of the view."""
    model = lake.live_models.get(name)
    return None if model is None or not lake.tables.exists(model.name) or lake.tables.exists(name) else model


def _stream_of(lake: ReadableLake, name: str) -> Stream | None:
    """Return the stream whose view this is; None for a table or the view of several streams."""
    layer, _, short = name.partition(".")
    if layer != "serving":
        return None
    if short.startswith("unified_"):
        return lake.streams.get(short.removeprefix("unified_"))
    if short.startswith("live_") and short.endswith("_daily"):
        return lake.streams.get(short.removeprefix("live_").removesuffix("_daily"))
    stream = lake.streams.get(short.removesuffix("_current")) if short.endswith("_current") else None
    return stream if stream is not None and stream.contract.changes else None


def create_views_sql(lake: ReadableLake, names: Iterable[str]) -> list[str]:
    """Generate the statements that create these views in an empty database.

    A view of a table that can't be read exists too, and each query of it fails with the reason.
    """
    names = list(names)
    schemas = sorted({name.partition(".")[0] for name in names})
    return [f"create schema if not exists {quote(schema)}" for schema in schemas] + [
        f"create view {'.'.join(map(quote, name.split('.', 1)))} as {_view_or_error_sql(lake, name)}" for name in names
    ]


def _view_or_error_sql(lake: ReadableLake, name: str) -> str:
    try:
        return view_sql(lake, name)
    except UnreadableTableError as error:
        return _error_sql(lake, name, error)


def _error_sql(
    lake: ReadableLake, name: str, error: Exception, values: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Generate a SELECT with the columns of a view that fails where a row of it is asked for. `values` gives some columns."""
    failure = f"error({literal(str(error))})"
    failing = ", ".join(
        f"{values.get(column, f'{failure}::{sql_type}')} as {quote(column)}"
        for column, sql_type in columns_of_view(lake, name)
    )
    return f"select {failing} where {failure}::varchar is null"
