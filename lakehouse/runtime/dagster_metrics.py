"""Metrics of Dagster's runs, steps, daemons, schedules and sensors, read from its instance.

Names and labels that start with `dagster_` are those of dagster-prometheus-exporter, so its dashboards work:
https://github.com/HirofumiTsuda/dagster-prometheus-exporter/blob/main/docs/metrics.md.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from dagster import DagsterInstance, DagsterRunStatus, RunRecord, RunsFilter
from dagster._core.scheduler.instigation import InstigatorState, InstigatorType, SensorInstigatorData
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric

from lakehouse.runtime.instance import STREAM_TAG
from lakehouse.runtime.openlineage_progress import SENSOR, Progress

T = TypeVar("T")

ACTIVE = {
    DagsterRunStatus.QUEUED: "queued",
    DagsterRunStatus.STARTING: "starting",
    DagsterRunStatus.STARTED: "started",
}
ENDED = {
    DagsterRunStatus.SUCCESS: "success",
    DagsterRunStatus.FAILURE: "failure",
    DagsterRunStatus.CANCELED: "canceled",
}
"""The exporter knows no `canceled`."""

UNKNOWN_LOCATION = "__unknown__"
"""The code location of a run that a command has started."""

OVERLAP = timedelta(seconds=30)
"""How far back ended runs are looked for again, because writers may commit in another order than their clocks say."""

MAX_RUNS = 500
"""Ended runs read at once. At the start, the jobs and last runs are found among as many."""

TICKS_SECONDS = 15.0
"""Between two reads of ticks, which take longer the more history there is."""

MAX_TICKS = 10
"""Ticks of a schedule or sensor read at once. The most frequent ones have five between two reads."""

KINDS = {InstigatorType.SCHEDULE: "schedule", InstigatorType.SENSOR: "sensor"}

Job = tuple[str, str]
"""The name of a job, and its code location."""


class DagsterMetrics:
    """Collect metrics from an instance. Counters start at zero with this object."""

    def __init__(self, instance: DagsterInstance) -> None:
        self._instance = instance
        self._since = self._ticks_since = datetime.now(UTC)
        self._counted: set[str] = set()
        """Runs that are counted, of those that may be found again."""
        self._completed: Counter[tuple[Job, str]] = Counter()
        self._last: dict[Job, RunRecord] = {}
        self._failed: dict[tuple[str, str], bool] = {}
        """Whether the last run of a job and stream failed, wherever it was started."""
        self._run_seconds: _Sums[tuple[Job, str]] = _Sums()
        self._wait_seconds: _Sums[Job] = _Sums()
        self._step_seconds: _Sums[str] = _Sums()
        self._retries: Counter[str] = Counter()
        self._failed_ticks: Counter[tuple[str, str]] = Counter()
        self._ticks: list[Metric] = []
        self._ticks_due = 0.0
        for record in self._ended_runs(None):
            self._last.setdefault(_job(record), record)
            if record.dagster_run.status != DagsterRunStatus.CANCELED:
                self._failed.setdefault(_lane(record), record.dagster_run.status == DagsterRunStatus.FAILURE)

    def collect(self) -> Iterator[Metric]:
        """Read what has happened since the last call, and return all metrics."""
        since, self._since = self._since - OVERLAP, datetime.now(UTC)
        found = [record for record in self._ended_runs(since) if (record.end_time or 0) >= since.timestamp()]
        for record in reversed(found):
            if record.dagster_run.run_id not in self._counted:
                self._count(record)
        self._counted = {record.dagster_run.run_id for record in found}
        if time.monotonic() >= self._ticks_due:
            self._ticks = [*self._read_ticks()]
            self._ticks_due = time.monotonic() + TICKS_SECONDS
        yield from self._active_runs()
        yield from self._completed_runs()
        yield from self._steps()
        yield from self._daemons()
        yield from self._ticks

    def _ended_runs(self, since: datetime | None) -> Sequence[RunRecord]:
        """Return ended runs, the newest first."""
        filters = RunsFilter(statuses=[*ENDED], updated_after=since)
        return self._instance.get_run_records(filters, limit=MAX_RUNS, order_by="update_timestamp")

    def _count(self, record: RunRecord) -> None:
        job, status = _job(record), ENDED[record.dagster_run.status]
        self._last[job] = record
        if record.dagster_run.status != DagsterRunStatus.CANCELED:
            self._failed[_lane(record)] = record.dagster_run.status == DagsterRunStatus.FAILURE
        self._completed[job, status] += 1
        requested, started, ended = record.create_timestamp.timestamp(), record.start_time, record.end_time
        if started is None or ended is None:  # it was canceled in the queue
            return
        self._wait_seconds.add(job, started - requested)
        self._run_seconds.add((job, status), ended - started)
        for step in self._instance.get_run_step_stats(record.dagster_run.run_id):
            if step.start_time is not None and step.end_time is not None:
                self._step_seconds.add(step.step_key, step.end_time - step.start_time)
            self._retries[step.step_key] += max((step.attempts or 1) - 1, 0)

    def _active_runs(self) -> Iterator[Metric]:
        labels = ["job_name", "location", "status"]
        runs = GaugeMetricFamily("dagster_active_runs", "Runs that have not ended.", labels=labels)
        ages = GaugeMetricFamily(
            "dagster_active_run_duration_seconds", "Since the oldest of them has its status.", labels=labels
        )
        oldest: dict[tuple[Job, str], list[float]] = defaultdict(list)
        for record in self._instance.get_run_records(RunsFilter(statuses=[*ACTIVE]), limit=MAX_RUNS):
            status = ACTIVE[record.dagster_run.status]
            oldest[_job(record), status].append(time.time() - record.update_timestamp.timestamp())
        for job in sorted({*self._last, *(job for job, _ in oldest)}):
            for status in ACTIVE.values():
                seconds = oldest.get((job, status), [])
                runs.add_metric([*job, status], len(seconds))
                ages.add_metric([*job, status], max(seconds, default=0.0))
        yield from (runs, ages)

    def _completed_runs(self) -> Iterator[Metric]:
        labels = ["job_name", "location", "status"]
        completed = CounterMetricFamily("dagster_completed_runs", "Runs that have ended.", labels=labels)
        info = GaugeMetricFamily("dagster_last_run_info", "Status of the run that ended last.", labels=labels)
        seconds = GaugeMetricFamily(
            "dagster_last_run_duration_seconds", "From the request of that run to its end.", labels=labels
        )
        for job, record in sorted(self._last.items(), key=lambda item: item[0]):
            last = ENDED[record.dagster_run.status]
            for status in ENDED.values():
                completed.add_metric([*job, status], self._completed[job, status])
            info.add_metric([*job, last], 1)
            if record.end_time is not None:
                seconds.add_metric([*job, last], record.end_time - record.create_timestamp.timestamp())
        failed = GaugeMetricFamily(
            "lakehouse_last_run_failed",
            "Whether the last run of a job and stream failed. Canceled runs do not count.",
            labels=["job_name", "stream"],
        )
        for lane, is_failed in self._failed.items():
            failed.add_metric(lane, is_failed)
        yield from (completed, info, seconds, failed)
        waits = SummaryMetricFamily(
            "lakehouse_run_wait_seconds", "From the request of a run to its first step.", labels=labels[:2]
        )
        for job, (count, total) in self._wait_seconds.items():
            waits.add_metric(job, count, total)
        spent = SummaryMetricFamily("lakehouse_run_seconds", "From the start of a run to its end.", labels=labels)
        for (job, status), (count, total) in self._run_seconds.items():
            spent.add_metric([*job, status], count, total)
        yield from (waits, spent)

    def _steps(self) -> Iterator[Metric]:
        seconds = SummaryMetricFamily("lakehouse_step_seconds", "Seconds of a run's steps.", labels=["step"])
        for step, (count, total) in self._step_seconds.items():
            seconds.add_metric([step], count, total)
        retries = CounterMetricFamily("lakehouse_step_retries", "Steps that ran again.", labels=["step"])
        for step, times in self._retries.items():
            retries.add_metric([step], times)
        yield from (seconds, retries)

    def _daemons(self) -> Iterator[Metric]:
        healthy = GaugeMetricFamily(
            "dagster_daemon_healthy",
            "Whether a daemon has a heartbeat of the last 30 minutes.",
            labels=["daemon_type", "required"],
        )
        heartbeats = GaugeMetricFamily(
            "dagster_daemon_last_heartbeat_timestamp_seconds", "Its last heartbeat.", labels=["daemon_type"]
        )
        for name, status in self._instance.get_daemon_statuses().items():
            healthy.add_metric([name, str(status.required).lower()], bool(status.healthy))
            if status.last_heartbeat:
                heartbeats.add_metric([name], status.last_heartbeat.timestamp)
        yield from (healthy, heartbeats)

    def _read_ticks(self) -> Iterator[Metric]:
        states = [state for state in self._instance.all_instigator_state() if state.instigator_type in KINDS]
        since, self._ticks_since = self._ticks_since.timestamp(), datetime.now(UTC)
        storage = self._instance.schedule_storage
        newest = storage.get_batch_ticks([state.selector_id for state in states], MAX_TICKS) if storage else {}
        for kind, name in KINDS.items():
            labels = [f"{name}_name", "location"]
            on = GaugeMetricFamily(f"dagster_{name}_status", f"Whether a {name} is on.", labels=[*labels, "status"])
            statuses = GaugeMetricFamily(
                f"dagster_{name}_last_tick_status", "How its last tick ended.", labels=[*labels, "status"]
            )
            times = GaugeMetricFamily(
                f"dagster_{name}_last_tick_timestamp_seconds", "When it was evaluated last.", labels=labels
            )
            failures = CounterMetricFamily(f"lakehouse_{name}_tick_failures", "Ticks that failed.", labels=labels)
            for state in (state for state in states if state.instigator_type == kind):
                owner = (state.name, state.repository_selector.location_name)
                ticks = newest.get(state.selector_id, ())
                self._failed_ticks[owner] += sum(tick.is_failure and tick.timestamp >= since for tick in ticks)
                failures.add_metric(owner, self._failed_ticks[owner])
                on.add_metric([*owner, "running" if state.is_running else "stopped"], 1)
                for tick in ticks[:1]:
                    statuses.add_metric([*owner, tick.status.value.lower()], 1)
                    times.add_metric(owner, tick.timestamp)
            yield from (on, statuses, times, failures)
        yield from _openlineage(states)


def _openlineage(states: Sequence[InstigatorState]) -> Iterator[Metric]:
    """Read how many events the sensor `openlineage` has sent, from its cursor."""
    data = next((state.instigator_data for state in states if state.name == SENSOR), None)
    progress = Progress.parse(data.cursor) if isinstance(data, SensorInstigatorData) else None
    if progress is not None:
        sent, lost = "lakehouse_openlineage_events_sent", "lakehouse_openlineage_events_lost"
        yield CounterMetricFamily(sent, "Events of OpenLineage that the receiver took.", value=progress.sent)
        yield CounterMetricFamily(lost, "Those whose runs were pruned before.", value=progress.lost)
        name, waiting = "lakehouse_openlineage_events_waiting", len(progress.waiting)
        yield GaugeMetricFamily(name, "Those that the receiver did not take yet.", value=waiting)


class _Sums(Generic[T]):
    """How many seconds were added under each key, and how often."""

    def __init__(self) -> None:
        self._sums: dict[T, tuple[int, float]] = {}

    def add(self, key: T, seconds: float) -> None:
        count, total = self._sums.get(key, (0, 0.0))
        self._sums[key] = count + 1, total + seconds

    def items(self) -> Iterable[tuple[T, tuple[int, float]]]:
        return self._sums.items()


def _job(record: RunRecord) -> Job:
    origin = record.dagster_run.remote_job_origin
    return record.dagster_run.job_name, origin.location_name if origin else UNKNOWN_LOCATION


def _lane(record: RunRecord) -> tuple[str, str]:
    """Return the job of a run and its stream; an empty text for a run of several."""
    return record.dagster_run.job_name, record.dagster_run.tags.get(STREAM_TAG, "")
