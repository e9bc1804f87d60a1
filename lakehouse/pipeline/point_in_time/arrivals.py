"""Generate the SELECT of a stream's valid arrivals, with the time from which each is known and that from which it no longer is.

Silver has the latest arrival of each key. Bronze has all of them, and realtime and the hot tail those that bronze does not
hold yet. Casting bronze costs far more than reading silver, so bronze is read only for days on which silver lacks an arrival.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import date

from pyiceberg.table import Table

from lakehouse.contracts.columns import passed_through
from lakehouse.contracts.sql import clean_sql, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import bind, scan_sql
from lakehouse.engine.filters import days_filter, hours_filter
from lakehouse.errors import ContractError
from lakehouse.pipeline.day_groups import input_columns
from lakehouse.pipeline.lineage.properties import days_with_held_rows
from lakehouse.pipeline.lineage.realtime_coverage import incomplete_days
from lakehouse.pipeline.readable_lake import ReadableLake
from lakehouse.pipeline.unified_view import tail_sql
from lakehouse.storage.iceberg.manifests import has_delete_files, live_entries
from lakehouse.storage.iceberg.partitions import date_from_days, partition_position

KNOWN_FROM, KNOWN_UNTIL = "_known_from", "_known_until"
"""When an arrival is known: from its arrival, or its event if that is later; until a later arrival of its key is known."""


def arrivals_sql(lake: ReadableLake, stream: Stream, days: Sequence[date]) -> str:
    """Generate the SELECT of the valid arrivals whose event is of these days.

    It has the contract's fields, `dt`, `_arrived_at`, KNOWN_FROM and KNOWN_UNTIL, which is null for the latest arrival of a
    key. Raises ContractError if the stream's `silver.sql` drops fields, and realtime holds rows that bronze may lack.
    """
    silver = lake.tables.load(f"silver.{stream.name}")
    bronze = lake.tables.load(f"bronze.{stream.name}")
    has_fields = keeps_fields(stream)
    quarantine = lake.tables.load(f"quarantine.{stream.name}")
    whole = whole_days(stream, bronze, silver, quarantine) if has_fields else set()
    in_silver = [day for day in days if day in whole]
    elsewhere = [day for day in days if day not in whole]
    fields = _names(input_columns(stream.contract))
    fresh = _fresh_sql(lake, stream, silver, days, has_fields=has_fields)
    known_from = f"greatest(_arrived_at, {quote(stream.contract.event_time)})"
    settled = _silver_sql(silver, fields, in_silver)
    # Where the gate blocks all objects of a day, silver keeps what it had of them.
    held = sorted(days_with_held_rows(quarantine).intersection(elsewhere)) if has_fields else []
    same_key = " and ".join(
        f"settled.{quote(name)} is not distinct from fresh.{quote(name)}" for name in ("dt", *stream.contract.key)
    )
    keys = _names(("dt", *stream.contract.key))
    # Only arrivals whose key may have another one are compared with each other.
    return f"""with fresh as not materialized (
  {fresh}
),
settled as not materialized (
  {settled}
),
contested as not materialized (
  {_bronze_sql(lake, stream, bronze, elsewhere)}
  union all
  from fresh
  union all
  from settled semi join fresh on {same_key}
  union all
  {_silver_sql(silver, fields, held)}
)
select {fields}, {known_from} as {KNOWN_FROM}, null::timestamp as {KNOWN_UNTIL}
from settled
anti join fresh on {same_key}
union all
select {fields}, {KNOWN_FROM}, {KNOWN_UNTIL}
from (
  select *, min({KNOWN_FROM}) over (
    partition by {keys}
    order by _arrived_at, _object nulls first, _row nulls first
    rows between 1 following and unbounded following
  ) as {KNOWN_UNTIL}
  from (select *, {known_from} as {KNOWN_FROM} from contested)
)
where {KNOWN_UNTIL} is null or {KNOWN_FROM} < {KNOWN_UNTIL}"""


def keeps_fields(stream: Stream) -> bool:
    """Return whether silver and realtime have each field of the contract as it arrived."""
    inputs = tuple(input_columns(stream.contract))
    return set(inputs) <= set(passed_through(stream.sql("silver"), "valid", inputs))


def whole_days(stream: Stream, bronze: Table, silver: Table, quarantine: Table) -> set[date]:
    """List the days on which silver has every valid arrival: it is up to date, and no key arrived twice. Reads metadata."""
    if any(map(has_delete_files, (bronze, silver, quarantine))):
        return set()
    landed, rows, rejected = map(_rows_by_day, (bronze, silver, quarantine))
    stale = set(incomplete_days(stream, bronze, silver))
    return {day for day in rows if day not in stale and landed[day] == rows[day] + rejected[day]}


def _rows_by_day(table: Table) -> Counter[date]:
    rows = Counter[date]()
    for entry in live_entries(table):
        position = partition_position(table.specs()[entry.data_file.spec_id], "dt")
        rows[date_from_days(entry.data_file.partition[position])] += entry.data_file.record_count
    return rows


def _silver_sql(silver: Table, fields: str, days: Collection[date]) -> str:
    return f"""select {fields}, null::varchar as _object, null::bigint as _row
  from {scan_sql(silver)}
  where {days_filter(days)}"""


def _bronze_sql(lake: ReadableLake, stream: Stream, bronze: Table, days: Collection[date]) -> str:
    """Generate the SELECT of bronze's valid rows of these days, without those of objects that the quality gate blocks."""
    fields = _names(input_columns(stream.contract))
    cleaned = bind(clean_sql(stream.contract), {"bronze": f"from {scan_sql(bronze)} where {days_filter(days)}"})
    return _without_blocked(lake, stream, f"select {fields}, _object, _row from ({cleaned}) where _valid", days)


