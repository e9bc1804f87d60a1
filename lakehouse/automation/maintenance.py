"""The job of maintenance: each task a step, in turn. What the tasks do is in `lakehouse.maintenance`."""

from dataclasses import asdict

import dagster as dg

from lakehouse.assets.resources import LakeResource
from lakehouse.automation.jobs import MAINTENANCE
from lakehouse.maintenance.tasks import TASKS, run_task
from lakehouse.runtime.pruning import prune
from lakehouse.settings import get_settings

Problems = list[str]
"""What the tasks so far could not do; told at the end, so that one keeps no other from its turn."""


def _task_op(name: str) -> dg.OpDefinition:
    @dg.op(name=name, ins={"problems": dg.In(Problems)}, out=dg.Out(Problems))
    def task(context: dg.OpExecutionContext, lake: LakeResource, problems: Problems) -> Problems:
        found = list(problems)
        for outcome in run_task(lake.lake, name):
            if outcome.problem:
                context.log.error(f"{outcome.what}: {outcome.problem}")
                found.append(f"{name} of {outcome.what}: {outcome.problem}")
            else:
                context.log.info(f"{outcome.what}: {outcome.done}, {outcome.files:,} files, {outcome.bytes:,} bytes")
        return found

    return task


@dg.op(out=dg.Out(Problems))
def history(context: dg.OpExecutionContext) -> Problems:
    """Old runs, their events, logs and ticks."""
    done = prune(context.instance, get_settings())
    context.log.info(", ".join(f"{count:,} {what}" for what, count in asdict(done).items()))
    return []


@dg.op(ins={"problems": dg.In(Problems)}, out=dg.Out(dg.Nothing))
def tell(problems: Problems) -> None:
    """Fail when a task met a problem."""
    if problems:
        raise dg.Failure("; ".join(problems), allow_retries=False)


@dg.job(
    name=MAINTENANCE,
    description="Keeps the lake quick and small. Each step may run beside everything else, be killed and run again.",
    executor_def=dg.in_process_executor,
    resource_defs={"lake": LakeResource(), "io_manager": dg.mem_io_manager},
)
def maintenance() -> None:
    """Every task in turn."""
    problems = history()
    for name in TASKS:
        problems = _task_op(name)(problems)
    tell(problems)
