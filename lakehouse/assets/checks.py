"""Asset checks from the contract: what must hold of silver after a run, read from the table itself."""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from lakehouse.assets.reporting import how_to_withdraw
from lakehouse.assets.specs import key
from lakehouse.contracts.checks import BLOCKING, contract_checks
from lakehouse.contracts.model import Contract
from lakehouse.contracts.sql import literal, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.pipeline.file_columns import describe_columns, file_columns
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.ledger import Ledger
from lakehouse.pipeline.quality_gate import blocked_keys, describe_blocked
from lakehouse.pipeline.withdrawal_log import describe_withdrawn, newest_records


def check_specs(contract: Contract) -> list[dg.AssetCheckSpec]:
    """List the checks of a stream's silver asset."""
    asset = key("silver", contract.stream)
    return [
        dg.AssetCheckSpec(name, asset=asset, description=description, blocking=name in BLOCKING)
        for name, description in contract_checks(contract).items()
    ]


def evaluate(lake: Lake, stream: Stream, ledgers: Mapping[date, Ledger]) -> Iterator[dg.AssetCheckResult]:
    """Evaluate the stream's checks over the partitions that the run computed."""
    contract = stream.contract
    counts = _violations(lake, contract, list(ledgers)) | {
        "columns": file_columns(lake, stream, list(ledgers)),
        "withdrawn": describe_withdrawn(newest_records(lake.objects, stream.name), list(ledgers)),
    }
    for spec in check_specs(contract):
        passed, metadata = _result(spec.name, contract, ledgers, counts)
        severity = dg.AssetCheckSeverity.ERROR if spec.name in BLOCKING else dg.AssetCheckSeverity.WARN
        yield dg.AssetCheckResult(
            passed=passed, check_name=spec.name, asset_key=spec.asset_key, metadata=metadata, severity=severity
        )


def _range_rules(contract: Contract) -> dict[str, str]:
    rules: dict[str, list[str]] = {}
    for field in contract.fields:
        for bound, comparison in (
            (field.minimum, "<"),
            (field.maximum, ">"),
            (field.exclusive_minimum, "<="),
            (field.exclusive_maximum, ">="),
        ):
            if bound is not None:
                rules.setdefault(field.name, []).append(f"{quote(field.name)} {comparison} {bound}")
    return {name: " or ".join(parts) for name, parts in rules.items()}


def _violations(lake: Lake, contract: Contract, days: list[date]) -> dict[str, Any]:
    """Count rows, repeated keys, the newest event and violations by rule and field, in one pass over the partitions."""
    keys = ", ".join(map(quote, contract.key))
    measures = {
        "rows": "count(*)",
        "repeated": f"count(*) - count(distinct hash(dt, {keys}))",
        "newest": f"max({quote(contract.event_time)})",
    }
    for field in contract.fields:
        if field.required:
            measures[f"required {field.name}"] = f"count(*) filter ({quote(field.name)} is null)"
        if field.enum:
            values = ", ".join(map(literal, field.enum))
            measures[f"accepted_values {field.name}"] = f"count(*) filter ({quote(field.name)} not in ({values}))"
    for name, rule in _range_rules(contract).items():
        measures[f"range {name}"] = f"count(*) filter ({rule})"
    table = lake.tables.load(f"silver.{contract.stream}")
    select = ", ".join(f"{sql} as {quote(name)}" for name, sql in measures.items())
    with lake.engine.cursor() as cursor:
        row = cursor.execute(f"select {select} from {scan_sql(table)} where {days_filter(days)}").fetchone()
    return dict(zip(measures, row or (), strict=True))


def _result(
    name: str, contract: Contract, ledgers: Mapping[date, Ledger], counts: Mapping[str, Any]
) -> tuple[bool, dict[str, Any]]:
    match name:
        case "conservation":
            wrong = [str(day) for day, ledger in ledgers.items() if not ledger.conserved]
            totals = {
                part: sum(getattr(ledger, part) for ledger in ledgers.values())
                for part in ("landed", "silver", "quarantined", "duplicates")
            }
            return not wrong, totals | {"differing_partitions": ", ".join(wrong) or "none"}
        case "unique_key":
            return counts["repeated"] == 0, {"repeated_keys": counts["repeated"], "key": ", ".join(contract.key)}
        case "quality_score":
            landed = sum(ledger.landed for ledger in ledgers.values())
            worst = min((ledger.quality for ledger in ledgers.values()), default=1.0)
            valid = sum(ledger.valid for ledger in ledgers.values())
            score = valid / landed if landed else 1.0
            blocked = {day: it.blocked_objects for day, it in ledgers.items()}
            return worst >= contract.quality_threshold, {
                "quality_score": round(score, 6),
                "worst_partition": round(worst, 6),
                "threshold": contract.quality_threshold,
                "blocked_objects": describe_blocked(blocked),
                **how_to_withdraw(blocked_keys(blocked)),
                "withdrawn_objects": counts["withdrawn"],
            }
        case "volume":
            landed = sum(ledger.landed for ledger in ledgers.values())
            return counts["rows"] > 0 or landed == 0, {"rows": counts["rows"], "landed": landed}
        case "columns":
            misspelt = {key: columns for key, columns in counts["columns"].items() if columns.nearest}
            return not misspelt, {"files": len(misspelt), "unknown": describe_columns(misspelt or counts["columns"])}
        case "freshness":
            return _freshness(contract, counts["newest"])
        case _:
            prefix = f"{name} "
            violations = {rule.removeprefix(prefix): n for rule, n in counts.items() if rule.startswith(prefix)}
            return not any(violations.values()), violations


def _freshness(contract: Contract, newest: datetime | None) -> tuple[bool, dict[str, Any]]:
    assert contract.freshness is not None
    allowed = contract.freshness.total_seconds()
    if newest is None:
        return True, {"newest_event": "none", "allowed_seconds": allowed}
    age = (datetime.now(UTC) - newest.replace(tzinfo=UTC)).total_seconds()
    return age <= allowed, {
        "newest_event": newest.isoformat() + "Z",
        "age_seconds": round(age),
        "allowed_seconds": allowed,
    }
