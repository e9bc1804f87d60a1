"""`bench launcher`: how long after a run is asked for its first step begins, forked from the warm process and as by default.

What waits for its turn in Dagster's queue is looked at once a second; that is the queue's and in neither figure.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import dagster as dg
import psutil
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.launcher.base import LaunchRunContext
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._grpc.client import DagsterGrpcClient

from lakehouse.automation.instance import environment, instance, warm_state
from lakehouse.automation.jobs import REALTIME
from lakehouse.automation.supervisor import code_server_program, end, free_port, listens, warm_program
from lakehouse.bench.measuring import Figure, figure, own_lake
from lakehouse.errors import LakehouseError
from lakehouse.settings import Settings

REACH = 0.5
RUNS = 10
START_SECONDS = 300.0
RUN_SECONDS = 300.0

Launch = Callable[[dg.DagsterInstance, dg.DagsterRun], None]


def measure(runs: int = RUNS) -> Iterator[Figure]:
    """The figures: `realtime` of all streams with nothing new, so many times each way, taking turns."""
    with own_lake() as lake:
        os.environ.update(environment(lake.settings))  # the definitions are loaded here too
        port = free_port()
        with (
            _running(lake.settings, code_server_program(port).words, lambda: listens(port)),
            _running(lake.settings, warm_program().words, warm_state(lake.settings).exists) as warm,
            instance(lake.settings) as history,
        ):
            client = DagsterGrpcClient(port=port, host="127.0.0.1")
            ways: list[tuple[str, Launch]] = [
                ("warm", lambda history, run: history.run_launcher.launch_run(LaunchRunContext(run, None))),
                ("default", lambda history, run: _by_default(history, run, client)),
            ]
            for _, launch in ways:
                _run(history, launch)
            taken = [[_run(history, launch) for _, launch in ways] for _ in range(runs)]
            idle = psutil.Process(warm.pid).memory_full_info()
    warm_seconds, default_seconds = zip(*taken, strict=True)
    yield from _figures("warm", warm_seconds, REACH)
    yield from _figures("default", default_seconds)
    yield figure(
        "launcher", "default / warm", statistics.median(default_seconds) / statistics.median(warm_seconds), "x"
    )
    yield figure("launcher", "memory of the idle warm process", idle.uss / 2**20, "MiB", rss=round(idle.rss / 2**20))


def _figures(name: str, taken: Sequence[float], reach: float | None = None) -> Iterator[Figure]:
    worst = round(max(taken), 3)
    yield figure(
        "launcher", f"{name}, asked to first step", statistics.median(taken), "s", reach, worst=worst, runs=len(taken)
    )


def _run(history: dg.DagsterInstance, launch: Launch) -> float:
    """Ask for a run and wait for its end; the seconds from asking to the start of its first step."""
    repository = ReconstructableRepository.for_module("lakehouse.definitions", "defs")
    run = history.create_run_for_job(
        repository.get_definition().get_job(REALTIME),
        status=dg.DagsterRunStatus.STARTING,
        tags={"dagster/partition": f"{datetime.now(UTC):%Y-%m-%d-%H}:00"},
        job_code_origin=repository.get_reconstructable_job(REALTIME).get_python_origin(),
    )
    asked = time.time()
    launch(history, run)
    deadline = time.monotonic() + RUN_SECONDS
    while (found := history.get_run_by_id(run.run_id)) is None or not found.is_finished:
        if time.monotonic() > deadline:
            raise LakehouseError(f"Run {run.run_id} did not end within {RUN_SECONDS:.0f} s.")
        time.sleep(0.1)
    if found.status != dg.DagsterRunStatus.SUCCESS:
        raise LakehouseError(f"Run {run.run_id} ended as {found.status.value}.")
    begun = history.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)
    return min(event.timestamp for event in begun) - asked


def _by_default(history: dg.DagsterInstance, run: dg.DagsterRun, client: DagsterGrpcClient) -> None:
    place = GrpcServerCodeLocationOrigin("127.0.0.1", client.port, None, "lakehouse")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(place, "__repository__"), run.job_name)
    asked = run._replace(remote_job_origin=origin)
    dg.DefaultRunLauncher.launch_run_from_grpc_client(history, asked, client)


@contextmanager
def _running(
    settings: Settings, words: Sequence[str], answers: Callable[[], bool]
) -> "Iterator[subprocess.Popen[bytes]]":
    log = settings.root / "bench.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            words,
            env={**os.environ, **environment(settings)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers():
            if process.poll() is not None or time.monotonic() > deadline:
                print(log.read_text(errors="replace"), file=sys.stderr)
                raise LakehouseError(f"`{' '.join(words)}` did not start.")
            time.sleep(0.1)
        yield process
    finally:
        end(process.pid)
        process.wait()
