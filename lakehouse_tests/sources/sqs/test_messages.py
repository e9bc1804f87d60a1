"""Every form in which S3 tells of an object, and everything else that may be in a queue."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.sources.sqs.messages import Created, UnreadableMessageError, created
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
def test_the_object_is_found_in_every_form(form: Any, key: str) -> None:
    assert created(json.dumps(form(key))) == [Created("lake", key)]


def test_a_message_may_hold_several_events() -> None:
    assert created(json.dumps(s3_event(*KEYS))) == [Created("lake", key) for key in KEYS]


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
def test_what_tells_of_no_new_object_is_no_poison(message: dict[str, Any]) -> None:
    assert created(json.dumps(message)) == []


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
        ('{"Records": [{"eventName": "ObjectCreated:Put", "s3": {"object": {"key": 1}}}]}', "a text where 1 is"),
        (json.dumps(s3_event("k")).replace('"k"', '"%FF"'), "is not UTF-8"),
        (json.dumps(sns(s3_event("k"), "SubscriptionConfirmation")), "open its SubscribeURL"),
        (json.dumps(sns(sns(sns(sns(s3_event("k")))))), "more than 3 envelopes"),
        ('{"Type": "Notification", "TopicArn": "t", "Message": null}', "it is not JSON"),
        ('{"source": "aws.s3", "detail-type": "Object Created"}', "'detail'"),
    ],
)
def test_poison_is_told_with_its_reason(body: str, reason: str) -> None:
    with pytest.raises(UnreadableMessageError) as found:
        created(body)
    assert reason in str(found.value)


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
def test_whatever_is_in_the_queue_is_understood_or_poison(body: str) -> None:
    try:
        found = created(body)
    except UnreadableMessageError:
        return
    assert all(isinstance(one, Created) for one in found)


@given(st.text(min_size=1).filter(lambda key: key.isprintable()))
def test_every_key_is_read_back(key: str) -> None:
    assert created(json.dumps(s3_event(key))) == created(json.dumps(event_bridge(key))) == [Created("lake", key)]
