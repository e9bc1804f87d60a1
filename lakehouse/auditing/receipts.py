"""Acknowledged = stored: every landing object whose events were acknowledged is in landing or in bronze."""

from datetime import date

from lakehouse.auditing.context import Context
from lakehouse.engine.connection import scan_sql
from lakehouse.engine.filters import days_filter, objects_filter
from lakehouse.landing.keys import hour_of
from lakehouse.pipeline.lineage.properties import objects_without_rows
from lakehouse.pipeline.lineage.retention import first_kept_day
from lakehouse.pipeline.withdrawal_log import withdrawn_objects

CHECK = "acknowledged = stored"


def check(context: Context) -> None:
    """Report the acknowledged objects of each day of arrival that are in no layer.

    A power cut or a failing disk may lose them. Only the embedded storage has receipts.
    """
    lost = context.unreadable.get("bronze", set())
    missing = {key: day for key, day in _not_in_landing(context).items() if day not in lost}
    if not missing:
        return
    for key in _in_bronze(context, missing) | withdrawn_objects(context.lake.objects, context.stream.name):
        missing.pop(key, None)
    for day in sorted(set(missing.values())):
        keys = sorted(key for key, of_day in missing.items() if of_day == day)
        detail = f"{len(keys)} landing objects were acknowledged and are gone, such as {keys[0]}"
        fix = "bring the home back from a backup, or send the events of that time again"
        context.report_finding("landing", day, CHECK, detail, fix)


def _not_in_landing(context: Context) -> dict[str, date]:
    """Return the acknowledged objects that are not in landing, each with its day."""
    first = max(context.first, first_kept_day(context.contract, "bronze") or date.min)
    days = (
        (key, hour.date() if (hour := hour_of(key)) else day) for key, day in context.receipts.keys(context.stream.name)
    )
    return {
        key: day
        for key, day in days
        if first <= day <= context.last and key not in context.keys_landed and key not in context.erased
    }


def _in_bronze(context: Context, keys: dict[str, date]) -> set[str]:
    """Return those of the objects that bronze has ingested, on whatever day of arrival that can be read."""
    table = context.table("bronze")
    where = objects_filter(keys)
    if lost := context.unreadable.get("bronze"):
        where += f" and {days_filter(context.rows_by_day(table, 'arrival_dt').keys() - lost, 'arrival_dt')}"
    with context.lake.engine.cursor() as cursor:
        select = f"select distinct _object from {scan_sql(table)} where {where}"
        held = {key for (key,) in cursor.execute(select).fetchall()}
    return (held | objects_without_rows(table)) & keys.keys()
