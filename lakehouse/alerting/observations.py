"""Causes that the published metrics show. A number that is missing says nothing: it neither opens nor resolves a cause."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from prometheus_client.parser import text_string_to_metric_families

from lakehouse.alerting.message import Cause, failed_run
from lakehouse.alerting.schema import CauseKind, Severity

Labels = Mapping[str, str]
Numbers = Mapping[str, list[tuple[Labels, float]]]
"""Samples by the name of their metric."""

MAX_HEARTBEAT_SECONDS = 180.0
MAX_METRICS_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Observation:
    """Whether a cause is there now."""

    cause: Cause
    is_firing: bool
    count: int = 0
    """New reports of it."""


METRICS = (
    b"lakehouse_data_age_",
    b"lakehouse_partitions{",
    b"lakehouse_blocked_objects{",
    b"lakehouse_audit_wrong_partitions{",
    b"lakehouse_last_run_failed{",
    b"lakehouse_process_up{",
    b"lakehouse_ingest_ready ",
    b"lakehouse_metrics_age_seconds{",
    b"lakehouse_table_unreadable{",
    b"dagster_daemon_last_heartbeat_timestamp_seconds{",
)
"""Prefixes of the metrics that are read. Reading all of them would cost some percent of a core."""


def read_numbers(text: bytes) -> Numbers:
    """Parse the metrics that causes are found by from Prometheus' text format."""
    lines = [
        line
        for line in text.splitlines()
        if line.startswith(METRICS) and (not line.startswith(METRICS[1]) or b'"held_back"' in line)
    ]
    numbers: dict[str, list[tuple[Labels, float]]] = defaultdict(list)
    for family in text_string_to_metric_families(b"\n".join([*lines, b""]).decode()):
        for sample in family.samples:
            numbers[sample.name].append((sample.labels, sample.value))
    return numbers


def observe(numbers: Numbers, now: float) -> list[Observation]:
    """Return what the numbers say of each cause."""
    return [observation for rule in RULES for observation in rule(numbers, now)]


def _late_data(numbers: Numbers, now: float) -> Iterator[Observation]:
    limits = _by(numbers, "lakehouse_data_age_limit_seconds", "stream")
    for stream, age in _by(numbers, "lakehouse_data_age_seconds", "stream").items():
        if (limit := limits.get(stream)) is not None:
            summary = f"The newest event of {stream} is {_span(age)} old; its contract allows {_span(limit)}."
            action = "Look at its producers, then at its runs in Dagster."
            yield _of("data_late", stream, age > limit, summary, action, stream)


def _blocked_partitions(numbers: Numbers, now: float) -> Iterator[Observation]:
    days = _sums(numbers, "lakehouse_partitions", "stream")
    objects = _sums(numbers, "lakehouse_blocked_objects", "stream")
    for stream in sorted({*days, *objects}):
        count = int(days.get(stream, 0)), int(objects.get(stream, 0))
        summary = f"The quality gate blocks rows of {stream}: {count[0]} days, {count[1]} landing objects."
        action = f"lakehouse quarantine show {stream}; withdraw the object, or fix it and load it again."
        yield _of("partition_blocked", stream, any(count), summary, action, stream)


def _audit_findings(numbers: Numbers, now: float) -> Iterator[Observation]:
    for name, count in _by(numbers, "lakehouse_audit_wrong_partitions", "stream").items():
        summary = f"The audit found {count:.0f} partitions of {name} that differ from their source."
        stream = None if "." in name else name  # a model has the name of its table
        action = f"lakehouse audit {stream or ''} names them; lakehouse audit --repair computes them again."
        yield _of("audit_finding", name, count > 0, summary, " ".join(action.split()), stream)


def _failed_runs(numbers: Numbers, now: float) -> Iterator[Observation]:
    for labels, value in numbers.get("lakehouse_last_run_failed", ()):
        yield Observation(failed_run(labels["job_name"], labels["stream"] or None), value > 0)


def _daemons(numbers: Numbers, now: float) -> Iterator[Observation]:
    for daemon, beat in _by(numbers, "dagster_daemon_last_heartbeat_timestamp_seconds", "daemon_type").items():
        summary = f"Dagster's {daemon} daemon has no heartbeat for {_span(now - beat)}."
        yield _of(
            "daemon_down", daemon, now - beat > MAX_HEARTBEAT_SECONDS, summary, "Read logs/daemon.log under the home."
        )


def _processes(numbers: Numbers, now: float) -> Iterator[Observation]:
    for process, is_up in _by(numbers, "lakehouse_process_up", "process").items():
        summary, action = f"The process {process} does not run.", f"Read logs/{process}.log under the home."
        yield _of("process_down", process, not is_up, summary, action)


def _ingest(numbers: Numbers, now: float) -> Iterator[Observation]:
    for _, is_ready in numbers.get("lakehouse_ingest_ready", ()):
        action = "curl /health/ready of the HTTP server says why; look at the storage's disk."
        yield _of("ingest_down", "http", not is_ready, "Events can't be stored over HTTP.", action)


def _old_metrics(numbers: Numbers, now: float) -> Iterator[Observation]:
    """Report a process that hangs or is gone. The supervisor's own state is published by itself, so its silence counts."""
    for process, age in _by(numbers, "lakehouse_metrics_age_seconds", "process").items():
        is_old = age > MAX_METRICS_SECONDS
        if process == "processes":
            summary = f"The supervisor hangs or does not run: it has published nothing for {_span(age)}."
            yield _of("process_down", "supervisor", is_old, summary, "lakehouse status; then lakehouse up --detach.")
        elif process != "alerts":
            summary = f"The metrics of {process} are {_span(age)} old, so their causes are not seen."
            yield _of("metrics_old", process, is_old, summary, "lakehouse status; logs/up.log and logs/serving.log.")


def _tables(numbers: Numbers, now: float) -> Iterator[Observation]:
    for labels, value in numbers.get("lakehouse_table_unreadable", ()):
        table = labels["table"]
        action = "lakehouse audit names the file; lakehouse audit --repair builds it again."
        yield _of("table_unreadable", table, value > 0, f"{table} can't be read.", action, labels["stream"] or None)


RULES: tuple[Callable[[Numbers, float], Iterable[Observation]], ...] = (
    _late_data,
    _blocked_partitions,
    _audit_findings,
    _failed_runs,
    _daemons,
    _processes,
    _ingest,
    _old_metrics,
    _tables,
)

WARNINGS = frozenset({"data_late", "metrics_old", "receiver_down"})
"""Kinds whose causes are warnings. The others are critical."""


def _of(
    kind: CauseKind, key: str, is_firing: bool, summary: str, action: str, stream: str | None = None
) -> Observation:
    severity: Severity = "warning" if kind in WARNINGS else "critical"
    cause = Cause(kind=kind, key=key, severity=severity, summary=summary, action=action, stream=stream)
    return Observation(cause, is_firing)


def receiver_down(receiver: str, error: str | None, *, is_firing: bool) -> Observation:
    """Observe whether a receiver accepts messages."""
    summary = f"The receiver {receiver} accepts no messages: {error or 'no answer'}"
    return _of("receiver_down", receiver, is_firing, summary, "lakehouse alerts list; lakehouse alerts test.")


def _by(numbers: Numbers, name: str, label: str) -> dict[str, float]:
    return {labels[label]: value for labels, value in numbers.get(name, ())}


def _sums(numbers: Numbers, name: str, label: str) -> dict[str, float]:
    sums: dict[str, float] = {}
    for labels, value in numbers.get(name, ()):
        sums[labels[label]] = sums.get(labels[label], 0.0) + value
    return sums


def _span(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
