"""Messages received and not yet dealt with. They stay in the queue, unseen by others, until what they tell of is safe.

Nothing here outlives the process: when it dies, its messages are seen again some minutes later.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lakehouse.errors import LakehouseError
from lakehouse.sources.sqs.messages import Created, UnreadableMessageError, created

MOST = 2_000
"""Messages held at most; more are received when these are dealt with."""

UNSEEN = 300
"""Seconds for which a held message is kept from being received again; renewed while it is held."""

WAIT = 1
"""Seconds to wait for a first message: any wait has SQS ask all of its servers."""

BATCH = 10
"""Messages in one request, SQS's own limit."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Message:
    """A message that is held: the handle to it, and the objects it tells of."""

    receipt: str
    objects: frozenset[Created]


class Inbox:
    """The messages of one queue. Methods raise LakehouseError when SQS can't be asked."""

    def __init__(self, client: Any, url: str, dead_letter_url: str | None = None) -> None:
        self._client = client
        self._url = url
        self._dead_letters = dead_letter_url
        self._held: dict[str, Message] = {}

    def receive(self) -> set[Created]:
        """Receive what there is, as far as it can be held; the objects that new messages tell of."""
        new: set[Created] = set()
        is_first = True
        while len(self._held) <= MOST - BATCH:
            answer = self._ask(
                self._client.receive_message,
                MaxNumberOfMessages=BATCH,
                VisibilityTimeout=UNSEEN,
                WaitTimeSeconds=WAIT if is_first else 0,
            )
            messages, is_first = answer.get("Messages", []), False
            for message in messages:
                new |= self._take(message)
            if not messages:
                break
        return new

    @property
    def objects(self) -> set[Created]:
        """The objects that the held messages tell of."""
        return {one for message in self._held.values() for one in message.objects}

    def settle(self, is_safe: Callable[[Created], bool]) -> int:
        """Delete the messages all of whose objects are safe, and keep the others from being seen; how many are left."""
        done = [name for name, message in self._held.items() if all(map(is_safe, message.objects))]
        self._for_all(done, self._client.delete_message_batch)
        for name in done:
            self._held.pop(name, None)
        self._for_all(list(self._held), self._client.change_message_visibility_batch, VisibilityTimeout=UNSEEN)
        return len(self._held)

    def depth(self) -> dict[str, int]:
        """About how many messages wait in the queue, are held by somebody, and are dead letters."""
        names = {"waiting": "ApproximateNumberOfMessages", "held": "ApproximateNumberOfMessagesNotVisible"}
        answer = self._ask(self._client.get_queue_attributes, AttributeNames=list(names.values()))["Attributes"]
        found = {what: int(answer[name]) for what, name in names.items()}
        if self._dead_letters:
            waiting = names["waiting"]
            dead = self._ask(self._client.get_queue_attributes, url=self._dead_letters, AttributeNames=[waiting])
            found["dead"] = int(dead["Attributes"][waiting])
        return found

    def _take(self, message: dict[str, Any]) -> frozenset[Created]:
        """Hold a message; one that can't be understood becomes a dead letter."""
        try:
            objects = frozenset(created(message["Body"]))
        except UnreadableMessageError as problem:
            self._bury(message, str(problem))
            return frozenset()
        self._held[message["MessageId"]] = Message(message["ReceiptHandle"], objects)
        return objects

    def _bury(self, message: dict[str, Any], reason: str) -> None:
        body = message["Body"]
        if self._dead_letters is None:
            log.error(
                "A message in %s can't be understood and stays there, for LAKEHOUSE_QUEUE_DEAD_LETTER_URL is not set: %s. %s",
                self._url, reason, body[:500],
            )  # fmt: skip
            return
        log.error("A message in %s can't be understood and is a dead letter now: %s.", self._url, reason)
        in_order = {"MessageGroupId": "lakehouse", "MessageDeduplicationId": message["MessageId"]}
        self._ask(
            self._client.send_message,
            url=self._dead_letters,
            MessageBody=body,
            MessageAttributes={"reason": {"DataType": "String", "StringValue": reason[:1000]}},
            **(in_order if self._dead_letters.endswith(".fifo") else {}),
        )
        # Only now: whoever dies between the two leaves it twice, never not at all.
        self._ask(self._client.delete_message, ReceiptHandle=message["ReceiptHandle"])

    def _for_all(self, names: list[str], method: Callable[..., Any], **more: Any) -> None:
        """Do this to messages; one that is not ours any longer is let go of, for it will be received again."""
        for batch in _batches(names):
            ids = {str(i): name for i, name in enumerate(batch)}
            entries = [{"Id": i, "ReceiptHandle": self._held[name].receipt, **more} for i, name in ids.items()]
            for failure in self._ask(method, Entries=entries).get("Failed", []):
                self._held.pop(ids[failure["Id"]], None)

    def _ask(self, method: Callable[..., Any], *, url: str | None = None, **request: Any) -> Any:
        url = url or self._url
        try:
            return method(QueueUrl=url, **request)
        except ClientError as problem:
            code = problem.response["Error"]["Code"]
            advice = {
                "AWS.SimpleQueueService.NonExistentQueue": "there is no such queue; mend LAKEHOUSE_QUEUE_URL",
                "QueueDoesNotExist": "there is no such queue; mend LAKEHOUSE_QUEUE_URL",
                "AccessDenied": "access is denied; allow sqs:ReceiveMessage, DeleteMessage, ChangeMessageVisibility,"
                " GetQueueAttributes, and SendMessage to the dead letters",
            }
            raise LakehouseError(f"Can't use the queue {url}: {advice.get(code, str(problem))}.") from problem
        except BotoCoreError as problem:
            raise LakehouseError(f"Can't use the queue {url}: {problem}.") from problem


def _batches(names: list[str]) -> Iterator[list[str]]:
    return (names[at : at + BATCH] for at in range(0, len(names), BATCH))


def keys_in(objects: Iterable[Created], bucket: str, folder: str) -> set[str]:
    """The keys of those objects that are in this bucket and folder."""
    return {one.key for one in objects if one.bucket == bucket and one.key.startswith(f"{folder}/")}
