"""Runs that Dagster Pipes starts elsewhere materialize what runs of this process do."""

import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest

from lakehouse.assets import resources, specs
from lakehouse.assets.external_jobs import LAUNCHERS
from lakehouse.assets.graph import build_assets
from lakehouse.assets.partitions import exact_tags
from lakehouse.assets.resources import LakeResource
from lakehouse.automation.jobs import BATCH, build_jobs
from lakehouse.cli.job import SCRIPT
from lakehouse.settings import PipesSettings
from lakehouse_tests.forked import run_forked
from lakehouse_tests.nightly import NIGHTLY
from lakehouse_tests.pipeline.own import Own, noon, payment, threshold

DAY = date(2025, 3, 1)
JOB_DRIVER = {"sparkSubmit": {"entryPoint": "s3://code/lakehouse_job.py"}}
ROLE = "arn:aws:iam::123456789012:role/lakehouse"


@pytest.fixture
def own(make_stream: Callable[..., Own], monkeypatch: pytest.MonkeyPatch) -> Own:
    own = make_stream(edit=threshold(0))
    events = [payment(key, noon(DAY)) for key in "abc"] + [
        payment("a", noon(DAY)),
        payment("d", noon(DAY), amount="-1"),
    ]
    own.land(events * 5, noon(DAY))
    monkeypatch.setattr(resources, "_lake", lambda: own.lake)
    return own


def _job_environment(own: Own) -> dict[str, str]:
    streams = json.dumps([str(folder) for folder in own.lake.settings.streams])
    return {"LAKEHOUSE_HOME": str(own.lake.settings.home), "LAKEHOUSE_STREAMS": streams, "LAKEHOUSE_ENGINE": "duckdb"}


def _use_pipes(own: Own, **pipes: Any) -> None:
    update = {"engine": "spark", "spark": "pipes", "spark_from_mb": 0, "pipes": PipesSettings(**pipes)}
    own.lake.settings = own.lake.settings.model_copy(update=update)


def _run(own: Own, *assets: str) -> dg.ExecuteInProcessResult:
    definitions = dg.Definitions(
        assets=build_assets(own.lake.streams, date(2025, 1, 1)), jobs=build_jobs(), resources={"lake": LakeResource()}
    )
    keys = [dg.AssetKey(asset.format(own.name).split("/")) for asset in assets]
    with dg.DagsterInstance.ephemeral() as instance:
        return definitions.resolve_job_def(BATCH).execute_in_process(
            instance=instance, tags=exact_tags([DAY]), raise_on_error=False, asset_selection=keys or None
        )


def _reported(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """Return the numbers of each materialization and check, without those that differ from run to run."""
    reported: dict[str, Any] = {}
    for event in result.all_events:
        if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            made = event.step_materialization_data.materialization
            counts = {name: value.value for name, value in made.metadata.items()}
            kept = {name: counts.get(name) for name in ("rows", "silver", "quarantined", "duplicates", "quality_score")}
            reported[f"{made.asset_key.to_user_string()} {made.partition}"] = kept
        elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            reported[event.asset_check_evaluation_data.check_name] = event.asset_check_evaluation_data.passed
    return reported


def test_jobs_of_other_processes_report_what_runs_of_this_one_do(own: Own) -> None:
    _use_pipes(own, env=_job_environment(own))
    done = _run(own)
    assert done.success
    own.lake.settings = own.lake.settings.model_copy(update={"engine": "duckdb"})
    expected = _run(own)
    bronze = f"bronze/{own.name} {DAY}"
    assert _reported(done)[bronze]["rows"] == 25
    assert _reported(done) | {bronze: None} == _reported(expected) | {bronze: None}
    assert own.stale() == []


def test_job_that_fails_fails_its_step_and_changes_nothing(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(specs, "RETRIES", None)
    _use_pipes(own, env=_job_environment(own) | {"LAKEHOUSE_STREAMS": "[]"})
    done = _run(own, "bronze/{}")
    assert not done.success
    assert own.counts("bronze") == {}


@pytest.mark.skipif(not NIGHTLY or shutil.which("java") is None, reason="starts a JVM; NIGHTLY=1 runs it, with Java")
def test_spark_submit_on_java_runs_the_job_on_its_own_session(own: Own) -> None:
    on_spark = {"LAKEHOUSE_ENGINE": "spark", "LAKEHOUSE_SPARK_FROM_MB": "0", "PYSPARK_PYTHON": sys.executable}
    submit = str(Path(sys.executable).with_name("spark-submit"))
    command = (submit, "--master", "local[2]", "--conf", "spark.ui.enabled=false", str(SCRIPT))
    _use_pipes(own, command=command, env=_job_environment(own) | on_spark | {"PYSPARK_DRIVER_PYTHON": sys.executable})
    assert _run(own, "bronze/{}").success
    assert _run(own, "silver/{}", "quarantine/{}").success
    assert own.counts("silver") == {DAY: 3}


def test_small_runs_stay_in_this_process(own: Own) -> None:
    _use_pipes(own, command=("false",))
    own.lake.settings = own.lake.settings.model_copy(update={"spark_from_mb": 1})
    assert _run(own, "bronze/{}").success


def test_settings_name_each_client() -> None:
    assert {*LAUNCHERS} == {*PipesSettings.model_fields["client"].annotation.__args__}  # type: ignore[union-attr]


@pytest.fixture
def emr(own: Own, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """EMR Serverless by moto, which knows jobs and runs none: a thread runs them here. Gives the client's parameters."""
    from moto.emrserverless import models
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_EMR_SERVERLESS", f"http://{host}:{port}")
    for name, value in (
        ("ACCESS_KEY_ID", "testing"),
        ("SECRET_ACCESS_KEY", "testing"),
        ("DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setattr(models, "JOB_STATUS", "SUBMITTED")  # moto calls a job done when it starts
    client = boto3.client("emr-serverless", endpoint_url=f"http://{host}:{port}")
    application = client.create_application(name="lakehouse", releaseLabel="emr-7.0.0", type="SPARK")["applicationId"]
    ended = threading.Event()
    backend = models.emrserverless_backends["123456789012"]["us-east-1"]

    def run_jobs() -> None:
        while not ended.wait(0.1):
            for job in backend.job_runs.get(application, []):
                if job.state == "SUBMITTED":
                    driver: Any = job.job_driver
                    variables = _driver_variables(driver["sparkSubmit"]["sparkSubmitParameters"])
                    done = run_forked(["job"], {**os.environ, **_job_environment(own), **variables})
                    job.state = "SUCCESS" if done.returncode == 0 else "FAILED"

    thread = threading.Thread(target=run_jobs, daemon=True)
    thread.start()
    yield {"applicationId": application, "executionRoleArn": ROLE, "jobDriver": JOB_DRIVER}
    ended.set()
    thread.join()
    moto.stop()


def _driver_variables(parameters: str) -> Mapping[str, str]:
    return dict(re.findall(r"--conf spark\.emr-serverless\.driverEnv\.(\w+)=(\S+)", parameters))


def test_emr_serverless_gets_the_job_and_reports_its_result_by_s3(
    own: Own, emr: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(specs, "RETRIES", None)
    _use_pipes(own, client="emr-serverless", params=emr)
    started = time.monotonic()
    done = _run(own, "bronze/{}")
    assert done.success
    assert own.counts("bronze") == {DAY: 25}
    assert [info.key for info in own.lake.objects.list("dagster/pipes/")] == []
    (reported,) = [counts for name, counts in _reported(done).items() if name.startswith("bronze/")]
    assert reported["rows"] == 25
    assert time.monotonic() - started < 60
