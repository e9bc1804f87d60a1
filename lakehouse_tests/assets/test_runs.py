"""A run in Dagster materializes the requested partitions, with their numbers, and no others."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from lakehouse.assets import resources
from lakehouse.assets.graph import build_assets
from lakehouse.assets.io_manager import LakehouseIOManager
from lakehouse.assets.partitions import exact_tags
from lakehouse.assets.resources import LakeResource
from lakehouse.auditing.audit import audit
from lakehouse.automation.jobs import BATCH, REALTIME, REFRESH, SERVING, build_jobs
from lakehouse.contracts.odcs import load_contract
from lakehouse.contracts.streams import Stream
from lakehouse.pipeline.lineage.properties import computed_from
from lakehouse.pipeline.quality_gate import REMEDY
from lakehouse_tests.pipeline.own import Own, noon, payment, span, threshold

FIRST = date(2025, 3, 1)
DAYS = [FIRST, span(FIRST, 3)[2]]
"""With a day between them that nobody asks for."""

RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def own(make_stream: Callable[..., Own], monkeypatch: pytest.MonkeyPatch) -> Own:
    own = make_stream()
    monkeypatch.setattr(resources, "_lake", lambda: own.lake)
    return own


@pytest.fixture
def run(own: Own, instance: dg.DagsterInstance) -> Callable[..., dg.ExecuteInProcessResult]:
    """Run a job of a graph that has this stream alone."""
    definitions = _definitions(own)

    def run(job: str, tags: Mapping[str, str] | None = None, **more: Any) -> dg.ExecuteInProcessResult:
        return definitions.resolve_job_def(job).execute_in_process(
            instance=instance, tags=dict(tags or {}), raise_on_error=False, **more
        )

    return run


@pytest.fixture(scope="module")
def batch(make_shared_stream: Callable[..., Own]) -> Iterator[tuple[Own, dg.ExecuteInProcessResult]]:
    """A stream with two of its three days computed by one run, and what the run says."""
    own = make_shared_stream()
    _land(own)
    with dg.DagsterInstance.ephemeral() as instance:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(resources, "_lake", lambda: own.lake)
            job = _definitions(own).resolve_job_def(BATCH)
            result = job.execute_in_process(instance=instance, tags=exact_tags(DAYS))
        yield own, result


def _definitions(own: Own) -> dg.Definitions:
    lake = LakeResource()
    return dg.Definitions(
        assets=build_assets(own.lake.streams, date(2025, 1, 1)),
        jobs=build_jobs(),
        resources={"lake": lake, "io_manager": LakehouseIOManager(lake=lake)},
    )


def _materialized(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return the metadata of each materialization by asset and partition. Fails if a partition comes twice."""
    metadata: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for event in result.all_events:
        if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            materialization = event.step_materialization_data.materialization
            asset, partition = materialization.asset_key.to_user_string(), str(materialization.partition)
            assert partition not in metadata[asset], (asset, partition)
            metadata[asset][partition] = {name: value.value for name, value in materialization.metadata.items()}
    return dict(metadata)


def _checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}


def _land(own: Own) -> None:
    for day in span(FIRST, 3):
        good = [payment(f"e{day}-{n}", noon(day), amount="20000") for n in range(40)]
        own.land([*good, good[0], "{"], noon(day))


def _daily(name: str) -> set[str]:
    return {
        f"bronze/{name}", f"silver/{name}", f"quarantine/{name}", f"gold/{name}_daily", "gold/daily_metrics",
        *(f"serving/{name}_{what}" for what in ("alerts", "dashboard", "features", "lookup")), f"serving/unified_{name}",
    }  # fmt: skip


def test_batch_materializes_exact_days_in_every_layer(batch: tuple[Own, dg.ExecuteInProcessResult]) -> None:
    own, result = batch
    assert result.success
    made = _materialized(result)
    days = [str(day) for day in DAYS]
    assert {asset: sorted(partitions) for asset, partitions in made.items()} == dict.fromkeys(_daily(own.name), days)
    for asset, partitions in made.items():
        for metadata in partitions.values():
            numbers = {name: metadata[name] for name in ("rows", "bytes", "files", "seconds")}
            assert all(type(value) in (int, float) for value in numbers.values()), (asset, numbers)
            assert "snapshot_id" in metadata or asset.startswith("serving/")
    silver = made[f"silver/{own.name}"][days[0]]
    assert {name: silver[name] for name in ("rows", "landed", "valid", "quarantined", "duplicates")} == {
        "rows": 40, "landed": 42, "valid": 41, "quarantined": 1, "duplicates": 1,
    }  # fmt: skip
    assert silver["quality_score"] == pytest.approx(41 / 42, abs=1e-6)
    assert made[f"bronze/{own.name}"][days[0]]["objects"] == 1
    preview = made[f"silver/{own.name}"][days[1]]["preview"]
    assert isinstance(preview, dg.TableMetadataValue), "text of events is never read as Markdown"
    assert [str(record.data["event_id"])[0] for record in preview.records] == ["e"] * 5
    assert own.counts("silver") == dict.fromkeys(DAYS, 40)
    assert own.stale() == []
    definition = own.stream.definition_of("gold")
    gold = own.lake.tables.load(f"gold.{own.name}_daily")
    assert computed_from(gold, definition.source, DAYS) == dict.fromkeys(DAYS, definition.number), (
        "an audit tells edited SQL from wrong rows"
    )


