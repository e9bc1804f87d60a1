"""The audit as an asset check of each stream's landing: every landed row is in every layer below, once."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from lakehouse.assets.resources import LakeResource
from lakehouse.assets.specs import key
from lakehouse.auditing.audit import audit
from lakehouse.auditing.findings import Report
from lakehouse.auditing.latest import record_audit
from lakehouse.contracts.streams import Stream

AUDIT_CHECK = "audit"
MAX_FINDINGS = 20
"""Findings in the metadata of a check."""


class AuditConfig(dg.Config):
    """Which days are audited."""

    days: int = 8
    """How many of the newest days; 0 is all."""


def audit_step(stream: Stream) -> str:
    """Name the step that audits a stream."""
    return f"landing__{stream.name}_{AUDIT_CHECK}"


def audit_check(stream: Stream) -> dg.AssetChecksDefinition:
    """Define the check of a stream. It blocks nothing, because what it finds has happened already."""

    @dg.asset_check(
        name=AUDIT_CHECK,
        asset=key("landing", stream.name),
        description="Every layer holds the rows of its source, row by row: no event is lost or counted twice.",
        blocking=False,
    )
    def check(lake: LakeResource, config: AuditConfig) -> dg.AssetCheckResult:
        first = (datetime.now(UTC) - timedelta(days=config.days)).date() if config.days else None
        report = audit(lake.lake, [stream], first)
        record_audit(lake.lake, [stream], first, None, report)
        return dg.AssetCheckResult(
            passed=not report.wrong, severity=dg.AssetCheckSeverity.ERROR, metadata=_metadata(report)
        )

    return check


def _metadata(report: Report) -> dict[str, dg.MetadataValue]:
    lines = [
        f"- {finding.state}: {finding.layer}/{finding.stream} {finding.partition}: {finding.detail} → {finding.fix}"
        for finding in [*report.wrong, *report.stale][:MAX_FINDINGS]
    ]
    return {
        "wrong": dg.MetadataValue.int(len(report.wrong)),
        "stale": dg.MetadataValue.int(len(report.stale)),
        "partitions": dg.MetadataValue.int(sum(report.partitions.values())),
        "rows": dg.MetadataValue.int(sum(report.rows.values())),
        "findings": dg.MetadataValue.md("\n".join(lines) or "none"),
    }
