"""Write the Grafana dashboards beside this file: python deploy/observability/make_dashboards.py."""

from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")

Panel = tuple[str, str, str, str]
"""Title, query, unit of Grafana, and what names a line."""

DASHBOARDS: dict[str, list[Panel]] = {
    "Overview": [
        ("Processes that run", "sum(lakehouse_process_up)", "short", ""),
        ("Events a second", "sum by (stream) (rate(lakehouse_events_total[5m]))", "eps", "{{stream}}"),
        (
            "Age of the newest event, as a share of what is allowed",
            "lakehouse_data_age_seconds / lakehouse_data_age_limit_seconds",
            "percentunit",
            "{{stream}}",
        ),
        ("Quality", "lakehouse_quality_ratio", "percentunit", "{{stream}}"),
        (
            "Days to be computed or blocked",
            'sum by (stream, state) (lakehouse_partitions{state!="materialised"})',
            "short",
            "{{stream}} {{state}}",
        ),
        (
            "Rows landed that are in no layer",
            'sum by (stream) (lakehouse_ledger_rows{outcome="landed"})'
            ' - sum by (stream) (lakehouse_ledger_rows{outcome!="landed"})',
            "short",
            "{{stream}}",
        ),
        (
            "Runs that succeeded in the last hour",
            'sum(increase(dagster_completed_runs_total{status="success"}[1h]))'
            ' / sum(increase(dagster_completed_runs_total{status=~"success|failure"}[1h]))',
            "percentunit",
            "",
        ),
        ("Memory", "lakehouse_process_resident_bytes", "bytes", "{{process}}"),
        ("Cores in use", "rate(lakehouse_process_cpu_seconds_total[5m])", "short", "{{process}}"),
        ("Restarts in the last hour", "increase(lakehouse_process_restarts_total[1h])", "short", "{{process}}"),
    ],
    "Streams": [
        ("Events a second", 'rate(lakehouse_events_total{stream=~"$stream"}[5m])', "eps", "{{stream}}"),
        ("Rows by outcome", 'lakehouse_ledger_rows{stream=~"$stream"}', "short", "{{stream}} {{outcome}}"),
        ("Age of the newest event", 'lakehouse_data_age_seconds{stream=~"$stream"}', "s", "{{stream}}"),
        ("Quality", 'lakehouse_quality_ratio{stream=~"$stream"}', "percentunit", "{{stream}}"),
        (
            "Days by state",
            'sum by (layer, state) (lakehouse_partitions{stream=~"$stream"})',
            "short",
            "{{layer}} {{state}}",
        ),
        ("Blocked objects", 'lakehouse_blocked_objects{stream=~"$stream"}', "short", "{{stream}}"),
        ("Rows of the tables", 'lakehouse_table_rows{stream=~"$stream"}', "short", "{{table}}"),
        ("Bytes of the tables", 'lakehouse_table_bytes{stream=~"$stream"}', "bytes", "{{table}}"),
    ],
    "Ingest": [
        ("Events a second", "sum by (stream) (rate(lakehouse_events_total[5m]))", "eps", "{{stream}}"),
        ("Bytes a second", "sum by (stream) (rate(lakehouse_bytes_total[5m]))", "Bps", "{{stream}}"),
        (
            "PUTs a second",
            "sum by (stream) (rate(lakehouse_flush_seconds_count[5m]))",
            "reqps",
            "{{stream}}",
        ),
        (
            "Seconds of a PUT, 99 of 100",
            "histogram_quantile(0.99, sum by (le) (rate(lakehouse_flush_seconds_bucket[5m])))",
            "s",
            "",
        ),
        (
            "Requests a second",
            "sum by (method, status) (rate(lakehouse_requests_total[5m]))",
            "reqps",
            "{{method}} {{status}}",
        ),
        ("Bytes held in memory", "lakehouse_buffer_bytes", "bytes", ""),
        ("Files left out", "lakehouse_left_out_objects", "short", ""),
    ],
    "Pipeline": [
        ("Seconds of a step", "lakehouse_step_seconds_sum / lakehouse_step_seconds_count", "s", "{{step}}"),
        ("Retries in the last hour", "increase(lakehouse_step_retries_total[1h])", "short", "{{step}}"),
        ("Commits an hour", "increase(lakehouse_table_commits_total[1h])", "short", "{{table}}"),
        ("Snapshots that are kept", "lakehouse_table_snapshots", "short", "{{table}}"),
        ("Data files", "lakehouse_table_files", "short", "{{table}}"),
        ("Delete files", "lakehouse_table_delete_files", "short", "{{table}}"),
        ("Tables that can't be read", "sum(lakehouse_table_unreadable)", "short", ""),
    ],
    "Queries": [
        ("Requests a second", "sum by (route) (rate(lakehouse_request_seconds_count[5m]))", "reqps", "{{route}}"),
        (
            "Seconds, the median",
            "histogram_quantile(0.5, sum by (route, le) (rate(lakehouse_request_seconds_bucket[5m])))",
            "s",
            "{{route}}",
        ),
        (
            "Seconds, 99 of 100",
            "histogram_quantile(0.99, sum by (route, le) (rate(lakehouse_request_seconds_bucket[5m])))",
            "s",
            "{{route}}",
        ),
        ("Rows that are in the tail alone", "lakehouse_tail_rows", "short", "{{stream}}"),
        ("Memory of the tail", "lakehouse_tail_bytes", "bytes", "{{stream}}"),
        ("Objects that queries do not see yet", "lakehouse_tail_left_out", "short", "{{stream}}"),
    ],
    "Dagster": [
        ("Active runs", "sum by (job_name, status) (dagster_active_runs)", "short", "{{job_name}} {{status}}"),
        (
            "Oldest active run",
            "max by (job_name, status) (dagster_active_run_duration_seconds)",
            "s",
            "{{job_name}} {{status}}",
        ),
        (
            "Runs that ended in the last hour",
            "sum by (job_name, status) (increase(dagster_completed_runs_total[1h]))",
            "short",
            "{{job_name}} {{status}}",
        ),
        ("Seconds of the last run", "dagster_last_run_duration_seconds", "s", "{{job_name}} {{status}}"),
        (
            "Seconds from request to first step",
            "lakehouse_run_wait_seconds_sum / lakehouse_run_wait_seconds_count",
            "s",
            "{{job_name}}",
        ),
        (
            "Since the last heartbeat",
            "time() - dagster_daemon_last_heartbeat_timestamp_seconds",
            "s",
            "{{daemon_type}}",
        ),
        ("Since a sensor's last tick", "time() - dagster_sensor_last_tick_timestamp_seconds", "s", "{{sensor_name}}"),
        (
            "Ticks that failed in the last hour",
            "increase(lakehouse_sensor_tick_failures_total[1h]) or increase(lakehouse_schedule_tick_failures_total[1h])",
            "short",
            "{{sensor_name}}{{schedule_name}}",
        ),
    ],
}


