"""Every engine computes the same rows, in every layer of every stream."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from io import BytesIO
from itertools import product
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.auditing.audit import audit
from lakehouse.contracts.streams import discover
from lakehouse.engine.connection import DuckDB, scan_sql
from lakehouse.engine.workers import LocalWorkers
from lakehouse.maintenance.orphans import remove_orphans
from lakehouse.pipeline.anomalies import write_anomalies
from lakehouse.pipeline.exports import export_unified
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.properties import day_ledgers
from lakehouse.pipeline.shadow_engine import OUTCOME
from lakehouse.sources.simulation import Faults, Simulator
from lakehouse_tests.pipeline.own import Own, noon, payment, span

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
    if own.stream.contract.anomaly is not None:
        write_anomalies(own.lake, own.stream, days)
    export_unified(own.lake, own.stream, days)


def _use_spark(lake: Lake, address: str) -> None:
    lake.settings = lake.settings.model_copy(update={"engine": "spark", "spark": address, "spark_from_mb": 0})


def _rows(own: Own, layer: str) -> list[Row]:
    with own.lake.engine.cursor() as cursor:
        return cursor.execute(
            f"select * from {scan_sql(own.lake.tables.load(_table(own, layer)))} order by all"
        ).fetchall()


def _table(own: Own, layer: str) -> str:
    names = {"gold": f"gold.{own.name}_daily"} | {kind: f"serving.{own.name}_{kind}" for kind in ("features", "alerts")}
    return names.get(layer, f"{layer}.{own.name}")


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


def test_share_of_partitions_is_computed_on_both_engines_and_compared(
    make_stream: Callable[..., Own], sail: str
) -> None:
    own = make_stream("iot")
    _shadow(own, sail)
    _land(own, "iot")
    _compute(own)
    assert _compared(own) == {(layer, "same") for layer in LAYERS}
    assert remove_orphans(own.lake, f"silver.{own.name}", age=timedelta(0), now=datetime.now(UTC)).removed == 0


class _OtherSql(LocalWorkers):
    """Workers that have another `silver.sql`."""

    def spread(self, function: Callable[[DuckDB, Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            texts = {"silver": item.stream.sql("silver").replace("'low'", "'none'")}
            yield function(self._engine, replace(item, stream=replace(item.stream, texts=texts)))


def test_difference_between_engines_is_a_finding_until_the_day_is_computed_again(
    make_stream: Callable[..., Own], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_stream("financial")
    own.land([payment("a", noon(DAYS[0]))], noon(DAYS[0]))
    own.bronze()
    _shadow(own, "sc://127.0.0.1:1")
    with monkeypatch.context() as patch:
        patch.setattr(Lake, "other_workers", lambda lake, workers: _OtherSql(lake.engine))
        own.clean(DAYS[0])
    assert _compared(own, "silver") == {("silver", "differs")}
    findings = [(found.layer, found.check) for found in audit(own.lake, [own.stream]).wrong]
    assert findings == [("quarantine", "engines agree"), ("silver", "engines agree")]
    own.lake.settings = own.lake.settings.model_copy(update={"shadow_share": 0.0})
    own.clean(DAYS[0])
    assert audit(own.lake, [own.stream]).wrong == []


def test_engine_that_is_away_changes_nothing_and_is_recorded(make_stream: Callable[..., Own]) -> None:
    own = make_stream("financial")
    _shadow(own, "sc://127.0.0.1:1")
    own.land([payment("a", noon(DAYS[0]))], noon(DAYS[0]))
    own.bronze()
    assert own.clean(DAYS[0]).ledgers[DAYS[0]].silver == 1
    assert _compared(own, "bronze", "silver") == {("bronze", "failed"), ("silver", "failed")}


def _shadow(own: Own, address: str) -> None:
    own.lake.__dict__.pop("_spark", None)
    own.lake.settings = own.lake.settings.model_copy(update={"spark": address, "shadow_share": 1.0})


def _compared(own: Own, *layers: str) -> set[tuple[str, str]]:
    """List the outcomes that the ledgers of these layers, or of all, record."""
    tables = {layer: own.lake.tables.load(_table(own, layer)) for layer in layers or LAYERS}
    return {
        (layer, counts[OUTCOME])
        for layer, table in tables.items()
        for counts in day_ledgers(table).values()
        if OUTCOME in counts
    }
