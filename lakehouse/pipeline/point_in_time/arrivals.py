"""Generate the SELECT of a stream's valid arrivals, with the time from which each is known and that from which it no longer is.

Silver has the latest arrival of each key. Bronze has all of them, and realtime and the hot tail those that bronze does not
hold yet. Casting bronze costs far more than reading silver, so bronze is read only for days on which silver lacks an arrival.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import date

from pyiceberg.table import Table

from lakehouse.contracts.casts import field_value_sql
from lakehouse.contracts.columns import passed_through
from lakehouse.contracts.sql import BRONZE_COLUMNS, clean_sql, quote
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


_UNION = "\n  union all\n  "


def arrivals_sql(lake: ReadableLake, stream: Stream, days: Sequence[date]) -> str:
    """Generate the SELECT of the valid arrivals whose event is of these days.

    It has the contract's fields, `dt`, `_arrived_at`, and `_object` and `_row`, which are null for rows of silver. KNOWN_UNTIL
    is null for the latest arrival of a key. Raises ContractError if the stream's `silver.sql` drops fields, and realtime or the
    hot tail has rows.
    """
    return with_fresh_sql(lake, stream, stored_sql(lake, stream, days), days)


def stored_sql(lake: ReadableLake, stream: Stream, days: Sequence[date]) -> str:
    """Generate the SELECT of those arrivals that bronze has, as `arrivals_sql` does."""
    silver, bronze = lake.tables.load(f"silver.{stream.name}"), lake.tables.load(f"bronze.{stream.name}")
    quarantine = lake.tables.load(f"quarantine.{stream.name}")
    has_fields = keeps_fields(stream)
    once, repeated = days_in_silver(stream, bronze, silver, quarantine) if has_fields else ((), ())
    again = [day for day in days if day in repeated]
    elsewhere = [day for day in days if day not in once and day not in repeated]
    # Where the gate blocks all objects of a day, silver keeps what it had of them.
    held = sorted(days_with_held_rows(quarantine).intersection(elsewhere)) if has_fields else []
    contested = [
        *([_bronze_sql(lake, stream, bronze, elsewhere)] if elsewhere else []),
        *([_repeated_sql(stream, bronze, again)] if again else []),
        *([_silver_sql(stream, silver, held)] if held else []),
    ]
    in_silver = _silver_sql(stream, silver, [day for day in days if day in once or day in repeated])
    settled = f"select *, {_known_from(stream)}, null::timestamp as {KNOWN_UNTIL}\nfrom ({in_silver})"
    if not again:
        return _UNION.join([settled, *([_superseded_sql(stream, _UNION.join(contested))] if contested else [])])
    return f"""with repeated as materialized (
  {_repeated_keys_sql(stream, bronze, again)}
)
{settled} as settled
anti join repeated on {_same_key(stream, "settled", "repeated")}
union all
{_superseded_sql(stream, _UNION.join(contested))}"""


def with_fresh_sql(lake: ReadableLake, stream: Stream, stored: str, days: Sequence[date]) -> str:
    """Generate the SELECT of all arrivals: those of `stored`, as `stored_sql` gives them, and those that bronze may lack."""
    fresh = _fresh_sql(lake, stream, days)
    if fresh is None:
        return f"from ({stored})"
    same_key = _same_key(stream, "stored", "fresh")
    contested = f"""from fresh
  union all
  select * exclude ({KNOWN_FROM}, {KNOWN_UNTIL})
  from stored
  semi join fresh on {same_key}"""
    # Only arrivals whose key may have another one are compared with each other.
    return f"""with stored as not materialized (
  {stored}
),
fresh as not materialized (
  {fresh}
)
from stored
anti join fresh on {same_key}
union all
{_superseded_sql(stream, contested)}"""


def _superseded_sql(stream: Stream, contested: str) -> str:
    """Generate the SELECT of arrivals that may share keys, each until a later one of its key is known."""
    return f"""select *
