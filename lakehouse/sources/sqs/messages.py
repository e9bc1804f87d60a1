"""Parse queue messages into the objects they announce. S3, EventBridge and SNS each have a form of their own.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
"""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

MAX_ENVELOPES = 3
"""How many envelopes may be nested: EventBridge may send to SNS, and SNS to SNS."""


class UnreadableMessageError(Exception):
    """A message in no known form. Its text is the reason."""


@dataclass(frozen=True, slots=True)
class CreatedObject:
    """An object that was created or overwritten."""

    bucket: str
    key: str


def created_objects(body: str) -> list[CreatedObject]:
    """Parse the objects that a message announces; none if it is a test or about another kind of event in S3.

    Raises UnreadableMessageError.
    """
    return _created(_parse(body), MAX_ENVELOPES)


def _created(message: Any, envelopes_left: int) -> list[CreatedObject]:
    if not isinstance(message, dict):
        raise UnreadableMessageError("it is no JSON object")
    try:
        if "Type" in message and "TopicArn" in message:
            return _from_sns(message, envelopes_left)
        if message.get("Event") == "s3:TestEvent":
            return []
        if message.get("source") == "aws.s3" and "detail-type" in message:
            return _from_event_bridge(message)
        if "Records" in message:
            return [obj for record in message["Records"] for obj in _from_s3(record)]
    except (KeyError, TypeError, AttributeError) as error:
        raise UnreadableMessageError(f"it lacks what an S3 event has: {error}") from error
    raise UnreadableMessageError("it is no event of S3")


def _from_sns(message: dict[str, Any], envelopes_left: int) -> list[CreatedObject]:
    if message["Type"] == "Notification":
        if not envelopes_left:
            raise UnreadableMessageError(f"more than {MAX_ENVELOPES} envelopes are nested")
        return _created(_parse(message["Message"]), envelopes_left - 1)
    if message["Type"] == "SubscriptionConfirmation":
        raise UnreadableMessageError(
            f"the subscription to {message['TopicArn']} waits to be confirmed; open its SubscribeURL"
        )
    return []


def _from_event_bridge(message: dict[str, Any]) -> list[CreatedObject]:
    if message["detail-type"] != "Object Created":
        return []
    detail = message["detail"]
    # Unlike S3's own messages, these do not URL-encode the key.
    return [CreatedObject(_text(detail["bucket"]["name"]), _text(detail["object"]["key"]))]


def _from_s3(record: dict[str, Any]) -> list[CreatedObject]:
    if not _text(record["eventName"]).removeprefix("s3:").startswith("ObjectCreated:"):
        return []
    s3 = record["s3"]
    try:
        key = unquote_plus(_text(s3["object"]["key"]), errors="strict")
    except UnicodeDecodeError as error:
        raise UnreadableMessageError("the object's key is not UTF-8 when it is decoded") from error
    return [CreatedObject(_text(s3["bucket"]["name"]), key)]


def _parse(text: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise UnreadableMessageError(f"it is not JSON: {error}") from error


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"expected a text, got {value!r}")
    return value
