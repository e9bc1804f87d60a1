"""Count, by landing object, the valid rows that silver does not have because a later row has their key."""

from collections.abc import Collection, Mapping
from datetime import date

import duckdb
from pyiceberg.table import Table

from lakehouse.contracts.casts import field_value_sql
from lakehouse.contracts.model import Contract
from lakehouse.contracts.sql import clean_sql, literal, quote
from lakehouse.engine.connection import scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.pipeline.lineage.properties import day_ledgers
from lakehouse.pipeline.quality_gate import blocked_objects


def count_duplicates(
    cursor: duckdb.DuckDBPyConnection,
    contract: Contract,
    bronze: Table,
    quarantine: Table,
    days: Collection[date],
    ours: str,
) -> dict[str, int]:
    """Count the duplicates of the landing objects that `ours` selects, on these event dates, by key.

    `ours` is a filter on `_object`. The temporary table `rejected` must have the places of their rejected rows. Only days
    whose ledger has duplicates are read: first the key of each row, then all columns of rows that share one with ours.
    """
    ledgers = day_ledgers(quarantine)
    repeating = sorted(day for day in days if ledgers.get(day, {}).get("duplicates", 1))
    if not repeating:
        return {}
    scan, where = scan_sql(bronze), days_filter(repeating)
    keys = ", ".join(field_value_sql(contract, contract.field(name), f"bronze.{quote(name)}") for name in contract.key)
    cursor.execute(f"""create or replace temp table sharing as
        with keyed as (select hash(dt, {keys}) as key, _object, _row from {scan} as bronze where {where}),
        near as (from keyed semi join (select key from keyed where {ours}) using (key))
        select _object, _row
        from near
        where key in (select key from near group by key having count(*) > 1)""")
    if not cursor.execute("select count(*) from sharing").fetchall()[0][0]:
        return {}
    cursor.execute(
        "create or replace temp view sharing_rows as"
        f" select * from {scan} as bronze semi join sharing using (_object, _row) where {where}"
    )
    is_blocked = _blocked_sql({day: [*of_day] for day, of_day in blocked_objects(quarantine).items()})
    return dict(
        cursor.execute(f"""
            with places as (
              select _object, _row, row_number() over (
                partition by dt, {", ".join(map(quote, contract.key))}
                order by {is_blocked}, _arrived_at desc, _object desc, _row desc
              ) as place
              from ({clean_sql(contract, "sharing_rows")})
              where _valid
            )
            select _object, count(*)
            from places
            anti join rejected using (_object, _row)
            where place > 1 and {ours}
            group by _object""").fetchall()
    )


def _blocked_sql(objects: Mapping[date, Collection[str]]) -> str:
    """Generate the condition that the quality gate keeps a row out of silver, so that any other row with its key is there."""
    blocked = ", ".join(f"(date '{day}', {literal(key)})" for day, keys in objects.items() for key in keys)
    return f"(dt, _object) in ({blocked})" if blocked else "false"
