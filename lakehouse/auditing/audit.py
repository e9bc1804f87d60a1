"""Audit streams: run every comparison over a range of days, and check findings a second time."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from datetime import UTC, date, datetime, timedelta
from functools import partial

import duckdb

from lakehouse.auditing import bronze, data_files, gold, ledgers, manifests, realtime, receipts, serving, silver
from lakehouse.auditing.context import Context
from lakehouse.auditing.findings import Finding, Report
from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError, ObjectNotFoundError, StorageUnavailableError, UnreadableTableError
from lakehouse.pipeline.lake import Lake

READABLE = "can be read"

READ_ERRORS = (
    duckdb.IOException,
    duckdb.HTTPException,
    duckdb.InvalidInputException,
    ObjectNotFoundError,
    StorageUnavailableError,
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
        streams: The streams to audit; None for all.
        first: The first day; None for the first of the stream's history. Days are those of arrival for landing, bronze
            and realtime, and of the event for the other layers.
        last: The last day; None for all that have landed.
        read_landing: Read all landing objects again. Without it, only their names and their numbers of rows are compared.

    Raises StorageUnavailableError if storage does not answer.

    """
    report = Report()
    for stream in streams if streams is not None else lake.streams.values():
        report.add(_audit_or_report(lake, stream, first, last, read_landing))
    return report


def _audit_or_report(lake: Lake, stream: Stream, first: date | None, last: date | None, read_landing: bool) -> Report:
    """Audit a stream. One that can't be audited is a finding, so that the others are still compared."""
    try:
        return _audit(lake, stream, first, last, read_landing)
    except StorageUnavailableError:
        raise
    except (LakehouseError, OSError, duckdb.Error) as error:
        lake.objects.head("health")  # raises StorageUnavailableError if storage does not answer at all
        day = str(first or stream.contract.history_start)
        detail = str(error).splitlines()[0]
        fix = f"fix this, then run `lakehouse audit {stream.name}`"
        return Report(findings=[Finding(stream.name, "landing", day, READABLE, "wrong", detail, fix)])


def _audit(lake: Lake, stream: Stream, first: date | None, last: date | None, read_landing: bool) -> Report:
    start = max(first or date.min, stream.contract.history_start)
    end = last or (datetime.now(UTC) + timedelta(days=2)).date()
    report = _compare(lake, stream, start, end, read_landing)
    if not report.wrong:
        return report
    # A commit may have come between the loading of two tables, and a file of an old snapshot may have been deleted.
    days = [date.fromisoformat(finding.partition) for finding in report.wrong]
    if any(finding.check == READABLE for finding in report.wrong):
        days = [start, end]
    damaged = any(finding.check in data_files.CHECKS for finding in report.wrong)
    again = _compare(lake, stream, min(days), max(days), read_landing, read_files=damaged)
    still_wrong = {finding.place for finding in again.wrong}
    report.findings = [*report.stale, *(finding for finding in report.wrong if finding.place in still_wrong)]
    return report


def _compare(
    lake: Lake, stream: Stream, first: date, last: date, read_landing: bool, *, read_files: bool = False
) -> Report:
    """Run every comparison; with `read_files`, without the files that can't be read, each of which is read first."""
    context = Context(lake, stream, first, last)
    manifests.check(context)
    data_files.check(context)
    if read_files:
        data_files.read_all(context)
    checks: list[tuple[str, Callable[[], None]]] = [
        ("landing", partial(receipts.check, context)),
        ("bronze", partial(bronze.check, context, read_landing=read_landing)),
        ("silver", partial(silver.check, context)),
        ("gold", partial(gold.check_gold, context)),
        ("gold", partial(gold.check_metrics, context)),
        ("realtime", partial(realtime.check_realtime, context)),
        ("realtime", partial(realtime.check_unified, context)),
        ("serving", partial(serving.check_alerts, context)),
        ("serving", partial(serving.check_features, context)),
        ("serving", partial(serving.check_objects, context)),
        ("silver", partial(ledgers.check, context)),
    ]
    for layer, check in checks:
        _run(context, layer, check)
    return context.report


def _run(context: Context, layer: str, check: Callable[[], None]) -> None:
    """Run a check. If it meets a file that can't be read, find all such files and run it again without them."""
    before = deepcopy(context.report)
    try:
        check()
    except UnreadableTableError:
        context.report = before  # what is wrong is reported, and nothing can be compared with the table
    except READ_ERRORS:
        context.lake.objects.head("health")  # raises StorageUnavailableError if storage does not answer at all
        context.report = before
        data_files.read_all(context)
        _run_again(context, layer, check)


def _run_again(context: Context, layer: str, check: Callable[[], None]) -> None:
    before = deepcopy(context.report)
    try:
        check()
    except READ_ERRORS as error:
        context.report = before
        detail, fix = str(error).splitlines()[0], context.repair_command(context.first)
        context.report_finding(layer, context.first, READABLE, detail, fix)
