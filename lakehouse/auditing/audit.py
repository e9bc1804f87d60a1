"""One audit of some streams, over a range of days."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial

import duckdb

from lakehouse.auditing import bronze, data_files, ledgers, realtime, serving, silver
from lakehouse.auditing import gold as sums
from lakehouse.auditing.context import Context
from lakehouse.auditing.findings import Report
from lakehouse.contracts.streams import Stream
from lakehouse.errors import ObjectNotFoundError
from lakehouse.pipeline.lake import Lake

READABLE = "can be read"


def audit(
    lake: Lake,
    streams: Sequence[Stream] | None = None,
    first: date | None = None,
    last: date | None = None,
    *,
    read_landing: bool = True,
) -> Report:
    """Compare every layer of these streams with what it is made of, from `first` to `last`; nothing is changed.

    Days are those of arrival for landing, bronze and realtime and those of the event for what is below. It may run beside
    anything: what was not computed from the newest data is told as stale, and what seems wrong is looked at twice.
    Without `read_landing`, landing objects are compared by their names alone, which costs no reading of them.
    """
    report = Report()
    for stream in streams if streams is not None else lake.streams.values():
        report.add(_audit(lake, stream, first, last, read_landing))
    return report


def _audit(lake: Lake, stream: Stream, first: date | None, last: date | None, read_landing: bool) -> Report:
    start = max(first or date.min, stream.contract.history_start)
    end = last or (datetime.now(UTC) + timedelta(days=2)).date()
    report = _look(lake, stream, start, end, read_landing)
    if not report.wrong:
        return report
    # Between two tables that were loaded a commit may have come, and a file of an old snapshot may have been deleted.
    days = [date.fromisoformat(one.partition) for one in report.wrong]
    if any(one.check == READABLE for one in report.wrong):
        days = [start, end]
    again = _look(lake, stream, min(days), max(days), read_landing)
    still = {one.place for one in again.wrong}
    report.findings = [*report.stale, *(one for one in report.wrong if one.place in still)]
    return report


def _look(lake: Lake, stream: Stream, first: date, last: date, read_landing: bool) -> Report:
    sight = Context(lake, stream, first, last)
    data_files.check(sight)
    checks: list[tuple[str, Callable[[], None]]] = [
        ("bronze", partial(bronze.check, sight, read=read_landing)),
        ("silver", partial(silver.check, sight)),
        ("gold", partial(sums.check, sight)),
        ("realtime", partial(realtime.check, sight)),
        ("serving", partial(serving.check, sight)),
        ("silver", partial(ledgers.check, sight)),
    ]
    for name, check in checks:
        try:
            check()
        except (duckdb.IOException, duckdb.HTTPException, duckdb.InvalidInputException, ObjectNotFoundError) as problem:
            lake.objects.head("health")  # raises when it is storage that does not answer
            sight.say(name, first, READABLE, str(problem).splitlines()[0], sight.repair(first))
    return sight.report
