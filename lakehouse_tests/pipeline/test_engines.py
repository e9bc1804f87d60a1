"""Every engine computes the same rows, in every layer of every stream."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from io import BytesIO
from itertools import product
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.contracts.streams import discover
from lakehouse.engine.connection import scan_sql
from lakehouse.pipeline.exports import export_unified
from lakehouse.pipeline.lake import Lake
from lakehouse.sources.simulation import Faults, Simulator
from lakehouse_tests.pipeline.own import Own, span

DAYS = span(date(2025, 11, 20), 3)
FEW, MANY = Faults(late=0.05, repeated=0.1, invalid=0.02, malformed=0.02), Faults(invalid=0.4, malformed=0.4)
LAYERS = ("bronze", "silver", "quarantine", "gold", "features", "alerts")

Row = tuple[Any, ...]


@pytest.mark.parametrize("base", sorted(discover()))
def test_spark_computes_the_rows_of_this_machine(make_stream: Callable[..., Own], sail: str, base: str) -> None:
    own = make_stream(base)
    _land(own, base)
    _compute(own)
    expected = {layer: _rows(own, layer) for layer in LAYERS}
    exported = _exported(own)
    assert len(expected["silver"]) > 100
    assert any("held back" in str(row) for row in expected["quarantine"])
    _use_spark(own.lake, sail)
    _compute(own)
    for layer in LAYERS:
        assert _same(_rows(own, layer), expected[layer]), layer
    assert _same(_exported(own), exported)
    assert own.stale() == []


def _land(own: Own, base: str) -> None:
    """Land some objects for each day; the quality gate blocks one of them."""
    stream = discover()[base]
    for number, (day, hour) in enumerate(product(DAYS, (3, 15))):
        simulator = Simulator(stream.contract, stream.simulate, number, MANY if number == 3 else FEW)
        start = datetime.combine(day, time(hour), UTC)
        until = start + timedelta(hours=1)
        own.land(simulator.batch(60, start, until).lines.splitlines(), until)


def _compute(own: Own) -> None:
    own.bronze(replace=True)
    days = sorted(own.counts("bronze"))
    own.clean(*days)
    own.below(*days)
    export_unified(own.lake, own.stream, days)


def _use_spark(lake: Lake, address: str) -> None:
    lake.settings = lake.settings.model_copy(update={"engine": "spark", "spark": address, "spark_from_mb": 0})


def _rows(own: Own, layer: str) -> list[Row]:
    names = {layer: f"{layer}.{own.name}" for layer in ("bronze", "silver", "quarantine")}
    names |= {"gold": f"gold.{own.name}_daily"} | {
        kind: f"serving.{own.name}_{kind}" for kind in ("features", "alerts")
    }
    with own.lake.engine.cursor() as cursor:
        return cursor.execute(f"select * from {scan_sql(own.lake.tables.load(names[layer]))} order by all").fetchall()


def _exported(own: Own) -> list[Row]:
    objects = own.lake.objects
    files = [BytesIO(objects.get(found.key)) for found in objects.list(f"serving/unified/{own.name}/")]
    table = pa.concat_tables(pq.read_table(file) for file in files)
    with own.lake.engine.cursor() as cursor:
        cursor.register("exported", table)
        return cursor.execute("from exported order by all").fetchall()


def _same(rows: Sequence[Row], others: Sequence[Row]) -> bool:
    """Compare rows value by value; sums of floats depend on their order in the last digits."""
    return len(rows) == len(others) and all(
        len(row) == len(other) and all(map(_equal, row, other)) for row, other in zip(rows, others, strict=True)
    )


def _equal(value: object, other: object) -> bool:
    if isinstance(value, float) and isinstance(other, float):
        return math.isclose(value, other, rel_tol=1e-9)
    return value == other
