"""`bench launcher`: the time from asking for a run to its first step, forked from the warm process and by Dagster's default.

Runs are asked for as the page, schedules and sensors do: through the queue, which the daemon reads. The counterpart is
Dagster's default launcher alone, without a queue.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.run_coordinator.base import SubmitRunContext
from dagster._grpc.client import DagsterGrpcClient

from lakehouse.automation.jobs import REALTIME
from lakehouse.bench.figures import Figure, figure, own_lake
from lakehouse.bench.programs import DEFINITIONS, running
from lakehouse.errors import LakehouseError
from lakehouse.landing.keys import hour_partition
from lakehouse.processes.ports import free_port
from lakehouse.runtime.instance import environment, open_instance, run_forker_state
from lakehouse.runtime.supervisor import (
    code_server_program,
    daemon_program,
    run_forker_program,
    workspace_file,
)

REACH = 0.5
RUNS = 10
RUN_SECONDS = 300.0

QUEUE = "QUEUED_RUN_COORDINATOR"
_NO_WORKSPACE: Any = None
"""The queue does not use its workspace."""

Launch = Callable[[dg.DagsterInstance, dg.DagsterRun], None]


def measure(runs: int = RUNS) -> Iterator[Figure]:
    """Yield the figures: `realtime` of all streams with no new events, `runs` times each way, in turns."""
    with own_lake() as lake:
        os.environ.update(environment(lake.settings))  # this process loads the definitions as well
        port = free_port()
        with (
            running(lake.settings, code_server_program(DEFINITIONS, port)),
            running(lake.settings, run_forker_program(DEFINITIONS), run_forker_state(lake.settings).exists) as warm,
            open_instance(lake.settings) as history,
            running(
                lake.settings,
                daemon_program(workspace_file(lake.settings, port)),
                lambda: QUEUE in history.get_daemon_heartbeats(),
            ),
        ):
            client = DagsterGrpcClient(port=port, host="127.0.0.1")
            for launch in (_through_the_queue, partial(_by_default, client)):
                _run(history, port, launch)
            pairs = [
                (_run(history, port, _through_the_queue), _run(history, port, partial(_by_default, client)))
                for _ in range(runs)
            ]
            idle = warm.memory_full_info()
    warm_runs, default_runs = zip(*pairs, strict=True)
    yield _figure("warm, asked to first step", [run.to_first_step for run in warm_runs], REACH)
    yield _figure("warm, of that in the queue", [run.in_queue for run in warm_runs])
    yield _figure("default launcher, asked to first step", [run.to_first_step for run in default_runs])
    ratio = statistics.median(run.to_first_step for run in default_runs) / statistics.median(
        run.to_first_step for run in warm_runs
    )
    yield figure("launcher", "default / warm", ratio, "x")
    yield figure("launcher", "memory of the idle warm process", idle.uss / 2**20, "MiB", rss=round(idle.rss / 2**20))


def _figure(name: str, seconds: Sequence[float], reach: float | None = None) -> Figure:
    worst = round(max(seconds), 3)
    return figure("launcher", name, statistics.median(seconds), "s", reach, worst=worst, runs=len(seconds))


@dataclass(frozen=True, slots=True)
class StartTimes:
    """Seconds from asking for a run until it left the queue, and until its first step started."""

    in_queue: float
    to_first_step: float


def _run(history: dg.DagsterInstance, port: int, launch: Launch) -> StartTimes:
    """Ask for a run and wait for its end. Raises LakehouseError if it fails."""
    repository = ReconstructableRepository.for_module(DEFINITIONS, "defs")
    code_location = GrpcServerCodeLocationOrigin("127.0.0.1", port, None, "lakehouse")
    run = history.create_run_for_job(
        repository.get_definition().get_job(REALTIME),
        status=dg.DagsterRunStatus.NOT_STARTED,
        tags={"dagster/partition": hour_partition(datetime.now(UTC))},
        job_code_origin=repository.get_reconstructable_job(REALTIME).get_python_origin(),
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(code_location, "__repository__"), REALTIME),
    )
    requested_at = time.time()
    launch(history, run)
    deadline = time.monotonic() + RUN_SECONDS
    while (finished := history.get_run_by_id(run.run_id)) is None or not finished.is_finished:
        if time.monotonic() > deadline:
            raise LakehouseError(f"Run {run.run_id} did not end within {RUN_SECONDS:.0f} s.")
        time.sleep(0.1)
    if finished.status != dg.DagsterRunStatus.SUCCESS:
        raise LakehouseError(f"Run {run.run_id} ended as {finished.status.value}.")
    starting, steps = (
        [event.timestamp for event in history.all_logs(run.run_id, of_type=kind)]
        for kind in (dg.DagsterEventType.PIPELINE_STARTING, dg.DagsterEventType.STEP_START)
    )
    return StartTimes(min(starting, default=requested_at) - requested_at, min(steps) - requested_at)


def _through_the_queue(history: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    history.run_coordinator.submit_run(SubmitRunContext(run, _NO_WORKSPACE))


def _by_default(client: DagsterGrpcClient, history: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    dg.DefaultRunLauncher.launch_run_from_grpc_client(history, run, client)
