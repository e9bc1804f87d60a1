"""Engines agree: where a share of partitions is computed on two engines, both gave the same rows."""

from lakehouse.auditing.context import Context, layer_of
from lakehouse.pipeline.lineage.properties import day_ledgers
from lakehouse.pipeline.long_form import DAILY_METRICS
from lakehouse.pipeline.shadow_engine import OUTCOME

CHECK = "engines agree"


def check(context: Context) -> None:
    """Report the partitions whose newest commit says that the engines differed. Only table metadata is read."""
    for name, table in context.intact_tables():
        if name == DAILY_METRICS:  # all streams share it, and one engine computes it
            continue
        for day, counts in sorted(day_ledgers(table).items()):
            if counts.get(OUTCOME) == "differs" and context.covers(str(day)):
                detail = f"{name}: DuckDB here and Spark's workers computed different rows"
                fix = f"compare the versions of lakehouse and duckdb on both, then run {context.repair_command(day)}"
                context.report_finding(layer_of(table), str(day), CHECK, detail, fix)
