"""Settings alone put every layer on S3 and Glue, for which moto stands in here."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from lakehouse.landing.writer import land
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.refresh import days_to_refresh
from lakehouse.pipeline.silver import clean_days
from lakehouse.serving.query.sql import run_query
from lakehouse_tests.storage.aws import aws_settings

EVENT = (
    '{{"event_id": "{id}", "event_time": "2026-01-02T03:04:05Z", "account_id": "a", "amount": {amount},'
    ' "currency": "EUR", "type": "payment", "status": "settled"}}\n'
)


@pytest.fixture
def glue_lake(aws: str, tmp_path: Path) -> Lake:
    return Lake(aws_settings(aws, tmp_path))


def test_events_reach_silver_and_sql_on_s3_and_glue(glue_lake: Lake) -> None:
    glue_lake.bootstrap()
    assert glue_lake.bootstrap() == []
    now = datetime.now(UTC)
    lines = (
        EVENT.format(id=1, amount="12.50") + EVENT.format(id=1, amount="12.50") + EVENT.format(id=2, amount="0.30") * 1
    )
    good = "".join(EVENT.format(id=n, amount="1.00") for n in range(3, 60))
    land(glue_lake.objects, "financial", (lines + good + EVENT.format(id=99, amount="-1")).encode(), now=now)
    stream = glue_lake.stream("financial")
    ingest_days(glue_lake, stream, [now.date()])
    days = days_to_refresh(glue_lake, stream)
    assert [str(day) for day in days] == ["2026-01-02"]
    ledger = clean_days(glue_lake, stream, days).ledgers[days[0]]
    assert (ledger.landed, ledger.silver, ledger.quarantined, ledger.duplicates) == (61, 59, 1, 1)
    result = run_query(glue_lake, "select count(*), sum(amount)::varchar from serving.unified_financial")
    assert list(result.rows) == [(59, "69.80")]
    past = run_query(glue_lake, f"select count(*) from silver.financial at (timestamp => '{datetime.now(UTC)}')")
    assert list(past.rows) == [(59,)]
