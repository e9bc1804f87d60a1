"""Metrics of the processes that `lakehouse up` keeps running."""

from collections.abc import Iterator

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from lakehouse.runtime.supervisor import Child, read_state
from lakehouse.serving.api import gateway_server
from lakehouse.settings import Settings


def process_metrics(settings: Settings) -> Iterator[Metric]:
    """Measure each process with its children, such as a daemon's threads or a server's workers."""
    up = GaugeMetricFamily("lakehouse_process_up", "Whether a process runs.", labels=["process"])
    memory = GaugeMetricFamily(
        "lakehouse_process_resident_bytes", "Its memory with that of its children.", labels=["process"]
    )
    cpu = CounterMetricFamily(
        "lakehouse_process_cpu_seconds", "CPU that it and its children have used.", labels=["process"]
    )
    restarts = CounterMetricFamily("lakehouse_process_restarts", "How often it was restarted.", labels=["process"])
    state = read_state(settings)
    for child in [state.supervisor, *state.children] if state else []:
        processes = _tree(child, alone=child is state.supervisor) if state else []
        up.add_metric([child.name], bool(processes))
        restarts.add_metric([child.name], child.restarts)
        used = [usage for process in processes if (usage := _usage(process))]
        memory.add_metric([child.name], sum(size for size, _ in used))
        cpu.add_metric([child.name], sum(seconds for _, seconds in used))
    ready = GaugeMetricFamily("lakehouse_ingest_ready", "Whether the HTTP server can store events.")
    server = gateway_server.running(settings)
    ready.add_metric([], server is not None and gateway_server.is_ready(server))
    yield from (up, memory, cpu, restarts, ready)


def _tree(child: Child, *, alone: bool) -> list[psutil.Process]:
    """Return the process and its children. The supervisor's children are counted by themselves."""
    process = child.process
    if process is None:
        return []
    try:
        return [process] if alone else [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _usage(process: psutil.Process) -> tuple[int, float] | None:
    """Return the memory in bytes of a process and its CPU seconds with those of ended children; None if it has ended."""
    try:
        with process.oneshot():
            times = process.cpu_times()
            return process.memory_info().rss, times.user + times.system + times.children_user + times.children_system
    except psutil.Error:
        return None
