"""The job `withdraw`: landing objects taken out that were loaded by mistake, as `lakehouse withdraw` does."""

from typing import Any

import dagster as dg

from lakehouse.assets.resources import LakeResource
from lakehouse.assets.specs import key
from lakehouse.automation.jobs import WITHDRAW
from lakehouse.pipeline.lineage.date_ranges import format_days
from lakehouse.pipeline.withdrawal import Withdrawal, find_objects, keys_by_stream, landing_key, withdraw_objects


class WithdrawConfig(dg.Config):
    """Which landing objects are withdrawn."""

    objects: list[str]
    """Their keys, as the column `_object` has them, or their URLs."""
    dry_run: bool = False
    """Whether rows are only counted, and nothing changes."""


@dg.op(name="withdraw_objects", out=dg.Out(dg.Nothing))
def withdraw_op(context: dg.OpExecutionContext, lake: LakeResource, config: WithdrawConfig) -> None:
    """Withdraw the objects of each stream, and observe its bronze with what was withdrawn."""
    keys = {name: landing_key(lake.lake, name) for name in config.objects}
    if wrong := [name for name, found in keys.items() if found is None]:
        raise dg.Failure(f"{', '.join(wrong)}: name landing objects as the column _object does.", allow_retries=False)
    by_stream = keys_by_stream(lake.lake, filter(None, keys.values()))
    # All are looked for before the first is withdrawn, so that one wrong key withdraws nothing.
    withdrawals = [find_objects(lake.lake, lake.lake.stream(name), own) for name, own in by_stream.items()]
    for each in withdrawals:
        if config.dry_run:
            context.log.info(f"Would withdraw {_describe(each)}")
            continue
        withdrawn = withdraw_objects(lake.lake, lake.lake.stream(each.stream), [*each.rows])
        context.log.info(f"Withdrew {_describe(withdrawn)}. The sensor late_data computes these days again.")
        context.log_event(dg.AssetObservation(key("bronze", each.stream), metadata=_metadata(withdrawn)))


@dg.job(
    name=WITHDRAW,
    description="Take landing objects out that were loaded by mistake, with all of their rows. The sensor `late_data`"
    " then computes the layers below bronze. Name the objects in the config.",
    executor_def=dg.in_process_executor,
    resource_defs={"lake": LakeResource(), "io_manager": dg.mem_io_manager},
)
def withdraw() -> None:
    """Withdraw the objects of the config."""
    withdraw_op()


def _describe(withdrawal: Withdrawal) -> str:
    objects = ", ".join(f"{name} ({rows:,} rows)" for name, rows in withdrawal.rows.items())
    return f"{objects} of {withdrawal.stream}; days: {format_days(withdrawal.days) or 'none'}"


def _metadata(withdrawal: Withdrawal) -> dict[str, dg.MetadataValue[Any]]:
    return {
        "withdrawn_objects": dg.MetadataValue.json(withdrawal.rows),
        "rows": dg.MetadataValue.int(sum(withdrawal.rows.values())),
        "days": dg.MetadataValue.text(format_days(withdrawal.days) or "none"),
        "record": dg.MetadataValue.text(withdrawal.record or "none"),
    }
