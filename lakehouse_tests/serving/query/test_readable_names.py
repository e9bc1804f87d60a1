"""A key for some streams may read what was computed from their tables alone, also through other tables."""

import os
from datetime import date

from lakehouse.pipeline.commits import replace_days
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.query.readable_names import names_of_streams
from lakehouse.storage.iceberg.schema import TableSpec

DAY = date(2025, 11, 20)


def _write(lake: Lake, name: str, *sources: str) -> str:
    lake.tables.ensure([TableSpec(name, (("dt", "DATE"),), ("dt",))])
    recorded = dict.fromkeys(sources, 1) | {"definition.any": 2}
    replace_days(lake, name, f"select date '{DAY}' as dt", [DAY], sources=recorded)
    return name


def _name() -> str:
    return f"gold.t{os.urandom(6).hex()}"


def test_tables_computed_from_streams_of_the_key_are_readable(shared_lake: Lake) -> None:
    own = _write(shared_lake, _name(), "silver.iot", "gold.iot_daily")
    above = _write(shared_lake, _name(), own)
    both = _write(shared_lake, _name(), own, "silver.financial")
    unknown = _write(shared_lake, _name())
    names = names_of_streams(shared_lake, ["iot"])
    assert {"silver.iot", "serving.unified_iot", own, above} <= names
    assert names.isdisjoint({both, unknown, "silver.financial", "gold.daily_metrics"})
    assert both in names_of_streams(shared_lake, ["iot", "financial"])


def test_table_that_had_rows_of_another_stream_stays_closed(shared_lake: Lake) -> None:
    changed = _write(shared_lake, _name(), "silver.financial")
    _write(shared_lake, changed, "silver.iot")
    assert changed not in names_of_streams(shared_lake, ["iot"])
