"""Computes again what an audit found to differ: bronze and realtime from landing, the rest from bronze."""

from collections.abc import Sequence
from datetime import date

from lakehouse.assets.partitions import exact_tags
from lakehouse.auditing.findings import Finding
from lakehouse.automation.jobs import REFRESH, stream_asset_keys
from lakehouse.automation.runs import Runner, raise_on_failure
from lakehouse.contracts.streams import Stream
from lakehouse.landing.listing import hours_landed
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.commits import commit_files
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.refresh import days_to_refresh, pending_files
from lakehouse.pipeline.realtime import ingest_hours
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import partitions_filter
from lakehouse.storage.objects.store import Objects, object_key

RUN_ID = "repair"


def repair_findings(lake: Lake, findings: Sequence[Finding]) -> None:
    """Compute the partitions again that these findings name. Raises LakehouseError for a run that fails."""
    runner = Runner(lake)
    for name in dict.fromkeys(one.stream for one in findings):
        stream, mine = lake.stream(name), [one for one in findings if one.stream == name]
        bronze = _days(mine, "bronze")
        if bronze:
            _forget_lost(lake, stream, bronze)
            ingest_days(lake, stream, bronze, replace=True, run_id=RUN_ID)
        for day in _days(mine, "realtime"):
            hours = hours_landed(lake.objects, name, day, day)
            ingest_hours(lake, stream, hours, replace=True, run_id=RUN_ID)
        days = {*_days(mine, "silver", "quarantine", "gold", "serving"), *days_to_refresh(lake, stream)}
        if days:
            raise_on_failure(runner.run(REFRESH, exact_tags(sorted(days)), stream_asset_keys(stream)))


def recompute(lake: Lake, stream: Stream, days: Sequence[date]) -> None:
    """Compute these event dates from silver down. Raises LakehouseError for a run that fails."""
    if days:
        raise_on_failure(Runner(lake).run(REFRESH, exact_tags(sorted(days)), stream_asset_keys(stream)))


def ingest_incoming(lake: Lake, stream: Stream) -> None:
    """Take what waits under `incoming/`, and compute all below. Raises LakehouseError for a run that fails."""
    runner = Runner(lake)
    if waiting := pending_files(lake, stream):
        raise_on_failure(runner.land(stream, sorted({one.day for one in waiting})))
    _, outcome = runner.refresh(stream)
    raise_on_failure(outcome)


def _days(findings: Sequence[Finding], *layers: str) -> list[date]:
    return sorted({date.fromisoformat(one.partition) for one in findings if one.layer in layers})


def _forget_lost(lake: Lake, stream: Stream, days: Sequence[date]) -> None:
    """Take files that are gone out of bronze, so that what is left can be read."""
    table = lake.tables.load(f"bronze.{stream.name}")
    objects = Objects.from_url(lake.connection, table.location())
    touched = partitions_filter("arrival_dt", days)
    lost = [one for one in select_files(table, touched) if objects.head(object_key(one.file_path)) is None]
    if lost:
        commit_files(lake, table, [], touched, removed=lost, ledger={}, run_id=RUN_ID)
