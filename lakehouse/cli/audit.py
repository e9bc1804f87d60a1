"""`audit`: the proof that nothing is lost or counted twice, printed."""

import re
from collections.abc import Sequence
from datetime import date

from lakehouse.audit.audit import audit
from lakehouse.audit.findings import Finding, Report
from lakehouse.cli.printing import console, day_option, print_json, print_table
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.date_ranges import format_days
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as server

SHOWN = 50
"""Findings that are printed for people."""


def audit_streams(
    names: Sequence[str],
    first: str | None,
    last: str | None,
    *,
    read_landing: bool,
    strict: bool,
    repair: bool,
    as_json: bool,
) -> int:
    """Audit these streams, or all, and print what differs; 0 when all holds, else 1."""
    settings = get_settings()
    since, until = day_option(first, "--from"), day_option(last, "--to")
    lake = Lake(settings)
    streams = [lake.stream(name) for name in names] or list(lake.streams.values())
    with server.running(settings) as connection:
        lake = Lake(settings, connection)
        report = audit(lake, streams, since, until, read_landing=read_landing)
        if repair and report.findings:
            from lakehouse.automation.repair import repair_findings  # Dagster takes seconds to import

            repair_findings(lake, report.findings)
            report = audit(lake, streams, since, until, read_landing=read_landing)
    if as_json:
        print_json(report.as_json())
    else:
        _print(report)
    return 1 if report.wrong or (strict and report.stale) else 0


def _print(report: Report) -> None:
    layers: dict[str, list[int]] = {}
    for table, count in report.partitions.items():
        layer = layers.setdefault(re.split("[./]", table)[0], [0, 0, 0])
        layer[:] = [layer[0] + 1, layer[1] + count, layer[2] + report.rows[table]]
    rows = [[layer, *counts[:2], counts[2] or ""] for layer, counts in layers.items()]
    print_table("", ["layer", "tables", "partitions compared", "rows"], rows, ["tables", "partitions compared", "rows"])
    _print_findings("Not computed from the newest data yet:", report.stale)
    _print_findings("Wrong:", report.wrong)
    if report.wrong:
        console.print(f"{len(report.wrong):,} times a partition does not hold what it is made of.")
    else:
        late = f" {len(report.stale):,} partitions are still to be computed." if report.stale else ""
        console.print(f"Nothing is lost, nothing is counted twice.{late}", soft_wrap=True)


def _print_findings(title: str, findings: Sequence[Finding]) -> None:
    """A line each, those that say the same of several days as one."""
    if not findings:
        return
    said: dict[tuple[str, str, str], list[Finding]] = {}
    for one in findings:
        said.setdefault((one.stream, one.layer, one.what), []).append(one)
    console.print(title)
    for (stream, layer, what), same in list(said.items())[:SHOWN]:
        days = format_days(date.fromisoformat(one.partition) for one in same)
        console.print(f"  {layer}/{stream} {days}: {what}", highlight=False, soft_wrap=True)
        console.print(f"    → {_do(same)}", highlight=False, soft_wrap=True)
    if len(said) > SHOWN:
        console.print(f"  … and {len(said) - SHOWN:,} more; --json has them all.")


def _do(same: Sequence[Finding]) -> str:
    first, last = same[0], same[-1]
    return first.do.replace(f"--to {first.partition}", f"--to {last.partition}")
