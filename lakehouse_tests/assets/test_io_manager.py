"""A user's own asset takes and returns rows in the types of its annotations, and needs nothing else."""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import dagster as dg
import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lakehouse.assets import resources
from lakehouse.assets.io_manager import LakehouseIOManager
from lakehouse.assets.partitions import daily, exact_tags
from lakehouse.assets.resources import LakeResource
from lakehouse_tests.pipeline.own import Own, noon, payment, span

FIRST = date(2025, 4, 1)
DAYS = span(FIRST, 3)
DAILY = daily(date(2025, 1, 1))

Sums = Callable[[Any], Any]


@pytest.fixture
def own(computed: Own, monkeypatch: pytest.MonkeyPatch) -> Own:
    """Three days of silver, with one, two and three events. Each test writes a table of its own in gold."""
    monkeypatch.setattr(resources, "_lake", lambda: computed.lake)
    return computed


@pytest.fixture(scope="module")
def computed(make_shared_stream: Callable[..., Own]) -> Own:
    own = make_shared_stream()
    for number, day in enumerate(DAYS, start=1):
        own.land([payment(f"e{day}-{n}", noon(day), amount="2.50") for n in range(number)], noon(day))
    own.bronze()
    own.clean(*DAYS)
    return own


def _run(own: Own, *assets: dg.AssetsDefinition, **more: Any) -> dg.ExecuteInProcessResult:
    lake = LakeResource()
    upstream = dg.AssetSpec(["silver", own.name], partitions_def=DAILY)
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            [upstream, *assets],
            resources={"lake": lake, "io_manager": LakehouseIOManager(lake=lake)},
            instance=instance,
            **more,
        )


def _by_relation(silver: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    return silver.aggregate("dt, count(*) as events, sum(amount) as amount")


def _by_arrow(silver: pa.Table) -> pa.Table:
    sums = silver.group_by("dt").aggregate([("event_id", "count"), ("amount", "sum")])
    return sums.rename_columns(["dt", "events", "amount"])


def _by_reader(silver: pa.RecordBatchReader) -> pa.RecordBatchReader:
    return _by_arrow(silver.read_all()).to_reader()


def _by_frame(silver: pd.DataFrame) -> pd.DataFrame:
    sums = silver.groupby("dt", as_index=False).agg(events=("event_id", "count"), amount=("amount", "sum"))
    return sums.assign(dt=sums["dt"].dt.date)


@pytest.mark.parametrize("sums", [_by_relation, _by_arrow, _by_reader, _by_frame], ids=lambda f: f.__name__[4:])
@pytest.mark.parametrize("days", [DAYS[:1], DAYS[1:]], ids=["a day", "a range"])
def test_rows_are_read_and_written_as_annotated(own: Own, sums: Sums, days: Sequence[date]) -> None:
    name = f"{own.name}{sums.__name__}_{len(days)}"
    asset = dg.asset(
        key=["gold", name],
        ins={"silver": dg.AssetIn(["silver", own.name])},
        partitions_def=DAILY,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )(sums)
    start, end = str(days[0]), str(days[-1])
    result = _run(
        own, asset, tags={"dagster/asset_partition_range_start": start, "dagster/asset_partition_range_end": end}
    ) if len(days) > 1 else _run(own, asset, partition_key=start)  # fmt: skip
    numbers = [DAYS.index(day) + 1 for day in days]
    assert sorted(own.ask("select dt, events, amount::double from {sums}", sums=f"gold.{name}")) == [
        (day, number, 2.5 * number) for day, number in zip(days, numbers, strict=True)
    ]
    made = {m.partition: m.metadata["rows"].value for m in result.asset_materializations_for_node(asset.op.name)}
    assert made == {str(day): 1 for day in days}


def test_partition_is_replaced_and_others_stay(own: Own) -> None:
    rows = {"n": 1}

    @dg.asset(key=["gold", f"{own.name}_mine"], partitions_def=DAILY)
    def mine(context: dg.AssetExecutionContext) -> pa.Table:
        return pa.table({"dt": [date.fromisoformat(context.partition_key)] * rows["n"], "n": list(range(rows["n"]))})

    for day, number in ((DAYS[0], 1), (DAYS[1], 2), (DAYS[0], 3), (DAYS[1], 0)):
        rows["n"] = number
        _run(own, mine, partition_key=str(day))
    assert own.ask("select dt, count(*) from {mine} group by dt", mine=f"gold.{own.name}_mine") == [(DAYS[0], 3)]


def test_exact_days_are_read_and_written_alone(own: Own) -> None:
    asset = dg.asset(
        key=["gold", f"{own.name}_gaps"],
        ins={"silver": dg.AssetIn(["silver", own.name])},
        partitions_def=DAILY,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )(_by_relation)
    _run(own, asset, tags=exact_tags([DAYS[0], DAYS[2]]))
    assert sorted(own.ask("select dt, events from {sums}", sums=f"gold.{own.name}_gaps")) == [
        (DAYS[0], 1),
        (DAYS[2], 3),
    ]


def test_unpartitioned_asset_replaces_the_whole_table(own: Own) -> None:
    numbers = [1, 2]

    @dg.asset(key=["gold", f"{own.name}_whole"])
    def whole() -> pd.DataFrame:
        return pd.DataFrame({"n": numbers, "word": ["a"] * len(numbers)})

    @dg.asset(key=["gold", f"{own.name}_total"], ins={"whole": dg.AssetIn(["gold", f"{own.name}_whole"])})
    def total(whole: pa.Table) -> pa.Table:
        return pa.table({"total": [pc.sum(whole["n"]).as_py()]})

    for expected in (3, 7):
        _run(own, whole, total)
        assert own.ask("select total from {total}", total=f"gold.{own.name}_total") == [(expected,)]
        numbers = [3, 4]


def test_asset_of_silver_is_stale_when_silver_is_newer(own: Own) -> None:
    from lakehouse.pipeline.lineage.staleness import stale_days

    asset = dg.asset(
        key=["gold", f"{own.name}_sums"], ins={"silver": dg.AssetIn(["silver", own.name])}, partitions_def=DAILY
    )(_by_relation)
    for day in DAYS:
        _run(own, asset, partition_key=str(day))
    tables = own.lake.tables
    assert stale_days(tables.load(f"silver.{own.name}"), tables.load(f"gold.{own.name}_sums")) == []
    own.clean(DAYS[1])
    assert stale_days(tables.load(f"silver.{own.name}"), tables.load(f"gold.{own.name}_sums")) == [DAYS[1]]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        pytest.param(["gold", "bad_type"], {"a": 1}, "returned a dict; return a DuckDB relation", id="a dict"),
        pytest.param(["gold", "bad_day"], pa.table({"n": [1]}), "its rows need a column 'dt'", id="no day"),
        pytest.param(["platinum", "x"], pa.table({"n": [1]}), "its key must be layer/name with layer one of", id="layer"),
        pytest.param(["alone"], pa.table({"n": [1]}), "its key must be layer/name with layer one of", id="one word"),
    ],
)  # fmt: skip
def test_asset_that_is_no_table_fails_with_the_reason(own: Own, key: list[str], value: Any, reason: str) -> None:
    @dg.asset(key=key, partitions_def=DAILY)
    def bad() -> Any:
        return value

    result = _run(own, bad, partition_key=str(FIRST), raise_on_error=False)
    assert not result.success
    (failure,) = [e for e in result.all_events if e.event_type == dg.DagsterEventType.STEP_FAILURE]
    error = failure.step_failure_data.error
    assert error is not None
    assert reason in str(error)
