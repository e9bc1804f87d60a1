"""Anomalies = what the detectors find in silver, going on from the stored states of the day before."""

from collections.abc import Mapping
from datetime import date
from math import isclose
from typing import Any

from pyiceberg.table import Table

from lakehouse.auditing.context import Context
from lakehouse.contracts.sql import quote
from lakehouse.engine.connection import scan_sql
from lakehouse.pipeline.anomalies import detect, read_states, stale_anomaly_days
from lakehouse.pipeline.anomaly_series import rule_of
from lakehouse.pipeline.lineage.properties import computed_from
from lakehouse.pipeline.lineage.staleness import last_changes
from lakehouse.storage.iceberg.catalog import qualified_name

CHECK = "anomalies = detectors over silver"

IDENTITY = ("event_time", "kind", "event_key")
NUMBERS = ("value", "expected", "low", "high", "score")

TOLERANCE = 1e-6
"""How far numbers may be apart, relatively: processors of other kinds round logarithms in another way."""

Anomalies = Mapping[tuple[Any, ...], tuple[float | None, ...]]
"""The numbers of each anomaly by its series and identity."""


def check_anomalies(context: Context) -> None:
    """Compare the anomalies of each day that has been computed with what the detectors find in its silver."""
    if context.contract.anomaly is None:
        return
    lake, stream = context.lake, context.stream
    silver, anomalies = context.table("silver"), context.table("serving", "_anomalies")
    states = context.table("serving", "_anomaly_state")
    kept = context.readable(filter(lambda day: context.covers(str(day)), last_changes(silver)), "silver", "serving")
    computed = computed_from(anomalies, silver, kept)
    stale = stale_anomaly_days(lake, stream)
    for day in sorted(stale.intersection(kept)):
        context.report_stale(
            "serving", day, CHECK, f"{stream.name}_anomalies were computed before their sources changed"
        )
    rows, known = 0, sorted(last_changes(states))
    days = sorted(computed.keys() - stale)
    for day in days:
        earlier = max((one for one in known if one < day), default=None)
        detected = detect(lake, stream, silver, day, read_states(lake, stream, states, earlier))
        names = (*rule_of(stream).by, *IDENTITY)
        expected = {
            tuple(row[name] for name in names): tuple(row.get(name) for name in NUMBERS) for row in detected.rows
        }
        stored = _stored(context, anomalies, day)
        rows += len(stored)
        if difference := _difference(stored, expected):
            context.report_wrong("serving", day, CHECK, f"{stream.name}_anomalies {difference}")
        elif read_states(lake, stream, states, day).keys() != detected.states.keys():
            context.report_wrong(
                "serving", day, CHECK, f"{stream.name}_anomaly_state has other series than silver gives"
            )
    context.report.count(qualified_name(anomalies), len(days), rows)


def _stored(context: Context, anomalies: Table, day: date) -> Anomalies:
    by = rule_of(context.stream).by
    columns = ", ".join([*(f"{quote(name)}::varchar" for name in by), *IDENTITY, *NUMBERS])
    with context.lake.engine.cursor() as cursor:
        rows = cursor.execute(f"select {columns} from {scan_sql(anomalies)} where dt = date '{day}'").fetchall()
    width = len(by) + len(IDENTITY)
    return {row[:width]: row[width:] for row in rows}


def _difference(stored: Anomalies, expected: Anomalies) -> str:
    """Describe how the anomalies of a day differ; empty if they don't."""
    changed = [key for key in stored.keys() & expected.keys() if not _are_close(stored[key], expected[key])]
    parts = {
        "lacks": len(expected.keys() - stored.keys()),
        "has too many": len(stored.keys() - expected.keys()),
        "has other numbers in": len(changed),
    }
    return ", ".join(f"{what}: {count}" for what, count in parts.items() if count)


def _are_close(one: tuple[float | None, ...], other: tuple[float | None, ...]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(a == b if a is None or b is None else isclose(a, b, rel_tol=TOLERANCE) for a, b in pairs)
