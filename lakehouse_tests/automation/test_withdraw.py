"""The job `withdraw` takes objects out, and Dagster names them afterwards."""

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any

import dagster as dg
import pytest

from lakehouse.assets import checks, resources
from lakehouse.automation.withdraw import withdraw
from lakehouse_tests.pipeline.own import Own, make_stream, noon, payment, shared_lake

__all__ = ["make_stream", "shared_lake"]  # fixtures

DAY = date(2021, 5, 9)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def test_withdraw_job_takes_a_blocked_object_out(
    make_stream: Callable[..., Own], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_stream()
    monkeypatch.setattr(resources, "_lake", lambda: own.lake)
    good = own.land([payment(f"e{n}", noon(DAY)) for n in range(3)], noon(DAY))
    bad = own.land([payment("x", noon(DAY)), "{"], noon(DAY) + timedelta(seconds=1))
    own.bronze()

    def quality() -> dict[str, Any]:
        cleaned = own.clean(DAY)
        (score,) = (
            it for it in checks.evaluate(own.lake, own.stream, cleaned.ledgers) if it.check_name == "quality_score"
        )
        return {name: value.value for name, value in score.metadata.items()}

    def run(*objects: str, dry_run: bool = False) -> dg.ExecuteInProcessResult:
        config = {"ops": {"withdraw_objects": {"config": {"objects": [*objects], "dry_run": dry_run}}}}
        return withdraw.execute_in_process(run_config=config, instance=instance, raise_on_error=False)

    before = quality()
    assert (f"lakehouse withdraw {bad}" in before["how_to_withdraw"], before["withdrawn_objects"]) == (True, "none")
    assert not run(bad, "elsewhere").success
    assert run(bad, dry_run=True).success
    assert own.counts("bronze") == {DAY: 5}

    done = run(f"s3://{own.lake.objects.bucket}/{bad}")
    (observed,) = (event for event in done.all_events if event.event_type == dg.DagsterEventType.ASSET_OBSERVATION)
    observation = observed.asset_observation_data.asset_observation
    assert observation.asset_key == dg.AssetKey(["bronze", own.name])
    assert observation.metadata["withdrawn_objects"].value == {bad: 2}
    assert own.ask("select distinct _object from {bronze}") == [(good,)]
    assert own.stale() == [DAY]
    after = quality()
    assert ("how_to_withdraw" in after, after["blocked_objects"]) == (False, "none")
    assert after["withdrawn_objects"].startswith(f"{bad} (2 rows, withdrawn at ")