from (
  select *, min({KNOWN_FROM}) over (
    partition by {_names(("dt", *stream.contract.key))}
    order by _arrived_at, _object nulls first, _row nulls first
    rows between 1 following and unbounded following
  ) as {KNOWN_UNTIL}
  from (select *, {_known_from(stream)} from ({contested}))
)
where {KNOWN_UNTIL} is null or {KNOWN_FROM} < {KNOWN_UNTIL}"""


def _known_from(stream: Stream) -> str:
    return f"greatest(_arrived_at, {quote(stream.contract.event_time)}) as {KNOWN_FROM}"


def _columns(stream: Stream) -> str:
    return _names(input_columns(stream.contract))


def keeps_fields(stream: Stream) -> bool:
    """Return whether silver and realtime have each field of the contract as it arrived."""
    inputs = tuple(input_columns(stream.contract))
    return set(inputs) <= set(passed_through(stream.sql("silver"), "valid", inputs))


def days_in_silver(stream: Stream, bronze: Table, silver: Table, quarantine: Table) -> tuple[set[date], set[date]]:
    """List the days on which silver is up to date: those on which each key arrived once, and those with repeated keys.

    Only metadata is read.
    """
    if any(map(has_delete_files, (bronze, silver, quarantine))):
        return set(), set()
    landed, rows, rejected = map(_rows_by_day, (bronze, silver, quarantine))
    stale = set(incomplete_days(stream, bronze, silver))
    current = rows.keys() - stale
    once = {day for day in current if landed[day] == rows[day] + rejected[day]}
    return once, current - once


def _rows_by_day(table: Table) -> Counter[date]:
    rows = Counter[date]()
    for entry in live_entries(table):
        position = partition_position(table.specs()[entry.data_file.spec_id], "dt")
        rows[date_from_days(entry.data_file.partition[position])] += entry.data_file.record_count
    return rows


def _silver_sql(stream: Stream, silver: Table, days: Collection[date]) -> str:
    return f"""select {_columns(stream)}, null::varchar as _object, null::bigint as _row
  from {scan_sql(silver)}
  where {days_filter(days)}"""


def _bronze_sql(lake: ReadableLake, stream: Stream, bronze: Table, days: Collection[date]) -> str:
    """Generate the SELECT of bronze's valid rows of these days, without those of objects that the quality gate blocks."""
    fields = _names(input_columns(stream.contract))
    cleaned = bind(clean_sql(stream.contract), {"bronze": f"from {scan_sql(bronze)} where {days_filter(days)}"})
    return _without_blocked(lake, stream, f"select {fields}, _object, _row from ({cleaned}) where _valid", days)


def _repeated_keys_sql(stream: Stream, bronze: Table, days: Sequence[date]) -> str:
    """Generate the SELECT of the keys that arrived more than once on these days, whether in a valid row or not."""
    keys = _names(("dt", *stream.contract.key))
    return f"""select {keys}
  from ({_typed_keys_sql(stream, bronze, days)})
  group by {keys}
  having count(*) > 1"""


def _repeated_sql(stream: Stream, bronze: Table, days: Sequence[date]) -> str:
    """Generate the SELECT of the valid rows of bronze on these days whose keys are in `repeated`."""
    fields = _names(input_columns(stream.contract))
    columns = ", ".join(f"arrived.{quote(name)}" for name in _bronze_columns(stream))
    places = f"""select keys._object, keys._row
  from ({_typed_keys_sql(stream, bronze, days)}) as keys
  semi join repeated on {_same_key(stream, "keys", "repeated")}"""
    rows = f"""select {columns}
  from (from {scan_sql(bronze)} where {days_filter(days)}) as arrived
  semi join ({places}) as places using (_object, _row)"""
    cleaned = bind(clean_sql(stream.contract), {"bronze": rows})
    return f"select {fields}, _object, _row from ({cleaned}) where _valid"


def _typed_keys_sql(stream: Stream, bronze: Table, days: Sequence[date]) -> str:
    contract = stream.contract
    keys = ", ".join(
        f"{field_value_sql(contract, field, 'arrived.' + quote(field.name))} as {quote(field.name)}"
        for field in contract.fields
        if field.key
    )
    return f"""select dt, {keys}, _object, _row
  from {scan_sql(bronze)} as arrived
  where {days_filter(days)}"""


def _bronze_columns(stream: Stream) -> list[str]:
    return [*(field.name for field in stream.contract.fields), *BRONZE_COLUMNS, "dt"]


def _same_key(stream: Stream, left: str, right: str) -> str:
    """Generate the condition that rows of two relations are of one day and have one key."""
    names = map(quote, ("dt", *stream.contract.key))
    return " and ".join(f"{left}.{name} is not distinct from {right}.{name}" for name in names)


def _fresh_sql(lake: ReadableLake, stream: Stream, days: Sequence[date]) -> str | None:
    """Generate the SELECT of the arrivals that silver may lack: those of realtime and the hot tail. None if there are none."""
    silver, realtime = lake.tables.load(f"silver.{stream.name}"), lake.tables.load(f"realtime.{stream.name}")
    tail = lake.tail.get(stream.name, ())
    sources = [tail_sql(realtime, tail)] if tail else []
    if realtime.current_snapshot() is not None and (hours := lake.uncovered(stream, silver, realtime)) != []:
        scan = scan_sql(realtime)
        sources.append(scan if hours is None else f"(from {scan} where {hours_filter(hours)})")
    if not sources:
        return None
    if not keeps_fields(stream):
        raise ContractError(
            f"{stream.folder / 'silver.sql'}: features at a point in time need each field as it arrived;"
            " select valid.*, and give what you compute other names."
        )
    where = days_filter(days)
    selects = [f"select {_columns(stream)}, _object, _row from {source} where {where}" for source in sources]
    return _without_blocked(lake, stream, _UNION.join(selects), days)


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