def test_checks_of_valid_batch_pass(batch: tuple[Own, dg.ExecuteInProcessResult]) -> None:
    checks = _checks(batch[1])
    # Events of March are no longer fresh. That check only reports: it blocks nothing.
    assert checks == {
        "conservation": True, "unique_key": True, "required": True, "range": True, "accepted_values": True,
        "quality_score": True, "volume": True, "columns": True, "freshness": False, "forecast": True,
    }  # fmt: skip


def test_empty_day_is_materialized_and_passes_checks(own: Own, run: Callable[..., dg.ExecuteInProcessResult]) -> None:
    result = run(BATCH, partition_key=str(FIRST))
    assert result.success
    made = _materialized(result)
    assert {asset: list(partitions) for asset, partitions in made.items()} == {
        asset: [str(FIRST)] for asset in _daily(own.name)
    }
    assert {partitions[str(FIRST)]["rows"] for asset, partitions in made.items() if "metrics" not in asset} == {0}
    assert all(_checks(result).values())


def test_dagster_range_is_one_run_of_all_days(own: Own, run: Callable[..., dg.ExecuteInProcessResult]) -> None:
    _land(own)
    days = [str(day) for day in span(FIRST, 3)]
    result = run(BATCH, dict(zip(RANGE, (days[0], days[-1]), strict=True)))
    assert result.success
    made = _materialized(result)
    assert {asset: sorted(partitions) for asset, partitions in made.items()} == dict.fromkeys(_daily(own.name), days)
    assert [made[f"silver/{own.name}"][day]["rows"] for day in days] == [40] * 3
    assert [made[f"gold/{own.name}_daily"][day]["rows"] for day in days] == [1] * 3


def test_changed_sql_marks_only_its_asset_as_changed(
    own: Own, run: Callable[..., dg.ExecuteInProcessResult], instance: dg.DagsterInstance
) -> None:
    day = str(FIRST)
    _land(own)

    def out_of_date() -> dict[str, set[str]]:
        """Return why each asset's day is out of date, by the current definitions."""
        graph = _definitions(own).get_repository_def().asset_graph
        stale = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        causes = {asset: stale.get_stale_causes(dg.AssetKey(asset.split("/")), day) for asset in _daily(own.name)}
        return {asset: {cause.reason for cause in of_asset} for asset, of_asset in causes.items() if of_asset}

    assert run(BATCH, partition_key=day).success
    assert run(BATCH, partition_key=day).success
    assert out_of_date() == {}
    file = own.stream.folder / "gold.sql"
    file.write_text(f"select * from (\n{file.read_text()}\n)\n")
    assert out_of_date() == {f"gold/{own.name}_daily": {"has a new code version"}}
    only = {"partition_key": day, "asset_selection": [dg.AssetKey(["gold", f"{own.name}_daily"])]}
    assert run(BATCH, **only).success
    assert {asset for asset, why in out_of_date().items() if why != {"has a new code version"}} == {
        "gold/daily_metrics", f"serving/{own.name}_dashboard",
    }  # fmt: skip


