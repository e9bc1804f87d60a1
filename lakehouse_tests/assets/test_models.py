"""Models run in Dagster: what is stale when it is their turn, each after those that it reads, and no more."""

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.assets import resources
from lakehouse.assets.graph import build_assets
from lakehouse.assets.resources import LakeResource
from lakehouse.automation.jobs import models_job
from lakehouse.automation.models import models_schedules, models_sensor
from lakehouse.pipeline.model_specs import CheckedModels
from lakehouse_tests.pipeline.modelled import check, write_models
from lakehouse_tests.pipeline.own import Own, noon, payment, span

DAYS = span(date(2025, 3, 1), 3)


@pytest.fixture
def own(make_stream: Callable[..., Own], monkeypatch: pytest.MonkeyPatch) -> Own:
    own = make_stream()
    for day in DAYS:
        own.land([payment(f"{day}", noon(day))], noon(day))
    own.bronze()
    own.clean(*DAYS)
    monkeypatch.setattr(resources, "_lake", lambda: own.lake)
    return own


@pytest.fixture
def checked(own: Own, tmp_path: Path) -> CheckedModels:
    """A whole table, a partitioned one that reads it, one that fails on a second account, and one on a schedule."""
    files = {
        "accounts": f"partition: none\n*/ select account_id, count(*) as n from silver.{own.name} group by all",
        "shares": f"key: dt\n*/ select dt, count(*) as n from silver.{own.name} join gold.{own.name}_accounts"
        " using (account_id) group by dt",
        "one_account": "partition: none\n*/ select if(count(distinct account_id) > 1, error('two'), 1) as n"
        f" from silver.{own.name}",
        "at_night": f'schedule: "0 6 * * *"\n*/ select dt, count(*) as n from silver.{own.name} group by dt',
    }
    folder = write_models(
        tmp_path, {f"gold/{own.name}_{name}.sql": f"/*\ndescription: x\n{text}" for name, text in files.items()}
    )
    checked = check(own.lake, folder)
    assert checked.models.problems == ()
    return checked


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def _definitions(own: Own, checked: CheckedModels) -> dg.Definitions:
    return dg.Definitions(
        assets=build_assets(own.lake.streams, date(2025, 1, 1), checked),
        jobs=[models_job(checked.models.by_name.values())],
        resources={"lake": LakeResource()},
    )


def _tick(own: Own, checked: CheckedModels, instance: dg.DagsterInstance) -> set[str]:
    """Evaluate the sensor and run what it requests. Returns what was materialized, each with its partition."""
    definitions = _definitions(own, checked)
    with dg.build_sensor_context(
        instance=instance, definitions=definitions, resources={"lake": LakeResource()}
    ) as context:
        request = models_sensor(checked.models)(context)
    return _run(own, checked, instance, request) if isinstance(request, dg.RunRequest) else set()


def _run(own: Own, checked: CheckedModels, instance: dg.DagsterInstance, request: dg.RunRequest) -> set[str]:
    job = _definitions(own, checked).resolve_job_def("models")
    result = job.execute_in_process(
        instance=instance, tags=request.tags, asset_selection=request.asset_selection, raise_on_error=False
    )
    return {
        f"{made.asset_key.path[-1].removeprefix(own.name + '_')} {made.partition or 'whole'}"
        for event in result.all_events
        if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION
        for made in [event.step_materialization_data.materialization]
    }


def test_sensor_computes_a_chain_in_one_run_and_then_nothing(
    own: Own, checked: CheckedModels, instance: dg.DagsterInstance
) -> None:
    shares = {f"shares {day}" for day in DAYS}
    assert _tick(own, checked, instance) == {"accounts whole", "one_account whole", *shares}
    assert _tick(own, checked, instance) == set()

    own.land([payment("late", noon(DAYS[1]), account_id="b")], noon(DAYS[2]) + timedelta(days=1))
    own.bronze()
    own.clean(DAYS[1])
    assert _tick(own, checked, instance) == {"accounts whole", *shares}, "one fails, and the others go on"
    assert _tick(own, checked, instance) == set(), "it waits"
    own.land([payment("later", noon(DAYS[2]))], noon(DAYS[2]) + timedelta(days=1))
    own.bronze()
    own.clean(DAYS[2])
    assert _tick(own, checked, instance) == {"accounts whole", *shares}, "and holds up no other"


def test_schedule_computes_its_model_alone(own: Own, checked: CheckedModels, instance: dg.DagsterInstance) -> None:
    (schedule,) = models_schedules(checked.models)
    assert schedule.cron_schedule == "0 6 * * *"
    with dg.build_schedule_context(instance=instance, resources={"lake": LakeResource()}) as context:
        (request,) = schedule.evaluate_tick(context).run_requests or ()
    assert _run(own, checked, instance, request) == {f"at_night {day}" for day in DAYS}


def test_backfill_computes_the_days_that_are_asked_for(
    own: Own, checked: CheckedModels, instance: dg.DagsterInstance
) -> None:
    job = _definitions(own, checked).resolve_job_def("models")
    name = f"{own.name}_at_night"
    result = job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(["gold", name])],
        tags={"dagster/asset_partition_range_start": str(DAYS[0]), "dagster/asset_partition_range_end": str(DAYS[1])},
    )
    assert sorted(str(event.partition) for event in result.get_asset_materialization_events()) == [*map(str, DAYS[:2])]
