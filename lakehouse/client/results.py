"""The typed answers of the server. Fields that a newer server adds are ignored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec


class Rejection(msgspec.Struct, frozen=True):
    """A reason for which an event is rejected. The event is stored, in `quarantine.{stream}` with its text."""

    row: int
    """The event's number among those that were sent, from 1. Blank lines do not count."""
    field: str | None
    """The contract's field; None when the event as a whole is at fault."""
    reason: str
    """The words of the quarantine table."""


class Receipt(msgspec.Struct, frozen=True):
    """The place where the events of one request are stored."""

    object: str
    """Key of the landing object, which `Client.withdraw` takes."""
    first_row: int
    last_row: int
    arrived_at: datetime


@dataclass(frozen=True, slots=True)
class SendResult:
    """Events that the server has stored. The sum of two results is that of both sends."""

    requests: int = 0
    events: int = 0
    """Events stored: accepted and rejected ones."""
    accepted: int = 0
    """Events that keep to the contract."""
    rejected: int = 0
    """Events that break the contract and go to quarantine. Sending them again changes nothing."""
    replayed: int = 0
    """Events among these that an earlier request with the same idempotency key had stored. They are not stored twice."""
    durable: bool = True
    """Whether the events are on disk, so that they survive a power cut."""
    rejections: tuple[Rejection, ...] = ()
    """Reasons by row, at most 1,000 of each request."""
    receipts: tuple[Receipt, ...] = ()

    def __add__(self, other: "SendResult") -> "SendResult":
        return SendResult.sum([self, other])

    @classmethod
    def sum(cls, results: Sequence["SendResult"]) -> "SendResult":
        """Add up the results of sends that followed each other."""
        events = 0
        rejections: list[Rejection] = []
        for result in results:
            rejections += result.after(events).rejections
            events += result.events
        return cls(
            sum(result.requests for result in results),
            events,
            sum(result.accepted for result in results),
            sum(result.rejected for result in results),
            sum(result.replayed for result in results),
            all(result.durable for result in results),
            tuple(rejections),
            tuple(receipt for result in results for receipt in result.receipts),
        )

    def after(self, events: int) -> "SendResult":
        """Return this result with rows that are counted from `events` earlier ones on."""
        if not self.rejections or not events:
            return self
        moved = (msgspec.structs.replace(rejection, row=rejection.row + events) for rejection in self.rejections)
        return replace(self, rejections=tuple(moved))


class Statistics(msgspec.Struct, frozen=True):
    """The numbers of one query."""

    rows: int
    truncated: bool
    """Whether there are more rows than the limit allowed."""
    seconds: float
    bytes: int
    """Size of the rows in memory, uncompressed."""
    snapshots: dict[str, str | None]
    """The snapshot id of each table that was read; None for an empty table."""


class TableInfo(msgspec.Struct, frozen=True):
    """A table or view."""

    name: str
    """The name to use in SQL, `layer.name`."""
    snapshot: str | None
    """The current snapshot id; None for views and empty tables."""


class QueryParameter(msgspec.Struct, frozen=True):
    """A parameter of a named query."""

    name: str
    type: str
    """text, integer, number, boolean, date or timestamp."""
    description: str
    required: bool
    default: Any = None
    enum: list[str] | None = None
    minimum: float | None = None
    maximum: float | None = None


class QueryInfo(msgspec.Struct, frozen=True):
    """A named query and its parameters."""

    name: str
    description: str
    path: str
    parameters: list[QueryParameter]


class LookupInfo(msgspec.Struct, frozen=True):
    """A look-up and its key."""

    name: str
    description: str
    key: str
    """The column by which rows are looked up."""
    path: str


class AlertPage(msgspec.Struct, frozen=True):
    """A page of alerts."""

    alerts: list[dict[str, Any]]
    next: str
    """Pass it as `since` of the next call, with the same stream, to receive every following alert exactly once."""


class Withdrawal(msgspec.Struct, frozen=True):
    """Landing objects of one stream, withdrawn or to withdraw."""

    stream: str
    objects: Mapping[str, int]
    """Rows by landing object."""
    days: str
    """Event dates of the rows."""
    record: str | None
    """The key of the record; None for a dry run."""


class Health(msgspec.Struct, frozen=True):
    """The health of a server that can store events."""

    status: str
    warnings: list[str] = []
    """Objects under `incoming/` that are not read, and why."""
