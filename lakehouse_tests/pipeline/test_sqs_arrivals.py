"""Files that queue messages report reach bronze once. Their messages are deleted then, and not before."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import boto3
import dagster as dg
import pytest

from lakehouse.assets import resources
from lakehouse.assets.resources import LakeResource
from lakehouse.automation import sensors
from lakehouse.automation.sensors import incoming_files
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.sqs_arrivals import Arrivals
from lakehouse.sources.sqs.inbox import Inbox
from lakehouse_tests.pipeline.own import Own, payment
from lakehouse_tests.sources.sqs.forms import event_bridge, s3_event, sns

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    return make_stream()


@pytest.fixture
def sqs(aws: str) -> Any:
    return boto3.client(
        "sqs", endpoint_url=aws, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )


@pytest.fixture
def url(sqs: Any) -> str:
    return str(sqs.create_queue(QueueName="events")["QueueUrl"])


@pytest.fixture
def arrivals(own: Own, sqs: Any, url: str) -> Arrivals:
    return Arrivals(own.lake, Inbox(sqs, url))


def _drop(own: Own, name: str) -> str:
    return own.drop(json.dumps(payment(name, NOW)).encode(), name)


def _left(sqs: Any, url: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    return sum(int(n) for n in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values())


def _send(sqs: Any, url: str, *bodies: Any) -> None:
    for body in bodies:
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps(body))


def test_messages_are_deleted_once_bronze_has_their_files(own: Own, arrivals: Arrivals, sqs: Any, url: str) -> None:
    first, second, third = _drop(own, "a b+ä.json"), _drop(own, "year=2025/two.json"), _drop(own, "100%.json")
    _send(sqs, url, s3_event(first, second), sns(event_bridge(third)), s3_event(first))
    pending = arrivals.pending_files()
    assert {file.key for file in pending[own.name]} == {first, second, third}
    assert pending.keys() == {own.name}
    assert _left(sqs, url) == 3
    assert arrivals.pending_files() == pending

    days = sorted({file.day for file in pending[own.name]})
    ingest_days(own.lake, own.stream, days)
    assert arrivals.pending_files() == {}
    assert _left(sqs, url) == 0

    _send(sqs, url, s3_event(second))  # S3 may report it twice
    assert Arrivals(own.lake, Inbox(sqs, url)).pending_files() == {}
    assert _left(sqs, url) == 0


def test_messages_without_a_usable_file_are_deleted_at_once(own: Own, arrivals: Arrivals, sqs: Any, url: str) -> None:
    gone = f"incoming/{own.name}/never-was.csv"
    empty = own.drop(b"", "folder/")
    left_out = [_drop(own, name) for name in ("_temporary/x.json", "x.json.bak", "t/_delta_log/0.json", "t/x.json")]
    _send(
        sqs, url,
        s3_event(gone), s3_event(empty), s3_event(*left_out), s3_event("incoming/no-such-stream/x.csv"), s3_event("incoming"),
        s3_event(f"realtime/{own.name}/year=2025/x.json"), s3_event(_drop(own, "x.json"), bucket="another"),
        s3_event(f"incoming/{own.name}/x", name="ObjectRemoved:Delete"), {"Event": "s3:TestEvent"},
    )  # fmt: skip
    assert arrivals.pending_files() == {}
    assert _left(sqs, url) == 0


def test_rewritten_file_is_looked_up_again(own: Own, arrivals: Arrivals, sqs: Any, url: str) -> None:
    key = _drop(own, "x.json")
    _send(sqs, url, s3_event(key))
    [[before]] = arrivals.pending_files().values()
    own.lake.objects.put(key, b"[" + json.dumps(payment("x.json", NOW)).encode() + b"]")
    _send(sqs, url, s3_event(key))
    [[after]] = arrivals.pending_files().values()
    assert after.size == before.size + 2
    own.lake.objects.delete([key])
    _send(sqs, url, s3_event(key))
    assert arrivals.pending_files() == {}
    assert _left(sqs, url) == 0


@pytest.fixture
def evaluate(own: Own, arrivals: Arrivals, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Evaluate the sensor once. Returns the keys of the files it requests, by day, and its cursor."""
    monkeypatch.setattr(sensors, "get_settings", lambda: own.lake.settings.model_copy(update={"incoming": "queue"}))
    monkeypatch.setattr(sensors, "arrivals", lambda: arrivals)

    monkeypatch.setattr(resources, "_lake", lambda: own.lake)

    def evaluate(cursor: str | None = None) -> tuple[int, str]:
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(instance, cursor, resources={"lake": LakeResource()})
            requests = [request for request in incoming_files(context) if isinstance(request, dg.RunRequest)]  # type: ignore[union-attr]
            return sum(int(request.tags["lakehouse/files"]) for request in requests), context.cursor or ""

    return evaluate


def test_sensor_lists_daily_and_otherwise_reads_the_queue(
    own: Own, evaluate: Callable[..., Any], sqs: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _drop(own, "unreported.json")
    requested, cursor = evaluate()
    assert requested == 1, "the first evaluation lists"
    own.bronze()
    requested, cursor = evaluate(cursor)
    assert requested == 0

    reported = _drop(own, "reported.json")
    assert evaluate(cursor)[0] == 0, "no message names it, and it is not listed again today"
    _send(sqs, url, s3_event(reported))
    assert evaluate(cursor)[0] == 1
    own.bronze()
    assert evaluate(cursor)[0] == 0
    assert _left(sqs, url) == 0

    _drop(own, "lost.json")
    yesterday = json.dumps({name: value.replace(str(datetime.now(UTC).date()), "2020-01-01") if "listed" in name else value
                            for name, value in json.loads(cursor).items()})  # fmt: skip
    assert evaluate(yesterday)[0] == 1, "a file without a message is listed the next day"


def test_sensor_lists_files_if_the_queue_fails(
    own: Own, arrivals: Arrivals, evaluate: Callable[..., Any], sqs: Any, url: str
) -> None:
    _, cursor = evaluate()
    sqs.delete_queue(QueueUrl=url)
    with pytest.raises(LakehouseError):
        arrivals.pending_files()
    _drop(own, "x.json")
    assert evaluate(cursor)[0] == 1
