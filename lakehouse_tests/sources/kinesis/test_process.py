"""`lakehouse kinesis` as a process against moto's Kinesis: killed again and again, it loses nothing."""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pyarrow as pa
import pytest

from lakehouse.landing.listing import list_day
from lakehouse.settings import Settings
from lakehouse.sources.kinesis import status
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects
from lakehouse_tests.waiting import until

STREAM = "social"
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def kinesis(aws: str) -> Any:
    client = boto3.client(
        "kinesis", endpoint_url=aws, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    client.create_stream(StreamName="events", ShardCount=3)
    return client


@pytest.fixture
def start(aws: str, settings: Settings, connection: Connection) -> Iterator[Start]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "AWS_"))}
    variables = {
        "LAKEHOUSE_HOME": str(settings.root),
        "LAKEHOUSE_KINESIS": json.dumps({STREAM: "events"}),
        "LAKEHOUSE_KINESIS_POLL_MS": "200",
        "AWS_ENDPOINT_URL_KINESIS": aws,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, **more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "lakehouse", "kinesis", *words],
            env=inherited | variables | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _landed(objects: Objects) -> Counter[int]:
    today = datetime.now(UTC).date()
    numbers: Counter[int] = Counter()
    for landing in [*list_day(objects, STREAM, today - timedelta(days=1)), *list_day(objects, STREAM, today)]:
        content = objects.get(landing.key)
        if landing.key.endswith(".zst"):
            content = pa.CompressedInputStream(pa.BufferReader(content), "zstd").read()
        # Other tests land their own events in this stream too.
        events = [json.loads(line) for line in content.splitlines() if line.startswith(b'{"number"')]
        numbers.update(event["number"] for event in events)
    return numbers


def _put(kinesis: Any, numbers: range) -> None:
    records = [{"Data": json.dumps({"number": n}).encode(), "PartitionKey": f"k{n % 50}"} for n in numbers]
    for at in range(0, len(records), 500):
        kinesis.put_records(StreamName="events", Records=records[at : at + 500])


def test_kill_at_any_moment_lands_every_record_once(
    kinesis: Any, start: Start, objects: Objects, settings: Settings
) -> None:
    random.seed()
    before = _landed(objects)
    written = 0
    for _ in range(3):
        process = start()
        at_start = sum(_landed(objects).values())
        _put(kinesis, range(written, written := written + 400))
        until(lambda: sum(_landed(objects).values()) > at_start, 120, pause=0.02)  # noqa: B023
        for _ in range(5):
            _put(kinesis, range(written, written := written + 100))
            time.sleep(random.uniform(0, 0.1))
        process.kill()
    process = start("--once", "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    [printed] = json.loads(out)
    assert (printed["stream"], printed["shards"], printed["behind_ms"]) == (STREAM, 3, 0)
    assert _landed(objects) - before == Counter(range(written))


def test_sigterm_lands_records_and_writes_status(
    kinesis: Any, start: Start, objects: Objects, settings: Settings
) -> None:
    before = sum(_landed(objects).values())
    _put(kinesis, range(300))
    process = start()
    until(lambda: sum(_landed(objects).values()) >= before + 300, 120)
    second = start()
    _, err = second.communicate(timeout=120)
    assert second.returncode == 1
    assert "Another process reads Kinesis for this home already" in err
    process.terminate()
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert sum(_landed(objects).values()) == before + 300
    [written] = status.read_statuses(settings)
    assert (written.stream, written.source, written.records, written.error) == (STREAM, "events", 300, None)
    assert f'lakehouse_kinesis_behind_seconds{{stream="{STREAM}"}} 0.0'.encode() in status.metrics(settings)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"LAKEHOUSE_KINESIS": "{}"}, "No Kinesis stream is configured; set LAKEHOUSE_KINESIS, such as"),
        ({"LAKEHOUSE_KINESIS": '{"sales": "x"}'}, "LAKEHOUSE_KINESIS names sales, which is no stream; there are"),
    ],
)
def test_wrong_settings_print_one_line(start: Start, variables: dict[str, str], message: str) -> None:
    process = start("--once", **variables)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.startswith(f"lakehouse: {message}")
    assert err.count("\n") == 1