def test_refresh_moves_rows_that_a_changed_contract_redates(
    make_stream: Callable[..., Own], monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    start = "  - property: historyStart\n    value: "
    own = make_stream(edit=lambda text: threshold(0)(text) + f"{start}{FIRST}\n")
    monkeypatch.setattr(resources, "_lake", lambda: own.lake)
    old = date(2018, 1, 1)
    own.land([payment("old", noon(old)), payment("new", noon(FIRST))], noon(FIRST))
    own.bronze()
    own.clean(FIRST)
    own.below(FIRST)
    assert own.counts("quarantine") == {FIRST: 1}
    file = own.stream.folder / "contract.odcs.yaml"
    file.write_text(file.read_text().replace(f"value: {FIRST}", "value: 2017-01-01"))
    own.lake.streams = {own.name: Stream(own.name, own.stream.folder, load_contract(own.stream.folder))}
    own = Own(own.lake, own.lake.streams[own.name])
    job = _definitions(own).resolve_job_def(REFRESH)
    for _ in range(2):
        days = own.stale()
        assert job.execute_in_process(instance=instance, tags=exact_tags(days)).success
        assert (own.counts("silver"), own.counts("quarantine")) == ({old: 1, FIRST: 1}, {}), "after one run"
    assert own.stale() == []
    assert audit(own.lake, [own.stream]).findings == []


def test_silver_alone_is_materialized_with_its_checks(own: Own, run: Callable[..., dg.ExecuteInProcessResult]) -> None:
    _land(own)
    own.bronze(FIRST)
    result = run(BATCH, partition_key=str(FIRST), asset_selection=[dg.AssetKey(["silver", own.name])])
    assert result.success
    assert _materialized(result)[f"silver/{own.name}"][str(FIRST)]["rows"] == 40
    assert own.counts("quarantine") == {FIRST: 1}
    assert _checks(result)["conservation"] is True


def test_backfill_of_bronze_replaces_and_run_appends(own: Own, run: Callable[..., dg.ExecuteInProcessResult]) -> None:
    _land(own)
    only = {"partition_key": str(FIRST), "asset_selection": [dg.AssetKey(["bronze", own.name])]}
    rows = [
        _materialized(run(BATCH, tags, **only))[f"bronze/{own.name}"][str(FIRST)]["rows"]
        for tags in ({}, {}, {"dagster/backfill": "b"})
    ]
    assert rows == [42, 0, 42]
    assert own.counts("bronze") == {FIRST: 42}


def test_blocked_silver_fails_the_run_and_skips_downstream(
    own: Own, run: Callable[..., dg.ExecuteInProcessResult]
) -> None:
    key = own.land([payment("a", noon(FIRST)), payment("b", noon(FIRST), status="lost")], noon(FIRST))
    result = run(BATCH, exact_tags([FIRST]))
    assert not result.success
    (failure,) = [e for e in result.all_events if e.event_type == dg.DagsterEventType.STEP_FAILURE]
    reported = failure.step_failure_data.user_failure_data
    assert reported is not None
    assert reported.description == (
        f"The quality gate blocked silver/{own.name} of {FIRST}: less than 95% of the rows are valid "
        f"(worst: 50.0% on {FIRST}). Silver keeps its last good snapshot. See the reasons with "
        f"`select * from quarantine.{own.name}`. Blocked objects: {key} (1 of 2 rows valid on {FIRST}). {REMEDY}."
    )
    checks = _checks(result)
    assert (checks["conservation"], checks["quality_score"]) == (True, False)
    assert f"gold/{own.name}_daily" not in _materialized(result)
    own.land([payment(f"good{n}", noon(FIRST)) for n in range(3)], noon(FIRST) + timedelta(seconds=1))
    result = run(BATCH, exact_tags([FIRST]))
    assert result.success, "another object of the day is not blocked"
    made, described = _materialized(result), f"{key} (1 of 2 rows valid on {FIRST})"
    assert made[f"silver/{own.name}"][str(FIRST)]["blocked_objects"] == described
    assert f"lakehouse withdraw {key}" in made[f"silver/{own.name}"][str(FIRST)]["how_to_withdraw"]
    assert made[f"gold/{own.name}_daily"][str(FIRST)]["rows"] == 1
    (score,) = (it for it in result.get_asset_check_evaluations() if it.check_name == "quality_score")
    assert (score.passed, score.metadata["blocked_objects"].value) == (False, described)


def test_realtime_and_serving_include_fresh_events(own: Own, run: Callable[..., dg.ExecuteInProcessResult]) -> None:
    own.land([payment("now", noon(FIRST), amount="20000"), "{"], noon(FIRST))
    hour = f"{FIRST}-12:00"
    made = _materialized(run(REALTIME, partition_key=hour))
    assert {asset: list(partitions) for asset, partitions in made.items()} == {f"realtime/{own.name}": [hour]}
    assert made[f"realtime/{own.name}"][hour]["rows"] == 1
    result = run(SERVING, exact_tags([FIRST]))
    assert result.success
    assert {a: list(p) for a, p in _materialized(result).items()} == {
        asset: [str(FIRST)] for asset in (f"serving/unified_{own.name}", f"serving/{own.name}_alerts")
    }
    assert own.ask("select event_id from {unified}") == [("now",)]
    assert own.lake.objects.head(f"serving/unified/{own.name}/dt={FIRST}/data.parquet") is not None
    assert b"20000" in own.lake.objects.get(f"serving/alerts/{own.name}/high_value_transactions_{FIRST:%Y%m%d}.json")


def test_bootstrap_reports_changes_and_is_repeatable(own: Own, instance: dg.DagsterInstance) -> None:
    from lakehouse.assets.bootstrap import bootstrap

    for _ in range(2):
        result = dg.materialize([bootstrap], resources={"lake": LakeResource()}, instance=instance)
        (made,) = result.asset_materializations_for_node("infra__bootstrap")
        assert (made.metadata["tables_changed"].value, made.metadata["changes"].value) == (0, "nothing to do")


def test_current_day_and_hour_are_partitions() -> None:
    from lakehouse.assets.partitions import daily, hourly

    now = datetime.now(UTC)
    assert daily(date(2010, 1, 1)).get_last_partition_key() == f"{span(now.date(), 2)[1]}"
    assert hourly(date(2025, 1, 1)).get_last_partition_key() == f"{now:%Y-%m-%d-%H}:00"