def _fresh_sql(lake: ReadableLake, stream: Stream, silver: Table, days: Sequence[date], *, has_fields: bool) -> str:
    """Generate the SELECT of the arrivals that silver may lack: those of realtime and the hot tail."""
    realtime, tail = lake.tables.load(f"realtime.{stream.name}"), lake.tail.get(stream.name, ())
    hours = lake.uncovered(stream, silver, realtime)
    sources = [tail_sql(realtime, tail)] if tail else []
    if realtime.current_snapshot() is not None and hours != []:
        scan = scan_sql(realtime)
        sources.append(scan if hours is None else f"(from {scan} where {hours_filter(hours)})")
    if sources and not has_fields:
        raise ContractError(
            f"{stream.folder / 'silver.sql'}: features at a point in time need each field as it arrived;"
            " select valid.*, and give what you compute other names."
        )
    fields = _names(input_columns(stream.contract)) if sources else ""
    where = days_filter(days)
    selects = [f"select {fields}, _object, _row from {source} where {where}" for source in sources]
    if not selects:
        typed = {field.name: field.type.sql for field in stream.contract.fields}
        typed |= {"dt": "date", "_arrived_at": "timestamp", "_object": "varchar", "_row": "bigint"}
        return f"select {', '.join(f'null::{kind} as {quote(name)}' for name, kind in typed.items())} where false"
    return _without_blocked(lake, stream, "\n  union all\n  ".join(selects), days)


def _without_blocked(lake: ReadableLake, stream: Stream, select: str, days: Collection[date]) -> str:
    """Leave out the rows of landing objects of which the quality gate keeps valid rows out of silver."""
    quarantine = lake.tables.load(f"quarantine.{stream.name}")
    held = days_with_held_rows(quarantine).intersection(days)
    if not held:
        return select
    return f"""select arrived.*
  from ({select}) as arrived
  anti join (
    select dt, _object
    from {scan_sql(quarantine)}
    where {days_filter(sorted(held))} and reasons[1] like 'held back: %'
  ) as blocked using (dt, _object)"""


def _names(columns: Sequence[str]) -> str:
    return ", ".join(map(quote, columns))
