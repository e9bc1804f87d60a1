"""The inbox against moto's SQS, SNS, EventBridge and S3: messages stay until their objects are ingested."""

import json
import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from lakehouse.errors import LakehouseError
from lakehouse.sources.sqs import inbox as inbox_module
from lakehouse.sources.sqs.inbox import Inbox
from lakehouse.sources.sqs.messages import CreatedObject
from lakehouse_tests.sources.sqs.forms import s3_event
from lakehouse_tests.waiting import until

KEY = "incoming/iot/a b+ä.csv"
Client = Callable[[str], Any]


@pytest.fixture
def client(aws: str) -> Client:
    def client(service: str) -> Any:
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=aws,
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )

    return client


@pytest.fixture
def sqs(client: Client) -> Any:
    return client("sqs")


@pytest.fixture
def url(sqs: Any) -> str:
    return str(sqs.create_queue(QueueName="events")["QueueUrl"])


@pytest.fixture
def dead(sqs: Any) -> str:
    return str(sqs.create_queue(QueueName="dead")["QueueUrl"])


def send(sqs: Any, url: str, *bodies: Any) -> None:
    for body in bodies:
        sqs.send_message(QueueUrl=url, MessageBody=body if isinstance(body, str) else json.dumps(body))


def waiting(sqs: Any, url: str) -> tuple[int, int]:
    """Count the messages that are visible, and those that are held."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return int(counts[names[0]]), int(counts[names[1]])


def test_message_is_deleted_when_all_its_objects_are_ingested(sqs: Any, url: str) -> None:
    inbox = Inbox(sqs, url)
    first, second, third = (CreatedObject("lake", f"incoming/iot/{n}") for n in range(3))
    send(sqs, url, s3_event(first.key, second.key), s3_event(third.key), s3_event(third.key))
    assert inbox.receive() == inbox.objects == {first, second, third}
    assert inbox.delete_ingested(lambda _: False) == 3
    assert waiting(sqs, url) == (0, 3)
    assert inbox.delete_ingested(lambda obj: obj in (first, third)) == 1
    assert inbox.objects == {first, second}
    assert inbox.receive() == set()
    assert inbox.delete_ingested(lambda _: True) == 0
    assert waiting(sqs, url) == (0, 0)


def test_messages_of_dead_process_are_received_again(sqs: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "VISIBILITY_TIMEOUT_SECONDS", 1)
    send(sqs, url, s3_event(KEY))
    assert Inbox(sqs, url).receive() == {CreatedObject("lake", KEY)}
    restarted = Inbox(sqs, url)
    until(restarted.receive, 20)
    assert restarted.objects == {CreatedObject("lake", KEY)}


def test_held_message_stays_invisible_to_others(sqs: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "VISIBILITY_TIMEOUT_SECONDS", 2)
    inbox, other = Inbox(sqs, url), Inbox(sqs, url)
    send(sqs, url, s3_event(KEY))
    assert inbox.receive()
    monkeypatch.setattr(inbox_module, "VISIBILITY_TIMEOUT_SECONDS", 600)
    inbox.delete_ingested(lambda _: False)
    time.sleep(2.5)
    assert other.receive() == set()
    assert inbox.delete_ingested(lambda _: True) == 0
    assert waiting(sqs, url) == (0, 0)


def test_message_deleted_by_another_is_dropped(sqs: Any, url: str) -> None:
    inbox = Inbox(sqs, url)
    send(sqs, url, s3_event(KEY))
    inbox.receive()
    sqs.purge_queue(QueueUrl=url)
    inbox.delete_ingested(lambda _: False)
    assert inbox.delete_ingested(lambda _: True) == 0


def test_unreadable_messages_become_dead_letters_with_reason(sqs: Any, url: str, dead: str) -> None:
    inbox = Inbox(sqs, url, dead)
    send(sqs, url, "no JSON", s3_event(KEY), {"any": "thing"}, {"Event": "s3:TestEvent"})
    assert inbox.receive() == {CreatedObject("lake", KEY)}
    assert inbox.delete_ingested(lambda _: False) == 1
    letters = sqs.receive_message(QueueUrl=dead, MaxNumberOfMessages=10, MessageAttributeNames=["reason"])["Messages"]
    reasons = {letter["Body"]: letter["MessageAttributes"]["reason"]["StringValue"] for letter in letters}
    assert reasons.keys() == {"no JSON", '{"any": "thing"}'}
    assert reasons["no JSON"].startswith("it is not JSON")
    assert reasons['{"any": "thing"}'] == "it is no event of S3"
    assert waiting(sqs, url) == (0, 1)
    assert inbox.depth() == {"waiting": 0, "held": 1, "dead": 0}  # the dead letters were just received


def test_without_dead_letter_queue_unreadable_message_stays(
    sqs: Any, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox(sqs, url)
    send(sqs, url, "no JSON")
    assert inbox.receive() == set()
    assert inbox.delete_ingested(lambda _: True) == 0
    assert waiting(sqs, url) == (0, 1)
    assert "LAKEHOUSE_QUEUE_DEAD_LETTER_URL is not set: it is not JSON" in caplog.text


def test_inbox_receives_no_more_than_it_can_hold(sqs: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "MAX_HELD_MESSAGES", 25)
    send(sqs, url, *(s3_event(f"incoming/iot/{n}") for n in range(40)))
    inbox = Inbox(sqs, url)
    assert len(inbox.receive()) == 20
    assert len(inbox.objects) == 20
    inbox.delete_ingested(lambda _: True)
    assert len(inbox.receive()) == 20
    inbox.delete_ingested(lambda _: True)
    assert waiting(sqs, url) == (0, 0)


def test_missing_queue_raises_error_with_advice(sqs: Any, url: str, dead: str) -> None:
    sqs.delete_queue(QueueUrl=url)
    with pytest.raises(
        LakehouseError, match=r"Can't use the queue .*events: there is no such queue; fix LAKEHOUSE_QUEUE_URL"
    ):
        Inbox(sqs, url).receive()


@pytest.mark.parametrize("route", ["s3", "sns", "sns-raw", "eventbridge"])
def test_notifications_that_s3_sends_are_parsed(client: Client, sqs: Any, url: str, route: str) -> None:
    s3 = client("s3")
    queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    s3.create_bucket(Bucket="lake")
    event_types: dict[str, Any] = {"Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}
    if route == "s3":
        configuration: dict[str, Any] = {"QueueConfigurations": [{"QueueArn": queue} | event_types]}
    elif route == "eventbridge":
        events = client("events")
        events.put_rule(Name="new", EventPattern=json.dumps({"source": ["aws.s3"]}))
        events.put_targets(Rule="new", Targets=[{"Id": "1", "Arn": queue}])
        configuration = {"EventBridgeConfiguration": {}}
    else:
        sns = client("sns")
        topic = sns.create_topic(Name="new")["TopicArn"]
        raw = {"Attributes": {"RawMessageDelivery": "true"}} if route == "sns-raw" else {}
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, **raw)
        configuration = {"TopicConfigurations": [{"TopicArn": topic} | event_types]}
    s3.put_bucket_notification_configuration(Bucket="lake", NotificationConfiguration=configuration)
    for key in (KEY, "other/x"):
        s3.put_object(Bucket="lake", Key=key, Body=b"x")
    s3.delete_object(Bucket="lake", Key="other/x")
    inbox = Inbox(sqs, url)
    assert inbox.receive() == {CreatedObject("lake", KEY), CreatedObject("lake", "other/x")}
