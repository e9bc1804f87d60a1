"""`audit`: every layer compared with its source, and the partitions that differ."""

import re
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Annotated, NoReturn

import typer

from lakehouse.auditing import audit as auditing
from lakehouse.auditing.audit_log import audit_log_findings
from lakehouse.auditing.findings import Finding, Report
from lakehouse.auditing.latest import record_audit
from lakehouse.auditing.manifests import CHECK as METADATA_CHECK
from lakehouse.auditing.models import WHOLE
from lakehouse.cli.options import FirstDay, Json, LastDay, Streams, parse_day
from lakehouse.cli.printing import print_json, print_table, print_text, stderr
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.date_ranges import format_days
from lakehouse.settings import Settings, get_settings
from lakehouse.storage.embedded import lifecycle as storage

MAX_FINDINGS = 50
"""Findings that are printed for people; JSON has all."""

Quick = Annotated[bool, typer.Option("--quick", help="Compare landing objects by name, without reading them.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 for stale partitions, too.")]
PublishedOnly = Annotated[
    bool,
    typer.Option("--published", help="Compare what `publish` loaded into warehouses with the lake, and nothing else."),
]
Repair = Annotated[bool, typer.Option("--repair", help="Recompute the partitions that differ, then audit again.")]


def audit(
    streams: Streams = None,
    first: FirstDay = None,
    last: LastDay = None,
    quick: Quick = False,
    strict: Strict = False,
    repair: Repair = False,
    published: PublishedOnly = False,
    as_json: Json = False,
) -> None:
    """Audit these streams, or all, and print the findings; exit with 0 when nothing differs, else with 1."""
    settings = get_settings()
    if published:
        _audit_published(settings, strict=strict, as_json=as_json)
    since, until = parse_day(first, "--from"), parse_day(last, "--to")
    unopened = Lake(settings)
    chosen = [unopened.stream(name) for name in streams or unopened.streams]
    with storage.running(settings) as connection:
        lake = Lake(settings, connection)
        report = auditing.audit(lake, chosen, since, until, read_landing=not quick)
        if repair and report.findings:
            from lakehouse.automation.repair import repair_findings, restore_tables  # Dagster takes seconds to import

            if any(finding.check == METADATA_CHECK for finding in report.findings):
                for refusal in restore_tables(lake, report.findings):
                    stderr.print(refusal, highlight=False, soft_wrap=True)
                report = auditing.audit(lake, chosen, since, until, read_landing=not quick)
            repair_findings(lake, report.findings)
            report = auditing.audit(lake, chosen, since, until, read_landing=not quick)
        record_audit(lake, chosen, since, until, report)
        report.findings += audit_log_findings(lake)
    if as_json:
        print_json(report.as_json())
    else:
        _print(report)
    raise SystemExit(1 if report.wrong or (strict and report.stale) else 0)


def _audit_published(settings: Settings, *, strict: bool, as_json: bool) -> NoReturn:
    """Compare what warehouses hold with the lake, print the findings and exit."""
    from lakehouse.publishing.audit import audit_published  # it needs a driver

    with storage.running(settings) as connection:
        report = audit_published(Lake(settings, connection))
    if as_json:
        print_json(report.as_json())
    else:
        rows = [[name, count, report.rows[name]] for name, count in report.partitions.items()]
        print_table("", ["published", "partitions compared", "rows"], rows, ["partitions compared", "rows"])
        for difference in report.differences:
            print_text(f"  {difference}")
        print_text(report.summary())
    raise SystemExit(1 if report.wrong or (strict and report.stale) else 0)


def _print(report: Report) -> None:
    layers: dict[str, list[int]] = {}
    for table, count in report.partitions.items():
        layer = layers.setdefault(re.split("[./]", table)[0], [0, 0, 0])
        layer[:] = [layer[0] + 1, layer[1] + count, layer[2] + report.rows[table]]
    rows = [[layer, *counts[:2], counts[2] or ""] for layer, counts in layers.items()]
    print_table("", ["layer", "tables", "partitions compared", "rows"], rows, ["tables", "partitions compared", "rows"])
    _print_findings("Stale, not computed from the newest data yet:", report.stale)
    _print_findings("Wrong:", report.wrong)
    for stream, count in report.expired.items():
        print_text(f"{count:,} rows of {stream} are older than silver keeps. Only bronze has them.")
    if report.wrong:
        print_text(f"{len(report.wrong):,} partitions differ from their source.")
    else:
        stale = f" {len(report.stale):,} partitions are stale." if report.stale else ""
        print_text(f"No event is lost or counted twice.{stale}")


def _print_findings(title: str, findings: Sequence[Finding]) -> None:
    """Print the findings, one entry for all days with the same finding."""
    if not findings:
        return
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.stream, finding.layer, finding.detail), []).append(finding)
    print_text(title)
    for (stream, layer, what), group in list(groups.items())[:MAX_FINDINGS]:
        days = _partitions(finding.partition for finding in group)
        print_text(f"  {layer}/{stream} {days}: {what}")
        print_text(f"    → {_remedy(group)}")
    if len(groups) > MAX_FINDINGS:
        print_text(f"  … and {len(groups) - MAX_FINDINGS:,} more; --json prints all.")


def _partitions(names: Iterable[str]) -> str:
    """Return days as ranges; a table without days has the partition `whole`."""
    names = [*names]
    return WHOLE if WHOLE in names else format_days(map(date.fromisoformat, names))


def _remedy(group: Sequence[Finding]) -> str:
    """Return the command that fixes every day of the group, as each finding has it for its own day."""
    first, last = group[0], group[-1]
    until = first.fix.replace(f"--to {first.partition}", f"--to {last.partition}")
    return until.replace(f"..{first.partition}", f"..{last.partition}")
