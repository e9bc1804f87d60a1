"""Recompute partitions: those that an audit found to differ, and those that a command changed."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from pyiceberg.conversions import from_bytes
from pyiceberg.types import DateType

from lakehouse.assets.partitions import exact_tags
from lakehouse.auditing.bronze import CONTENT_CHECK
from lakehouse.auditing.context import tables_of
from lakehouse.auditing.findings import Finding
from lakehouse.auditing.manifests import CHECK as METADATA_CHECK
from lakehouse.auditing.models import CHECK as MODEL_CHECK
from lakehouse.auditing.models import WHOLE
from lakehouse.automation.jobs import REFRESH, stream_asset_keys
from lakehouse.automation.runs import Runner, raise_on_failure
from lakehouse.contracts.streams import Stream
from lakehouse.landing.listing import hours_landed
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.commits import commit_files
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.retention import first_kept_day
from lakehouse.pipeline.model_tables import models_below
from lakehouse.pipeline.realtime import ingest_hours
from lakehouse.pipeline.refresh import days_to_refresh, pending_files
from lakehouse.pipeline.silver import clean_days
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import date_from_days, partitions_filter
from lakehouse.storage.iceberg.readable import UnreadableFile, unreadable_metadata
from lakehouse.storage.iceberg.restore import Survivors, find_survivors, restore
from lakehouse.storage.objects.store import Objects, object_key

RUN_ID = "repair"


def restore_tables(lake: Lake, findings: Sequence[Finding]) -> list[str]:
    """Make tables readable again whose metadata is gone: what is lost then differs from its source, as an audit finds.

    Returns why tables of bronze stay as they are: landing no longer has all of what they lost.
    """
    refused = []
    for name in dict.fromkeys(finding.stream for finding in findings if finding.check == METADATA_CHECK):
        for table_name in tables_of(lake.stream(name)):
            table = lake.tables.load(table_name)
            if next(unreadable_metadata(table), None) is None:
                continue
            survivors = find_survivors(table)
            reason = _not_in_landing(lake.stream(name), survivors) if table_name == f"bronze.{name}" else None
            if reason:
                refused.append(f"{table_name} is not repaired: {reason}. Bring the file back from a backup.")
            else:
                restore(table, survivors)
    return refused


def _not_in_landing(stream: Stream, survivors: Survivors) -> str | None:
    """Return why landing may lack rows that bronze has lost; None if it has them all."""
    kept = first_kept_day(stream.contract, "landing")
    if survivors.base is None:
        return "none of its snapshots can be read"
    if kept is None:
        return None
    since = datetime.fromtimestamp(survivors.base.timestamp_ms / 1000, UTC).date()
    first_days = [_first_arrival(file) for file in survivors.lost]
    oldest = min([since, *(day or date.min for day in first_days)])
    return None if oldest >= kept else f"landing is kept since {kept}, and what is lost may have arrived before"


def _first_arrival(file: UnreadableFile) -> date | None:
    """Return the first day of arrival in a lost manifest of bronze, as the manifest list states it."""
    fields = file.manifest.partitions if file.manifest else None
    if not fields or fields[0].lower_bound is None:
        return None
    days: Any = from_bytes(DateType(), fields[0].lower_bound)  # a number of days, whatever its annotation says
    return date_from_days(days)


def repair_findings(lake: Lake, findings: Sequence[Finding]) -> None:
    """Recompute the partitions of these findings: bronze and realtime from landing, the other layers from bronze.

    Raises LakehouseError if a run fails.
    """
    runner = Runner(lake)
    of_models = [finding for finding in findings if finding.check == MODEL_CHECK]
    findings = [finding for finding in findings if finding.check not in (METADATA_CHECK, MODEL_CHECK)]
    for name in dict.fromkeys(finding.stream for finding in findings):
        stream, own = lake.stream(name), [finding for finding in findings if finding.stream == name]
        # Bronze is not computed from an object that is known to be damaged, because its rows would replace the right ones.
        damaged = _days([finding for finding in own if finding.check == CONTENT_CHECK], "landing")
        bronze = sorted({*_days(own, "bronze")} - {*damaged})
        if bronze:
            _drop_lost_files(lake, stream, bronze)
            ingest_days(lake, stream, bronze, replace=True, run_id=RUN_ID)
        for day in _days(own, "realtime"):
            hours = hours_landed(lake.objects, name, day, day)
            ingest_hours(lake, stream, hours, replace=True, run_id=RUN_ID)
        days = {*_days(own, "silver", "quarantine", "gold", "serving"), *days_to_refresh(lake, stream)}
        if days:
            raise_on_failure(runner.run(REFRESH, exact_tags(sorted(days)), stream_asset_keys(lake, stream)))
    for finding in of_models:
        part = None if finding.partition == WHOLE else [date.fromisoformat(finding.partition)]
        raise_on_failure(runner.compute_model(f"{finding.layer}.{finding.stream}", part))
    raise_on_failure(runner.refresh_models()[1])


def recompute(lake: Lake, stream: Stream, days: Sequence[date]) -> list[date]:
    """Recompute silver, gold and serving of these event dates. Returns the days that the quality gate blocked.

    Rows of a blocked day are in quarantine afterwards. Raises LakehouseError if a run fails.
    """
    if not days:
        return []
    # A run would end at a blocked day. One commit for all days also moves a row between two days of quarantine at once.
    blocked = clean_days(lake, stream, days, run_id=RUN_ID).blocked
    if computable := sorted(set(days) - set(blocked)):
        runner = Runner(lake)
        raise_on_failure(runner.run(REFRESH, exact_tags(computable), stream_asset_keys(lake, stream)))
        raise_on_failure(runner.refresh_models([model.name for model in models_below(lake, stream)])[1])
    return blocked


def ingest_incoming(lake: Lake, stream: Stream) -> None:
    """Ingest pending files under `incoming/`, and compute every layer from them. Raises LakehouseError if a run fails."""
    runner = Runner(lake)
    if pending := pending_files(lake, stream):
        raise_on_failure(runner.land(stream, sorted({file.day for file in pending})))
    _, outcome = runner.refresh(stream)
    raise_on_failure(outcome)


def _days(findings: Sequence[Finding], *layers: str) -> list[date]:
    return sorted({date.fromisoformat(finding.partition) for finding in findings if finding.layer in layers})


def _drop_lost_files(lake: Lake, stream: Stream, days: Sequence[date]) -> None:
    """Remove files that storage has lost from bronze's table, so that the others can be read."""
    table = lake.tables.load(f"bronze.{stream.name}")
    objects = Objects.from_url(lake.connection, table.location())
    touched = partitions_filter("arrival_dt", days)
    lost = [file for file in select_files(table, touched) if objects.head(object_key(file.file_path)) is None]
    if lost:
        commit_files(lake, table, [], touched, removed=lost, ledger={}, run_id=RUN_ID)
