"""Parsing queue messages: every form in which S3 announces an object, and everything else a queue may hold."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.sources.sqs.messages import CreatedObject, UnreadableMessageError, created_objects
from lakehouse_tests.sources.sqs.forms import event_bridge, s3_event, sns

KEYS = [
    "incoming/iot/a.csv",
    "incoming/iot/a b+c.csv",
    "incoming/iot/ä/日本 100%.json",
    "incoming/iot/a%20b",
    "x/&=?#'\"\\",
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "form",
    [
        s3_event,
        event_bridge,
        lambda key: sns(s3_event(key)),
        lambda key: sns(event_bridge(key)),
        lambda key: sns(sns(s3_event(key))),
        lambda key: s3_event(key, name="s3:ObjectCreated:CompleteMultipartUpload"),
    ],
    ids=["s3", "eventbridge", "sns", "eventbridge-sns", "sns-sns", "others"],
)
def test_every_form_announces_its_object(form: Any, key: str) -> None:
    assert created_objects(json.dumps(form(key))) == [CreatedObject("lake", key)]


def test_one_message_may_hold_several_events() -> None:
    assert created_objects(json.dumps(s3_event(*KEYS))) == [CreatedObject("lake", key) for key in KEYS]


@pytest.mark.parametrize(
    "message",
    [
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2014-10-13T15:57:02.089Z", "Bucket": "lake"},
        sns({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "lake"}),
        s3_event("incoming/iot/a", name="ObjectRemoved:Delete"),
        s3_event("incoming/iot/a", name="ObjectTagging:Put"),
        event_bridge("incoming/iot/a", "Object Deleted"),
        s3_event(),
        sns(s3_event("incoming/iot/a"), "UnsubscribeConfirmation"),
    ],
)
def test_messages_without_new_objects_are_readable(message: dict[str, Any]) -> None:
    assert created_objects(json.dumps(message)) == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "it is not JSON"),
        ("{", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[]", "it is no JSON object"),
        ("null", "it is no JSON object"),
        ("{}", "it is no event of S3"),
        ('{"Records": [{}]}', "it lacks what an S3 event has: 'eventName'"),
        ('{"Records": 1}', "it lacks what an S3 event has"),
        ('{"Records": [{"eventName": "ObjectCreated:Put", "s3": {"object": {"key": 1}}}]}', "expected a text, got 1"),
        (json.dumps(s3_event("k")).replace('"k"', '"%FF"'), "is not UTF-8"),
        (json.dumps(sns(s3_event("k"), "SubscriptionConfirmation")), "open its SubscribeURL"),
        (json.dumps(sns(sns(sns(sns(s3_event("k")))))), "more than 3 envelopes are nested"),
        ('{"Type": "Notification", "TopicArn": "t", "Message": null}', "it is not JSON"),
        ('{"source": "aws.s3", "detail-type": "Object Created"}', "'detail'"),
    ],
)
def test_unreadable_message_raises_its_reason(body: str, reason: str) -> None:
    with pytest.raises(UnreadableMessageError) as raised:
        created_objects(body)
    assert reason in str(raised.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "Records",
                    "eventName",
                    "s3",
                    "bucket",
                    "object",
                    "key",
                    "name",
                    "Type",
                    "TopicArn",
                    "Message",
                    "detail",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON.map(json.dumps) | st.text())
def test_any_message_is_parsed_or_unreadable(body: str) -> None:
    try:
        objects = created_objects(body)
    except UnreadableMessageError:
        return
    assert all(isinstance(obj, CreatedObject) for obj in objects)


@given(st.text(min_size=1).filter(lambda key: key.isprintable()))
def test_any_printable_key_round_trips(key: str) -> None:
    for message in (s3_event(key), event_bridge(key)):
        assert created_objects(json.dumps(message)) == [CreatedObject("lake", key)]
