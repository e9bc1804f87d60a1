"""Metrics of the lake for Prometheus, from what the serving process keeps current: tables, partitions, freshness, tail."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from lakehouse.errors import UnreadableTableError
from lakehouse.pipeline.long_form import DAILY_METRICS
from lakehouse.serving.monitoring.overview import OverviewTracker, StreamOverview
from lakehouse.serving.monitoring.partition_state import StreamPartitions, source_tables
from lakehouse.serving.query.lake_snapshot import LakeSnapshot
from lakehouse.serving.query.snapshot_tracker import SnapshotTracker
from lakehouse.serving.query.tail_state import TailSize

TABLE_TOTALS = {
    "rows": ("total-records", "Rows of a table."),
    "files": ("total-data-files", "Its data files."),
    "delete_files": ("total-delete-files", "Its delete files."),
    "bytes": ("total-files-size", "Bytes of its files."),
}


def lake_metrics(overview: OverviewTracker, tracker: SnapshotTracker) -> Iterator[Metric]:
    """Return the metrics of the newest snapshot and overview. Nothing is read from storage."""
    if (latest := overview.newest) is None:
        return
    yield from _freshness(latest.streams)
    yield from _partitions(overview.partitions)
    yield from _tail(tracker.tail_sizes)
    yield from _tables(tracker.latest)
    left_out = GaugeMetricFamily("lakehouse_left_out_objects", "Objects under incoming/ that are not read.")
    left_out.add_metric([], len(latest.left_out))
    yield left_out


def _freshness(streams: list[StreamOverview]) -> Iterator[Metric]:
    age = GaugeMetricFamily("lakehouse_data_age_seconds", "Age of a stream's newest event.", labels=["stream"])
    allowed = GaugeMetricFamily(
        "lakehouse_data_age_limit_seconds", "The age that its contract allows.", labels=["stream"]
    )
    quality = GaugeMetricFamily("lakehouse_quality_ratio", "Share of valid rows of the newest day.", labels=["stream"])
    limit = GaugeMetricFamily(
        "lakehouse_quality_limit_ratio", "The share that its contract asks for.", labels=["stream"]
    )
    blocked = GaugeMetricFamily(
        "lakehouse_blocked_objects", "Landing objects that the quality gate blocks.", labels=["stream"]
    )
    for stream in streams:
        for metric, value in (
            (age, stream.age_seconds),
            (allowed, stream.allowed_age_seconds),
            (quality, stream.quality),
            (limit, stream.quality_threshold),
            (blocked, stream.partitions.blocked_objects),
        ):
            if value is not None:
                metric.add_metric([stream.stream], value)
    yield from (age, allowed, quality, limit, blocked)


def _partitions(streams: Mapping[str, StreamPartitions]) -> Iterator[Metric]:
    days = GaugeMetricFamily(
        "lakehouse_partitions", "Days of a layer by their state.", labels=["stream", "layer", "state"]
    )
    rows = GaugeMetricFamily(
        "lakehouse_ledger_rows",
        "Rows of all kept days: landed is the sum of silver, quarantined and duplicates.",
        labels=["stream", "outcome"],
    )
    compared = GaugeMetricFamily(
        "lakehouse_engine_comparisons",
        "Days that were computed on the other engine too: same, differs or failed.",
        labels=["stream", "layer", "outcome"],
    )
    for name, partitions in streams.items():
        for layer, outcomes in partitions.comparisons.items():
            for outcome, count in outcomes.items():
                compared.add_metric([name, layer, outcome], count)
        for layer, states in partitions.counts.items():
            for state, count in states.items():
                days.add_metric([name, layer, state], count)
        for outcome, count in partitions.outcomes.items():
            rows.add_metric([name, outcome], count)
    yield from (days, rows, compared)


def _tail(sizes: Mapping[str, TailSize]) -> Iterator[Metric]:
    families = {
        "rows": "Rows that landed and are in no table yet.",
        "objects": "Their landing objects.",
        "bytes": "Their memory.",
        "left_out": "Landing objects that queries do not see until realtime ingests them.",
    }
    for field, text in families.items():
        metric = GaugeMetricFamily(f"lakehouse_tail_{field}", text, labels=["stream"])
        for stream, size in sizes.items():
            metric.add_metric([stream], getattr(size, field))
        yield metric


def _tables(snapshot: LakeSnapshot) -> Iterator[Metric]:
    labels = ["table", "stream"]
    totals = {
        name: GaugeMetricFamily(f"lakehouse_table_{name}", text, labels=labels)
        for name, (_, text) in TABLE_TOTALS.items()
    }
    kept = GaugeMetricFamily("lakehouse_table_snapshots", "Its snapshots that are kept.", labels=labels)
    commits = CounterMetricFamily("lakehouse_table_commits", "Commits since it was created.", labels=labels)
    unreadable = GaugeMetricFamily("lakehouse_table_unreadable", "Whether it can't be read.", labels=labels)
    owners = {
        table: stream.name
        for stream in snapshot.streams.values()
        for table in (*source_tables(stream), f"realtime.{stream.name}")
        if table != DAILY_METRICS
    }
    for name in snapshot.tables.names():
        owner = [name, owners.get(name, "")]
        try:
            table = snapshot.tables.load(name)
        except UnreadableTableError:
            unreadable.add_metric(owner, 1)
            continue
        unreadable.add_metric(owner, 0)
        current = table.current_snapshot()
        summary = current.summary.additional_properties if current and current.summary else {}
        for total, (key, _) in TABLE_TOTALS.items():
            totals[total].add_metric(owner, int(summary.get(key, 0)))
        kept.add_metric(owner, len(table.metadata.snapshots))
        commits.add_metric(owner, (current.sequence_number or 0) if current else 0)
    yield from (*totals.values(), kept, commits, unreadable)
