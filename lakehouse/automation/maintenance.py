"""The maintenance job: each task is a step, in turn. The tasks are in `lakehouse.maintenance`."""

from dataclasses import asdict

import dagster as dg

from lakehouse.assets.resources import LakeResource
from lakehouse.automation.jobs import MAINTENANCE
from lakehouse.maintenance.tasks import TASKS, run_task
from lakehouse.runtime.pruning import prune
from lakehouse.settings import get_settings

Errors = list[str]
"""Errors of the steps so far. The last step raises them, so that one failing task does not stop the others."""


def _task_op(name: str) -> dg.OpDefinition:
    @dg.op(name=name, ins={"errors": dg.In(Errors)}, out=dg.Out(Errors))
    def task(context: dg.OpExecutionContext, lake: LakeResource, errors: Errors) -> Errors:
        errors = list(errors)
        for report in run_task(lake.lake, name):
            if report.problem:
                context.log.error(f"{report.what}: {report.problem}")
                errors.append(f"{name} of {report.what}: {report.problem}")
            else:
                context.log.info(f"{report.what}: {report.done}, {report.files:,} files, {report.bytes:,} bytes")
        return errors

    return task


@dg.op(out=dg.Out(Errors))
def history(context: dg.OpExecutionContext) -> Errors:
    """Prune old runs, their events, logs and ticks."""
    pruned = prune(context.instance, get_settings())
    context.log.info(", ".join(f"{count:,} {name}" for name, count in asdict(pruned).items()))
    return []


@dg.op(ins={"errors": dg.In(Errors)}, out=dg.Out(dg.Nothing))
def raise_errors(errors: Errors) -> None:
    """Fail the run if a task failed."""
    if errors:
        raise dg.Failure("; ".join(errors), allow_retries=False)


@dg.job(
    name=MAINTENANCE,
    description="Keep the lake fast and small. Each step is safe beside every other run, to kill and to repeat.",
    executor_def=dg.in_process_executor,
    resource_defs={"lake": LakeResource(), "io_manager": dg.mem_io_manager},
)
def maintenance() -> None:
    """Run every task in turn."""
    errors = history()
    for name in TASKS:
        errors = _task_op(name)(errors)
    raise_errors(errors)
