"""Assets of this project. Each Dagster asset, check, job, schedule and sensor in this folder joins the lakehouse's own.

An asset `gold/NAME` is the table `gold.NAME`. Take tables by their keys and return one; the IO manager reads and writes.
"""

import dagster as dg
import duckdb


@dg.asset(
    key=["gold", "busy_days"],
    ins={"metrics": dg.AssetIn(["gold", "daily_metrics"])},
    partitions_def=dg.DailyPartitionsDefinition("2010-01-01", end_offset=1),
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def busy_days(metrics: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """Count the events of all streams by day."""
    return metrics.filter("metric_name = 'events'").aggregate("date_key as dt, sum(metric_value) as events", "date_key")
