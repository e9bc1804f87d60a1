"""Hold the messages of an SQS queue, invisible to other consumers, until the objects they announce are ingested.

Nothing here outlives the process. If it dies, SQS delivers its messages again some minutes later.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lakehouse.aws import explain
from lakehouse.errors import LakehouseError
from lakehouse.sources.aws import error_code
from lakehouse.sources.sqs.messages import CreatedObject, UnreadableMessageError, created_objects

MAX_HELD_MESSAGES = 2_000
"""No more messages are received before some of these are deleted."""

VISIBILITY_TIMEOUT_SECONDS = 300
"""How long SQS hides a held message from other consumers; renewed while it is held."""

WAIT_TIME_SECONDS = 1
"""How long to wait for a first message. Any wait makes SQS ask all of its servers."""

BATCH_SIZE = 10
"""Messages in one request, which is SQS's own limit."""

_NO_QUEUE = "there is no such queue; fix LAKEHOUSE_QUEUE_URL"
_ADVICE = {
    "AWS.SimpleQueueService.NonExistentQueue": _NO_QUEUE,
    "QueueDoesNotExist": _NO_QUEUE,
    "AccessDenied": "access is denied; allow sqs:ReceiveMessage, DeleteMessage, ChangeMessageVisibility,"
    " GetQueueAttributes, and SendMessage to the dead letters",
}

log = logging.getLogger(__name__)


@dataclass(slots=True)
class HeldMessage:
    """The receipt handle of a message and the objects it announces."""

    receipt: str
    objects: frozenset[CreatedObject]


class Inbox:
    """The messages of one queue. Methods raise LakehouseError if SQS can't be used."""

    def __init__(self, client: Any, url: str, dead_letter_url: str | None = None) -> None:
        self._client = client
        self._url = url
        self._dead_letter_url = dead_letter_url
        self._held: dict[str, HeldMessage] = {}

    def receive(self) -> set[CreatedObject]:
        """Receive all messages, as far as they can be held. Returns the objects that new messages announce."""
        new: set[CreatedObject] = set()
        is_first = True
        while len(self._held) <= MAX_HELD_MESSAGES - BATCH_SIZE:
            answer = self._call(
                self._client.receive_message,
                MaxNumberOfMessages=BATCH_SIZE,
                VisibilityTimeout=VISIBILITY_TIMEOUT_SECONDS,
                WaitTimeSeconds=WAIT_TIME_SECONDS if is_first else 0,
            )
            messages, is_first = answer.get("Messages", []), False
            for message in messages:
                new |= self._hold(message)
            if not messages:
                break
        return new

    @property
    def objects(self) -> set[CreatedObject]:
        """The objects that the held messages announce."""
        return {obj for message in self._held.values() for obj in message.objects}

    def delete_ingested(self, is_ingested: Callable[[CreatedObject], bool]) -> int:
        """Delete the messages whose objects are all ingested and renew the others. Returns how many are left."""
        done = [name for name, message in self._held.items() if all(map(is_ingested, message.objects))]
        self._for_each_batch(done, self._client.delete_message_batch)
        for name in done:
            self._held.pop(name, None)
        self._for_each_batch(
            list(self._held),
            self._client.change_message_visibility_batch,
            VisibilityTimeout=VISIBILITY_TIMEOUT_SECONDS,
        )
        return len(self._held)

    def depth(self) -> dict[str, int]:
        """Count, approximately, the messages that wait in the queue, are held, and are dead letters."""
        names = {"waiting": "ApproximateNumberOfMessages", "held": "ApproximateNumberOfMessagesNotVisible"}
        answer = self._call(self._client.get_queue_attributes, AttributeNames=list(names.values()))["Attributes"]
        depth = {what: int(answer[name]) for what, name in names.items()}
        if self._dead_letter_url:
            waiting = names["waiting"]
            dead = self._call(self._client.get_queue_attributes, url=self._dead_letter_url, AttributeNames=[waiting])
            depth["dead"] = int(dead["Attributes"][waiting])
        return depth

    def _hold(self, message: dict[str, Any]) -> frozenset[CreatedObject]:
        """Hold a message. One that can't be read becomes a dead letter."""
        try:
            objects = frozenset(created_objects(message["Body"]))
        except UnreadableMessageError as error:
            self._move_to_dead_letters(message, str(error))
            return frozenset()
        self._held[message["MessageId"]] = HeldMessage(message["ReceiptHandle"], objects)
        return objects

    def _move_to_dead_letters(self, message: dict[str, Any], reason: str) -> None:
        body = message["Body"]
        if self._dead_letter_url is None:
            log.error(
                "A message in %s can't be read and stays there, because LAKEHOUSE_QUEUE_DEAD_LETTER_URL is not set: %s. %s",
                self._url, reason, body[:500],
            )  # fmt: skip
            return
        log.error("A message in %s can't be read and was moved to the dead letters: %s.", self._url, reason)
        fifo = {"MessageGroupId": "lakehouse", "MessageDeduplicationId": message["MessageId"]}
        self._call(
            self._client.send_message,
            url=self._dead_letter_url,
            MessageBody=body,
            MessageAttributes={"reason": {"DataType": "String", "StringValue": reason[:1000]}},
            **(fifo if self._dead_letter_url.endswith(".fifo") else {}),
        )
        # Deleted last, so that a crash between the two leaves the message twice and never loses it.
        self._call(self._client.delete_message, ReceiptHandle=message["ReceiptHandle"])

    def _for_each_batch(self, names: list[str], method: Callable[..., Any], **more: Any) -> None:
        """Apply a batch method to messages. A message that SQS refuses is dropped, because it will be received again."""
        for batch in _batches(names):
            ids = {str(i): name for i, name in enumerate(batch)}
            entries = [{"Id": i, "ReceiptHandle": self._held[name].receipt, **more} for i, name in ids.items()]
            for failure in self._call(method, Entries=entries).get("Failed", []):
                self._held.pop(ids[failure["Id"]], None)

    def _call(self, method: Callable[..., Any], *, url: str | None = None, **request: Any) -> Any:
        url = url or self._url
        try:
            return method(QueueUrl=url, **request)
        except (ClientError, BotoCoreError) as error:
            advice = _ADVICE.get(error_code(error)) or explain(error) or str(error)
            raise LakehouseError(f"Can't use the queue {url}: {advice.rstrip('.')}.") from error


def _batches(names: list[str]) -> Iterator[list[str]]:
    return (names[at : at + BATCH_SIZE] for at in range(0, len(names), BATCH_SIZE))


def keys_in(objects: Iterable[CreatedObject], bucket: str, folder: str) -> set[str]:
    """Return the keys of those objects that are in this bucket and folder."""
    return {obj.key for obj in objects if obj.bucket == bucket and obj.key.startswith(f"{folder}/")}
