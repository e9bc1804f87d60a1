"""Audit streams: run every comparison over a range of days, and check findings a second time."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import duckdb

from lakehouse.auditing import (
    anomalies,
    bronze,
    data_files,
    engines,
    gold,
    ledgers,
    manifests,
    realtime,
    receipts,
    serving,
    silver,
)
from lakehouse.auditing.context import Context
from lakehouse.auditing.file_reads import FileReads, hasty
from lakehouse.auditing.findings import Finding, Report
from lakehouse.auditing.models import audit_models
from lakehouse.contracts.streams import Stream
from lakehouse.errors import (
    LakehouseError,
    ObjectNotFoundError,
    StorageUnavailableError,
    UnreadableObjectError,
    UnreadableTableError,
)
from lakehouse.pipeline.lake import Lake

READABLE = "can be read"

Check = Callable[[Context], None]

CHECKS: Sequence[tuple[str, Check]] = (
    ("landing", receipts.check),
    ("bronze", bronze.check),
    ("silver", silver.check),
    ("gold", gold.check_gold),
    ("gold", gold.check_metrics),
    ("realtime", realtime.check_realtime),
    ("realtime", realtime.check_unified),
    ("serving", serving.check_live_gold),
    ("serving", serving.check_alerts),
    ("serving", serving.check_features),
    ("serving", anomalies.check_anomalies),
    ("serving", serving.check_objects),
    ("silver", ledgers.check),
    ("silver", engines.check),
)
"""The comparisons, each with the layer that it is about."""

READ_ERRORS = (
    duckdb.IOException,
    duckdb.HTTPException,
    duckdb.InvalidInputException,
    ObjectNotFoundError,
    StorageUnavailableError,
    UnreadableObjectError,
    OSError,
)
"""Raised where a file can't be read, by DuckDB, S3 or Arrow."""


def audit(
    lake: Lake,
    streams: Sequence[Stream] | None = None,
    first: date | None = None,
    last: date | None = None,
    *,
    read_landing: bool = True,
) -> Report:
    """Compare every layer with what it was computed from. Nothing is changed.

    You may run it beside anything: a partition that was not computed from the newest data is reported as stale, and what
    seems wrong is compared a second time.

    Args:
        lake: The lake.
        streams: The streams to audit, with the models that read them; None for all.
        first: The first day; None for the first of the stream's history. Days are those of arrival for landing, bronze
            and realtime, and of the event for the other layers.
        last: The last day; None for all that have landed.
        read_landing: Read all landing objects again. Without it, only their names and their numbers of rows are compared.

    Raises StorageUnavailableError if storage does not answer.

    """
    report, reads = Report(), FileReads(lake.connection)
    first_attempts = hasty(lake)
    streams = [*(streams if streams is not None else lake.streams.values())]
    try:
        for stream in streams:
            audited = _Audit(lake, first_attempts, stream, reads, read_landing)
            report.add(_run_or_report(audited, first, last))
        report.add(audit_models(lake, streams, first, last))
    finally:
        first_attempts.engine.close()
    return report


def _run_or_report(audited: "_Audit", first: date | None, last: date | None) -> Report:
    """Audit a stream. One that can't be audited is a finding, so that the others are still compared."""
    stream = audited.stream
    try:
        return audited.run(first, last)
    except (LakehouseError, OSError, duckdb.Error) as error:
        _raise_if_unavailable(audited.lake)
        day = str(first or stream.contract.history_start)
        detail = str(error).splitlines()[0]
        fix = f"fix this, then run `lakehouse audit {stream.name}`"
        return Report(findings=[Finding(stream.name, "landing", day, READABLE, "wrong", detail, fix)])


def _raise_if_unavailable(lake: Lake) -> None:
    """Raise StorageUnavailableError if storage or the catalog does not answer at all."""
    lake.objects.head("health")
    lake.tables.catalog.list_namespaces()


@dataclass(frozen=True, slots=True)
class _Audit:
    """The audit of one stream."""

    lake: Lake
    first_attempts: Lake
    """The same lake without retries, because each retry of a damaged file costs seconds."""
    stream: Stream
    reads: FileReads
    read_landing: bool

    def run(self, first: date | None, last: date | None) -> Report:
        """Compare the stream's layers from `first` to `last`, and what seems wrong a second time."""
        start = max(first or date.min, self.stream.contract.history_start)
        end = last or (datetime.now(UTC) + timedelta(days=2)).date()
        report = self._compare(start, end)
        if not report.wrong:
            return report
        # A commit may have come between the loading of two tables, and a file of an old snapshot may have been deleted.
        days = [date.fromisoformat(finding.partition) for finding in report.wrong]
        if any(finding.check == READABLE for finding in report.wrong):
            days = [start, end]
        damaged = any(finding.check in data_files.CHECKS for finding in report.wrong)
        again = self._compare(min(days), max(days), read_files=damaged)
        still_wrong = {finding.place for finding in again.wrong}
        report.findings = [*report.stale, *(finding for finding in report.wrong if finding.place in still_wrong)]
        return report

    def _compare(self, first: date, last: date, *, read_files: bool = False) -> Report:
        """Run every comparison; with `read_files`, without the files that can't be read, each of which is read first."""
        lake = self.lake if read_files else self.first_attempts
        context = Context(lake, self.stream, first, last, self.reads, self.read_landing)
        manifests.check(context)
        data_files.check(context)
        if read_files:
            data_files.read_all(context)
        for layer, check in CHECKS:
            self._run(context, layer, check)
        return context.report

    def _run(self, context: Context, layer: str, check: Check) -> None:
        """Run a check. If it meets a file that can't be read, find all such files and run it again without them."""
        before = deepcopy(context.report)
        try:
            check(context)
        except UnreadableTableError:
            context.report = before  # what is wrong is reported, and nothing can be compared with the table
        except READ_ERRORS:
            _raise_if_unavailable(self.lake)
            context.report, context.lake = before, self.lake
            data_files.read_all(context)
            _run_again(context, layer, check)


def _run_again(context: Context, layer: str, check: Check) -> None:
    before = deepcopy(context.report)
    try:
        check(context)
    except UnreadableTableError:
        context.report = before
    except READ_ERRORS as error:
        context.report = before
        detail, fix = str(error).splitlines()[0], context.repair_command(context.first)
        context.report_finding(layer, context.first, READABLE, detail, fix)
