"""A model's table = what its SELECT gives for the tables that it reads."""

from collections.abc import Iterator, Sequence
from datetime import date

import duckdb

from lakehouse.auditing.findings import Difference, Finding, Report, State
from lakehouse.auditing.row_diff import day_differences
from lakehouse.contracts.sql import quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import columns_of, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.errors import LakehouseError
from lakehouse.models.model import Model
from lakehouse.models.returned import show_returned
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.model_days import day_sql, days_read
from lakehouse.pipeline.model_inputs import Inputs, open_inputs
from lakehouse.pipeline.model_staleness import LoadedModel
from lakehouse.pipeline.model_tables import models_below
from lakehouse.storage.iceberg.readable import check_readable

CHECK = "model = its SELECT"

WHOLE = "whole"
"""The partition of a table without any."""


def audit_models(lake: Lake, streams: Sequence[Stream], first: date | None, last: date | None) -> Report:
    """Compare the tables of the models below these streams with what their SELECTs give, day by day."""
    report = Report()
    below = dict.fromkeys(model.name for stream in streams for model in models_below(lake, stream))
    for name in below:
        report.add(_audit(lake, lake.models.models.by_name[name], first or date.min, last or date.max))
    return report


def _audit(lake: Lake, model: Model, first: date, last: date) -> Report:
    """Compare a model, and what seems wrong a second time, because a commit may have come between two loads."""
    report = _compare(lake, model, first, last)
    if not report.wrong:
        return report
    again = {finding.place for finding in _compare(lake, model, first, last).wrong}
    report.findings = [*report.stale, *(finding for finding in report.wrong if finding.place in again)]
    return report


def _compare(lake: Lake, model: Model, first: date, last: date) -> Report:
    report = Report()
    try:
        loaded = LoadedModel.load(lake, model)
        if loaded.table is None:
            return report
        check_readable(loaded.table)
        partitions = _partitions(loaded, first, last)
        stale = _stale(loaded)
        for partition, difference in _differences(lake, loaded, [each for each in partitions if each not in stale]):
            report.findings.append(_finding(model, partition, "wrong", str(difference)))
        report.findings += [
            _finding(model, each, "stale", "was computed before what it reads, or its SQL, changed")
            for each in partitions
            if each in stale
        ]
        report.count(model.name, len(partitions) - len(report.stale))
    except (LakehouseError, OSError, duckdb.Error) as error:
        detail = f"can't be compared ({str(error).splitlines()[0]})"
        report.findings.append(_finding(model, first if first > date.min else WHOLE, "wrong", detail))
    return report


def _partitions(loaded: LoadedModel, first: date, last: date) -> list[date | str]:
    if not loaded.model.is_partitioned:
        return [WHOLE]
    days = {day for changed in loaded.changes.values() for day in changed}
    return sorted(day for day in days if first <= day <= last)


def _stale(loaded: LoadedModel) -> set[date | str]:
    if loaded.model.is_partitioned:
        return {*loaded.stale_days()}
    return {WHOLE} if loaded.is_stale() else set()


def _differences(
    lake: Lake, loaded: LoadedModel, partitions: Sequence[date | str]
) -> Iterator[tuple[date | str, Difference]]:
    with open_inputs(lake) as inputs:
        for partition in partitions:
            found = _day_difference(loaded, inputs, partition if isinstance(partition, date) else None)
            if found is not None:
                yield partition, found


def _day_difference(loaded: LoadedModel, inputs: Inputs, day: date | None) -> Difference | None:
    model, table = loaded.model, loaded.table
    assert table is not None
    inputs.show(loaded.sources, None if day is None else days_read(model, day))
    show_returned(inputs.cursor, model)
    columns = columns_of(table)
    names = ", ".join(f"{quote(name)}::{kind} as {quote(name)}" for name, kind in columns)
    expected = f"select {names}, '' as _part from (\n{model.select if day is None else day_sql(model, day)}\n)"
    where = "true" if day is None else days_filter([day])
    actual = f"select {names}, '' as _part from {scan_sql(table)} where {where}"
    close = [name for name, kind in columns if kind == "double"]
    key = model.header.key or [name for name, kind in columns if kind in ("varchar", "bigint", "date", "boolean")]
    found = day_differences(inputs.cursor, expected, actual, columns, day="_part", key=key, close=close)
    return next(iter(found.values()), None)


def _finding(model: Model, partition: date | str, state: State, detail: str) -> Finding:
    layer, name = model.name.split(".")
    which = f"--days {partition}..{partition}" if isinstance(partition, date) else "--again"
    fix = f"`lakehouse models run {model.name} {which}`"
    return Finding(name, layer, str(partition), CHECK, state, f"{name}: {detail}", fix)