def dashboard(name: str, panels: list[Panel]) -> str:
    """Return a dashboard as Grafana's JSON: two panels in a row, and a choice of the stream where a query asks for it."""
    builder = (
        Dashboard(f"Lakehouse: {name}")
        .uid(f"lakehouse-{name.lower()}")
        .tags(["lakehouse"])
        .refresh("30s")
        .time("now-6h", "now")
        .with_variable(DatasourceVariable("source").label("Prometheus").type("prometheus"))
    )
    if any("$stream" in query for _, query, _, _ in panels):
        streams = QueryVariable("stream").label("Stream").datasource(SOURCE).multi(True).include_all(True)
        builder.with_variable(
            streams.query("label_values(lakehouse_data_age_limit_seconds, stream)").refresh(
                VariableRefresh.ON_TIME_RANGE_CHANGED
            )
        )
    for title, query, unit, legend in panels:
        target = Dataquery().expr(query).legend_format(legend or "__auto")
        panel = TimeSeries() if legend else Stat()
        builder.with_panel(panel.title(title).datasource(SOURCE).unit(unit).span(12).height(8).with_target(target))
    return JSONEncoder(sort_keys=True, indent=2).encode(builder.build()) + "\n"


def write(folder: Path) -> None:
    """Write all dashboards into a folder."""
    folder.mkdir(exist_ok=True)
    for name, panels in DASHBOARDS.items():
        (folder / f"{name.lower()}.json").write_text(dashboard(name, panels))


if __name__ == "__main__":
    write(FOLDER)
