"""Findings of an audit are counted until a later audit of the same days does not find them."""

from datetime import date
from pathlib import Path

from lakehouse.auditing.findings import Finding, Report
from lakehouse.auditing.latest import record_audit, wrong_partitions
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import Settings


def _wrong(lake: Lake) -> dict[str, int]:
    return wrong_partitions(lake.settings)


def test_findings_last_until_their_days_are_audited_again(tmp_path: Path) -> None:
    lake = Lake(Settings(home=tmp_path))
    iot, retail = lake.stream("iot"), lake.stream("retail")
    assert _wrong(lake) == {}

    def finding(stream: str, day: str, layer: str = "silver", state: str = "wrong") -> Finding:
        return Finding(stream, layer, day, "x", state, "1 missing", "run it")  # type: ignore[arg-type]

    found = [finding("iot", "2026-01-01"), finding("iot", "2026-01-09"), finding("iot", "2026-01-09", "gold")]
    stale = finding("iot", "2026-01-10", state="stale")
    record_audit(lake, [iot, retail], None, None, Report(findings=[*found, stale]))
    assert _wrong(lake) == {"iot": 3, "retail": 0}
    record_audit(lake, [iot], date(2026, 1, 5), None, Report())
    assert _wrong(lake) == {"iot": 1, "retail": 0}
    record_audit(lake, [retail], None, None, Report())
    assert _wrong(lake) == {"iot": 1, "retail": 0}
    record_audit(lake, [iot], None, date(2026, 1, 1), Report())
    assert _wrong(lake) == {"iot": 0, "retail": 0}
