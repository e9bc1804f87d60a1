"""The audit as an asset check of each stream's landing: whatever landed is in every layer below, once."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from lakehouse.assets.resources import LakeResource
from lakehouse.assets.specs import key
from lakehouse.auditing.audit import audit
from lakehouse.auditing.findings import Report
from lakehouse.contracts.streams import Stream

NAME = "audit"
SHOWN = 20
"""Findings in a check's metadata."""


class AuditConfig(dg.Config):
    """Which days are looked at."""

    days: int = 8
    """So many of the newest; 0 is all."""


def check_name(stream: Stream) -> str:
    """The name of the step that audits a stream."""
    return f"landing__{stream.name}_{NAME}"


def audit_check(stream: Stream) -> dg.AssetChecksDefinition:
    """The check of a stream; where it fails nothing is held up, for what is wrong is so already."""

    @dg.asset_check(
        name=NAME,
        asset=key("landing", stream.name),
        description="Every layer holds what it is made of, row by row: nothing is lost, nothing is counted twice.",
        blocking=False,
    )
    def check(lake: LakeResource, config: AuditConfig) -> dg.AssetCheckResult:
        first = (datetime.now(UTC) - timedelta(days=config.days)).date() if config.days else None
        report = audit(lake.lake, [stream], first)
        return dg.AssetCheckResult(
            passed=not report.wrong, severity=dg.AssetCheckSeverity.ERROR, metadata=_metadata(report)
        )

    return check


def _metadata(report: Report) -> dict[str, dg.MetadataValue]:
    findings = [*report.wrong, *report.stale][:SHOWN]
    lines = [f"- {one.state}: {one.layer}/{one.stream} {one.partition}: {one.what} → {one.do}" for one in findings]
    return {
        "wrong": dg.MetadataValue.int(len(report.wrong)),
        "stale": dg.MetadataValue.int(len(report.stale)),
        "partitions": dg.MetadataValue.int(sum(report.partitions.values())),
        "rows": dg.MetadataValue.int(sum(report.rows.values())),
        "findings": dg.MetadataValue.md("\n".join(lines) or "none"),
    }
