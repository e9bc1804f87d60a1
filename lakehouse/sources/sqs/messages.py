"""What a message in the queue says: which objects were created. From S3 itself, EventBridge or SNS, in each one's form.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
"""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

DEEPEST = 3
"""Envelopes within one another: EventBridge may send to SNS, and SNS to SNS."""


class UnreadableMessageError(Exception):
    """A message that says nothing we understand; its text says why."""


@dataclass(frozen=True, slots=True)
class Created:
    """An object that was created, or written over."""

    bucket: str
    key: str


def created(body: str) -> list[Created]:
    """The objects that a message says were created; none when it is a test or about something else that happens in S3.

    Raises UnreadableMessageError.
    """
    return _created(_parsed(body), DEEPEST)


def _created(value: Any, depth: int) -> list[Created]:
    if not isinstance(value, dict):
        raise UnreadableMessageError("it is no JSON object")
    try:
        if "Type" in value and "TopicArn" in value:
            return _of_sns(value, depth)
        if value.get("Event") == "s3:TestEvent":
            return []
        if value.get("source") == "aws.s3" and "detail-type" in value:
            return _of_event_bridge(value)
        if "Records" in value:
            return [one for record in value["Records"] for one in _of_record(record)]
    except (KeyError, TypeError, AttributeError) as problem:
        raise UnreadableMessageError(f"it lacks what an S3 event has: {problem}") from problem
    raise UnreadableMessageError("it is no event of S3")


def _of_sns(value: dict[str, Any], depth: int) -> list[Created]:
    if value["Type"] == "Notification":
        if not depth:
            raise UnreadableMessageError(f"more than {DEEPEST} envelopes are within one another")
        return _created(_parsed(value["Message"]), depth - 1)
    if value["Type"] == "SubscriptionConfirmation":
        raise UnreadableMessageError(
            f"the subscription to {value['TopicArn']} waits to be confirmed; open its SubscribeURL"
        )
    return []


def _of_event_bridge(value: dict[str, Any]) -> list[Created]:
    if value["detail-type"] != "Object Created":
        return []
    detail = value["detail"]
    return [Created(_text(detail["bucket"]["name"]), _text(detail["object"]["key"]))]  # not URL-encoded here


def _of_record(record: dict[str, Any]) -> list[Created]:
    if not _text(record["eventName"]).removeprefix("s3:").startswith("ObjectCreated:"):
        return []
    s3 = record["s3"]
    try:
        key = unquote_plus(_text(s3["object"]["key"]), errors="strict")
    except UnicodeDecodeError as problem:
        raise UnreadableMessageError("the object's key is not UTF-8 when it is decoded") from problem
    return [Created(_text(s3["bucket"]["name"]), key)]


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as problem:
        raise UnreadableMessageError(f"it is not JSON: {problem}") from problem


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"a text where {value!r} is")
    return value
