"""The queue against a server that acts as SQS, SNS, EventBridge and S3: messages stay until they are dealt with."""

import json
import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from lakehouse.errors import LakehouseError
from lakehouse.sources.sqs import inbox as module
from lakehouse.sources.sqs.inbox import Inbox
from lakehouse.sources.sqs.messages import Created
from lakehouse_tests.sources.sqs.forms import s3_event

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
    """Messages that are to be seen, and those that are held."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return int(found[names[0]]), int(found[names[1]])


def test_a_message_is_deleted_when_all_its_objects_are_safe(sqs: Any, url: str) -> None:
    inbox = Inbox(sqs, url)
    one, two, three = (Created("lake", f"incoming/iot/{n}") for n in range(3))
    send(sqs, url, s3_event(one.key, two.key), s3_event(three.key), s3_event(three.key))
    assert inbox.receive() == inbox.objects == {one, two, three}
    assert inbox.settle(lambda _: False) == 3
    assert waiting(sqs, url) == (0, 3)
    assert inbox.settle(lambda found: found in (one, three)) == 1
    assert inbox.objects == {one, two}
    assert inbox.receive() == set()
    assert inbox.settle(lambda _: True) == 0
    assert waiting(sqs, url) == (0, 0)


def test_messages_of_a_process_that_died_are_seen_again(sqs: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNSEEN", 1)
    send(sqs, url, s3_event(KEY))
    assert Inbox(sqs, url).receive() == {Created("lake", KEY)}
    again = Inbox(sqs, url)
    deadline = time.monotonic() + 20
    while not again.receive() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert again.objects == {Created("lake", KEY)}


def test_a_held_message_is_kept_from_being_seen_again(sqs: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNSEEN", 2)
    inbox, other = Inbox(sqs, url), Inbox(sqs, url)
    send(sqs, url, s3_event(KEY))
    assert inbox.receive()
    monkeypatch.setattr(module, "UNSEEN", 600)
    inbox.settle(lambda _: False)
    time.sleep(2.5)
    assert other.receive() == set()
    assert inbox.settle(lambda _: True) == 0
    assert waiting(sqs, url) == (0, 0)


def test_a_message_that_another_has_deleted_is_let_go_of(sqs: Any, url: str) -> None:
    inbox = Inbox(sqs, url)
    send(sqs, url, s3_event(KEY))
    inbox.receive()
    sqs.purge_queue(QueueUrl=url)
    inbox.settle(lambda _: False)
    assert inbox.settle(lambda _: True) == 0


def test_poison_goes_to_the_dead_letters_with_its_reason_and_the_rest_goes_on(sqs: Any, url: str, dead: str) -> None:
    inbox = Inbox(sqs, url, dead)
    send(sqs, url, "no JSON", s3_event(KEY), {"any": "thing"}, {"Event": "s3:TestEvent"})
    assert inbox.receive() == {Created("lake", KEY)}
    assert inbox.settle(lambda _: False) == 1
    found = sqs.receive_message(QueueUrl=dead, MaxNumberOfMessages=10, MessageAttributeNames=["reason"])["Messages"]
    reasons = {one["Body"]: one["MessageAttributes"]["reason"]["StringValue"] for one in found}
    assert reasons.keys() == {"no JSON", '{"any": "thing"}'}
    assert reasons["no JSON"].startswith("it is not JSON")
    assert reasons['{"any": "thing"}'] == "it is no event of S3"
    assert waiting(sqs, url) == (0, 1)
    assert inbox.depth() == {"waiting": 0, "held": 1, "dead": 0}  # they were just received


def test_without_dead_letters_poison_stays_where_it_is(sqs: Any, url: str, caplog: pytest.LogCaptureFixture) -> None:
    inbox = Inbox(sqs, url)
    send(sqs, url, "no JSON")
    assert inbox.receive() == set()
    assert inbox.settle(lambda _: True) == 0
    assert waiting(sqs, url) == (0, 1)
    assert "LAKEHOUSE_QUEUE_DEAD_LETTER_URL is not set: it is not JSON" in caplog.text


def test_no_more_is_received_than_can_be_held(sqs: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 25)
    send(sqs, url, *(s3_event(f"incoming/iot/{n}") for n in range(40)))
    inbox = Inbox(sqs, url)
    assert len(inbox.receive()) == 20
    assert len(inbox.objects) == 20
    inbox.settle(lambda _: True)
    assert len(inbox.receive()) == 20
    inbox.settle(lambda _: True)
    assert waiting(sqs, url) == (0, 0)


def test_a_queue_that_is_not_there_is_told_with_what_to_do(sqs: Any, url: str, dead: str) -> None:
    sqs.delete_queue(QueueUrl=url)
    with pytest.raises(
        LakehouseError, match=r"Can't use the queue .*events: there is no such queue; mend LAKEHOUSE_QUEUE_URL"
    ):
        Inbox(sqs, url).receive()


@pytest.mark.parametrize("way", ["s3", "sns", "sns-raw", "eventbridge"])
def test_what_s3_itself_sends_is_understood(client: Client, sqs: Any, url: str, way: str) -> None:
    s3, queue = (
        client("s3"),
        sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"],
    )
    s3.create_bucket(Bucket="lake")
    wanted: dict[str, Any] = {"Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}
    if way == "s3":
        configuration: dict[str, Any] = {"QueueConfigurations": [{"QueueArn": queue} | wanted]}
    elif way == "eventbridge":
        events = client("events")
        events.put_rule(Name="new", EventPattern=json.dumps({"source": ["aws.s3"]}))
        events.put_targets(Rule="new", Targets=[{"Id": "1", "Arn": queue}])
        configuration = {"EventBridgeConfiguration": {}}
    else:
        sns = client("sns")
        topic = sns.create_topic(Name="new")["TopicArn"]
        raw = {"Attributes": {"RawMessageDelivery": "true"}} if way == "sns-raw" else {}
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, **raw)
        configuration = {"TopicConfigurations": [{"TopicArn": topic} | wanted]}
    s3.put_bucket_notification_configuration(Bucket="lake", NotificationConfiguration=configuration)
    for key in (KEY, "other/x"):
        s3.put_object(Bucket="lake", Key=key, Body=b"x")
    s3.delete_object(Bucket="lake", Key="other/x")
    inbox = Inbox(sqs, url)
    assert inbox.receive() == {Created("lake", KEY), Created("lake", "other/x")}
