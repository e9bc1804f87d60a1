"""Open and resolve causes, and make the messages about them: one for a cause, again after a while, and one at its end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from lakehouse.alerting.config import AlertsConfig
from lakehouse.alerting.message import Cause, Message, MessageState
from lakehouse.alerting.observations import Observation
from lakehouse.alerting.store import CauseRow, LastMessage, Transaction

HOLD_SECONDS: Mapping[str, float] = {
    "data_late": 300.0,
    "process_down": 30.0,
    "ingest_down": 30.0,
    "metrics_old": 30.0,
    "table_unreadable": 60.0,
    "run_failure": 30.0,
}
"""How long a cause must last before it opens. The supervisor restarts a process that ended in two seconds."""

CLEAR_SECONDS = 120.0
"""How long a cause must be gone before it is resolved, so that one that comes and goes is one cause."""

RUN_CLEAR_SECONDS = 10.0
"""The same of a failed run, which another run makes good once and for all. Numbers are that much older than reports."""


REPORTED = frozenset({"stream_alert", "run_failure"})
"""Kinds of causes of which a receiver gets another message only if there are new reports."""


@dataclass(frozen=True, slots=True)
class _Recipient:
    """When a receiver may get a message about a cause, and how often."""

    repeat_seconds: float
    not_before: float


def advance(
    transaction: Transaction, observations: Sequence[Observation], config: AlertsConfig, now: float
) -> list[Message]:
    """Bring the causes up to date with what is observed, and enqueue messages. Return those."""
    known = transaction.causes()
    made: list[Message] = []
    for observation in observations:
        place = observation.cause.kind, observation.cause.key
        row = known.get(place)
        if observation.is_firing:
            known[place] = _seen(transaction, row, observation, now)
        elif row is not None and _is_over(transaction, row, config, now):
            made += _resolve(transaction, row, config, now)
            del known[place]
    for row in known.values():
        if row.is_open and (row.fine_since is None or row.cause.kind in REPORTED):
            made += _notify(transaction, row, config, now)
    return made


def _seen(transaction: Transaction, row: CauseRow | None, observation: Observation, now: float) -> CauseRow:
    """Write that a cause is there, if that changes anything."""
    cause = observation.cause
    before = None if row is None else (row.is_open, row.fine_since, row.count)
    if row is None:
        row = CauseRow(cause, False, now)
    row.fine_since = None
    row.count += observation.count
    if not row.is_open:
        row.is_open = observation.count > 0 or now - row.first_at >= HOLD_SECONDS.get(cause.kind, 0.0)
    # A number has no details, and must not remove those of a report.
    row.cause = cause if cause.details or not row.cause.details else row.cause
    if before != (row.is_open, row.fine_since, row.count):
        transaction.save(row)
    return row


def _is_over(transaction: Transaction, row: CauseRow, config: AlertsConfig, now: float) -> bool:
    """Return whether a cause has been gone long enough. One that was never open is over at once."""
    if not row.is_open:
        return True
    if row.fine_since is None:
        row.fine_since = now
        transaction.save(row)
    return now - row.fine_since >= _clear_seconds(row.cause, config)


def _resolve(transaction: Transaction, row: CauseRow, config: AlertsConfig, now: float) -> list[Message]:
    """Drop a cause, and enqueue a message to each receiver that has one about it."""
    made: list[Message] = []
    last_messages, recipients = transaction.last_messages(row.cause), _recipients(row.cause, config, now)
    for receiver in (name for name in config.receivers if name in last_messages):
        not_before = recipients[receiver].not_before if receiver in recipients else now
        message = _message("resolved", row, now, row.count - last_messages[receiver].count)
        transaction.enqueue(receiver, message, now, not_before, row.count)
        made.append(message)
    transaction.forget(row.cause)
    return made


def _clear_seconds(cause: Cause, config: AlertsConfig) -> float:
    if cause.kind == "stream_alert":
        return config.quiet_seconds
    return RUN_CLEAR_SECONDS if cause.kind == "run_failure" else CLEAR_SECONDS


def _notify(transaction: Transaction, row: CauseRow, config: AlertsConfig, now: float) -> list[Message]:
    """Enqueue the first message to receivers without one, and another to those whose last one is old."""
    last_messages, made = transaction.last_messages(row.cause), []
    for receiver, recipient in _recipients(row.cause, config, now).items():
        last = last_messages.get(receiver)
        if last is not None and not _is_due(transaction, row, receiver, recipient, last, now):
            continue
        new = row.count - (last.count if last else 0)
        message = _message("again" if last else "open", row, now, new)
        transaction.enqueue(receiver, message, now, recipient.not_before, row.count)
        made.append(message)
    return made


def _is_due(
    transaction: Transaction, row: CauseRow, receiver: str, recipient: _Recipient, last: LastMessage, now: float
) -> bool:
    if now - last.at < recipient.repeat_seconds:
        return False
    if row.cause.kind in REPORTED and row.count == last.count:
        return False
    return not transaction.is_waiting(receiver, row.cause)


def _recipients(cause: Cause, config: AlertsConfig, now: float) -> dict[str, _Recipient]:
    """Return the receivers of a cause: each by the rule that lets it send soonest and most often."""
    recipients: dict[str, _Recipient] = {}
    at = datetime.fromtimestamp(now, UTC)
    for rule in config.rules:
        if not rule.matches(cause.kind, cause.severity, cause.stream, cause.owner):
            continue
        opens = max(now, rule.hours.next_open(at).timestamp())
        for receiver in rule.receivers:
            if cause.kind == "receiver_down" and receiver == cause.key:
                continue
            other = recipients.get(receiver, _Recipient(rule.repeat_seconds, opens))
            recipients[receiver] = _Recipient(
                min(rule.repeat_seconds, other.repeat_seconds), min(opens, other.not_before)
            )
    return recipients


def _message(state: MessageState, row: CauseRow, now: float, count: int) -> Message:
    since, at = (datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds") for time in (row.first_at, now))
    return Message(id=uuid4().hex, state=state, cause=row.cause, since=since, at=at, count=count)
