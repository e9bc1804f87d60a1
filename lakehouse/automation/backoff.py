"""How long a job waits after runs that have failed: each failure in a row doubles the time."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile

import dagster as dg

MIN_BACKOFF = timedelta(seconds=30)
MAX_BACKOFF = timedelta(hours=1)
RECENT_RUNS = 8
"""How many of a job's newest runs decide whether it may run again; the back-off reaches its maximum before."""


def recent_runs(
    instance: dg.DagsterInstance, job: str, tags: Mapping[str, str], limit: int = RECENT_RUNS
) -> Sequence[dg.RunRecord]:
    """List a job's newest runs with these tags, newest first."""
    return instance.get_run_records(dg.RunsFilter(job_name=job, tags=dict(tags)), limit=limit)


def retry_time(records: Sequence[dg.RunRecord]) -> datetime:
    """Return when a job may run again after its newest runs, newest first."""
    failures = list(takewhile(lambda record: record.dagster_run.status == dg.DagsterRunStatus.FAILURE, records))
    if not failures:
        return datetime.fromtimestamp(0, UTC)
    ended_at = datetime.fromtimestamp(failures[0].end_time or 0, UTC)
    backoff: timedelta = min(MIN_BACKOFF * 2 ** len(failures), MAX_BACKOFF)
    return ended_at + backoff
