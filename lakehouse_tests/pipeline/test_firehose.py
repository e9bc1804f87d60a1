"""Objects that Amazon Data Firehose writes are landing objects: each of their events reaches silver once."""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakehouse.landing.keys import arrival_time
from lakehouse.landing.listing import list_hour, list_incoming
from lakehouse_tests.pipeline.own import Own, payment

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)
NAME = "payments-1-2026-11-20-14-05-03-6f1a9c3e-8f3e-4d5e-9b1a-0123456789ab"


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    return make_stream()


def back_to_back(*events: dict[str, Any]) -> bytes:
    """Concatenate records with nothing between them."""
    return "".join(map(json.dumps, events)).encode()


def failed(record: bytes) -> bytes:
    """Make a record that a transformation failed on, see https://docs.aws.amazon.com/firehose/latest/dev/data-transformation.html"""
    return json.dumps(
        {
            "attemptsMade": 4,
            "arrivalTimestamp": 1732111503000,
            "errorCode": "Lambda.FunctionError",
            "errorMessage": "The Lambda function was successfully invoked but it returned an error result.",
            "attemptEndingTimestamp": 1732111604000,
            "rawData": record.hex(),
            "lambdaArn": "arn:aws:lambda:eu-west-1:123456789012:function:clean:$LATEST",
        }
    ).encode()


def test_firehose_objects_reach_silver_once(own: Own) -> None:
    events = [payment(f"e{n}", NOW + timedelta(seconds=n), account_id="a}{b") for n in range(60)]
    own.drop(back_to_back(*events[:10]), f"2026/11/20/14/{NAME}")
    own.drop(gzip.compress(back_to_back(*events[10:20])), f"2026/11/20/14/{NAME}.gz")
    own.drop(gzip.compress(back_to_back(*events[20:30])), f"2026/11/20/15/{NAME}")
    own.drop(b"".join(json.dumps(event).encode() + b"\n" for event in events[30:40]), f"country=DE/2026/{NAME}")
    own.drop(back_to_back(*events[38:50]), f"customer=a b/{NAME}")
    own.drop(failed(json.dumps(events[0]).encode()), f"processing-failed/2026/11/20/14/{NAME}")
    hour = datetime.now(UTC)
    folder = f"realtime/{own.name}/year={hour:%Y}/month={hour:%m}/day={hour:%d}/hour={hour:%H}"
    own.lake.objects.put(f"{folder}/payments-1-{hour:%Y-%m-%d-%H}-00-00-{NAME[-36:]}", back_to_back(*events[50:]))

    own.bronze()
    ledger = own.clean(NOW.date()).ledgers[NOW.date()]
    assert (ledger.landed, ledger.silver, ledger.quarantined, ledger.duplicates) == (62, 60, 0, 2)
    today = datetime.now(UTC).date()
    refused = own.clean(today).ledgers[today]
    assert (refused.landed, refused.quarantined) == (1, 1)
    assert len(list_incoming(own.lake.objects, own.name)) == 6

    [landed] = list_hour(own.lake.objects, own.name, f"{hour:%Y-%m-%d-%H}:00")
    fresh = own.refresh_realtime(landed.hour).partitions[landed.hour]
    assert (fresh["rows"], fresh["objects"]) == (10, 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (NAME, "14:05:03"),
        (f"{NAME}.gz", "14:05:03"),
        (f"{NAME}.parquet.snappy", "14:05:03"),
        (NAME.replace("payments", "my-stream-2-x"), "14:05:03"),
        (NAME.replace("-14-05-03", "-23-05-03"), "14:07:00"),  # another time zone: the modified time
        (NAME.replace("-14-05-03", "-14-65-03"), "14:07:00"),
        ("payments-1-2026", "14:07:00"),
    ],
)
def test_firehose_names_give_the_second_of_arrival(name: str, expected: str) -> None:
    key = f"realtime/iot/year=2026/month=11/day=20/hour=14/{name}"
    assert f"{arrival_time(key, datetime(2026, 11, 20, 14, 7, tzinfo=UTC)):%H:%M:%S}" == expected
    assert arrival_time(f"incoming/iot/2026/11/20/14/{name}", NOW) == NOW
