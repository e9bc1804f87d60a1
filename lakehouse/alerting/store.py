"""The state of alerts in the home: open causes, messages that wait to be sent, and what was reported before.

It is one SQLite database, and each change is one transaction that is synced to disk. So a process that is killed at any
point leaves a cause with all of its messages, or without any.
"""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lakehouse.alerting.message import Cause, Message
from lakehouse.processes.home import private_home
from lakehouse.settings import Settings

BUSY_SECONDS = 30.0
SEEN_SECONDS = 3 * 86400.0
"""How long the ids of what was reported are kept. Alerts older than two days are not fed again."""

SCHEMA = """
create table if not exists causes (
  kind text, key text, body blob not null, is_open integer not null, first_at real not null, fine_since real,
  count integer not null default 0, primary key (kind, key)
);
create table if not exists receivers (
  kind text, key text, receiver text, last_at real not null, count integer not null, primary key (kind, key, receiver)
);
create table if not exists outbox (
  number integer primary key autoincrement, receiver text not null, kind text not null, key text not null,
  body blob not null, next_at real not null, made_at real not null, attempts integer not null default 0, error text
);
create table if not exists reported (id text primary key, at real not null, body blob not null);
create table if not exists seen (id text primary key, at real not null);
create table if not exists cursors (name text primary key, value text not null);
create table if not exists sent (receiver text primary key, count integer not null, failures integer not null);
"""


@dataclass(slots=True)
class CauseRow:
    """A cause that is open, or that must last a while before it is."""

    cause: Cause
    is_open: bool
    first_at: float
    fine_since: float | None = None
    """Since when it seems resolved."""
    count: int = 0
    """Reports of it since it was seen first."""


@dataclass(frozen=True, slots=True)
class LastMessage:
    """The last message that a receiver got about a cause."""

    at: float
    count: int
    """The reports that there had been by then."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that waits to be sent."""

    number: int
    receiver: str
    message: Message
    next_at: float
    made_at: float
    attempts: int
    error: str | None


class Report(msgspec.Struct, frozen=True):
    """Something that has happened, reported by another process."""

    cause: Cause
    count: int = 1


def store_path(settings: Settings) -> Path:
    """Return the database's path."""
    return settings.root / "alerts" / "state.db"


def report(settings: Settings, report_id: str, cause: Cause) -> None:
    """Report a cause to the process that sends alerts, once for each id. Does nothing without a receiver."""
    if settings.alerts is not None or settings.webhook_url is not None:
        AlertStore(settings).report(report_id, time.time(), Report(cause))


class AlertStore:
    """The database of one home. Processes and threads may use it at once."""

    def __init__(self, settings: Settings) -> None:
        private_home(settings)
        self._path = store_path(settings)
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        with self._connect() as connection:
            connection.execute("pragma journal_mode=wal")
            connection.executescript(SCHEMA)
        self._path.chmod(0o600)

    @contextmanager
    def transaction(self) -> Iterator["Transaction"]:
        """Make all changes of the block, or none."""
        with self._connect() as connection:
            connection.execute("begin immediate")
            try:
                yield Transaction(connection)
            except BaseException:
                connection.execute("rollback")
                raise
            connection.execute("commit")

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
            connection.execute("pragma synchronous=full")
            yield connection

    def report(self, report_id: str, at: float, report: Report) -> None:
        """Report something once. A second call with the same id changes nothing."""
        with self._connect() as connection:
            connection.execute(
                "insert or ignore into reported select ?, ?, ? where not exists (select 1 from seen where id = ?)",
                (report_id, at, msgspec.json.encode(report), report_id),
            )

    def due(self, now: float) -> list[Waiting]:
        """Return the messages to send now: of each receiver and cause only the oldest one, so that their order stays."""
        return self._waiting(
            "next_at <= ? and not exists (select 1 from outbox as earlier where earlier.receiver = outbox.receiver"
            " and earlier.kind = outbox.kind and earlier.key = outbox.key and earlier.number < outbox.number)",
            now,
        )

    def waiting(self) -> list[Waiting]:
        """Return all messages that are not sent yet, oldest first."""
        return self._waiting("true")

    def _waiting(self, condition: str, *parameters: float) -> list[Waiting]:
        columns = "number, receiver, body, next_at, made_at, attempts, error"
        with self._connect() as connection:
            rows = connection.execute(f"select {columns} from outbox where {condition} order by number", parameters)
            return [
                Waiting(number, receiver, msgspec.json.decode(body, type=Message), *rest)
                for number, receiver, body, *rest in rows
            ]

    def open_causes(self) -> list[CauseRow]:
        """Return the causes that are open, oldest first."""
        with self._connect() as connection:
            causes = Transaction(connection).causes().values()
        return sorted((row for row in causes if row.is_open), key=lambda row: row.first_at)

    def sent_counts(self) -> list[tuple[str, int, int]]:
        """Return how many messages each receiver got, and how many attempts failed."""
        with self._connect() as connection:
            return connection.execute("select receiver, count, failures from sent order by receiver").fetchall()

    def mark_sent(self, waiting: Waiting) -> None:
        """Drop a message that its receiver has accepted."""
        with self.transaction() as transaction:
            transaction.drop(waiting)

    def mark_failed(self, waiting: Waiting, next_at: float, error: str) -> None:
        """Keep a message for another attempt."""
        with self.transaction() as transaction:
            transaction.postpone(waiting, next_at, error)


class Transaction:
    """Reads and changes that are one."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def causes(self) -> dict[tuple[str, str], CauseRow]:
        """Return all causes by kind and key."""
        rows = self._connection.execute("select kind, key, body, is_open, first_at, fine_since, count from causes")
        return {
            (kind, key): CauseRow(msgspec.json.decode(body, type=Cause), bool(is_open), first_at, fine_since, count)
            for kind, key, body, is_open, first_at, fine_since, count in rows
        }

    def save(self, row: CauseRow) -> None:
        """Write a cause."""
        self._connection.execute(
            "insert or replace into causes values (?, ?, ?, ?, ?, ?, ?)",
            (
                row.cause.kind, row.cause.key, msgspec.json.encode(row.cause), row.is_open, row.first_at, row.fine_since,
                row.count,
            ),
        )  # fmt: skip

    def forget(self, cause: Cause) -> None:
        """Drop a cause, with the record of messages about it."""
        for table in ("causes", "receivers"):
            self._connection.execute(f"delete from {table} where kind = ? and key = ?", (cause.kind, cause.key))

    def last_messages(self, cause: Cause) -> dict[str, LastMessage]:
        """Return the receivers that have, or will get, messages about a cause."""
        rows = self._connection.execute(
            "select receiver, last_at, count from receivers where kind = ? and key = ?", (cause.kind, cause.key)
        )
        return {receiver: LastMessage(last_at, count) for receiver, last_at, count in rows}

    def enqueue(self, receiver: str, message: Message, now: float, not_before: float, count: int) -> None:
        """Add a message to those that wait, and record it."""
        cause = message.cause
        self._connection.execute(
            "insert into outbox (receiver, kind, key, body, next_at, made_at) values (?, ?, ?, ?, ?, ?)",
            (receiver, cause.kind, cause.key, msgspec.json.encode(message), not_before, now),
        )
        self._connection.execute(
            "insert or replace into receivers values (?, ?, ?, ?, ?)", (cause.kind, cause.key, receiver, now, count)
        )

    def is_waiting(self, receiver: str, cause: Cause) -> bool:
        """Return whether a message about the cause waits to be sent to the receiver."""
        found = self._connection.execute(
            "select 1 from outbox where receiver = ? and kind = ? and key = ?", (receiver, cause.kind, cause.key)
        )
        return found.fetchone() is not None

    def oldest_waiting(self) -> dict[str, tuple[float, str | None]]:
        """Return, by receiver, when the oldest message that failed was made, and the error of its last attempt."""
        rows = self._connection.execute(
            "select receiver, min(made_at), error from outbox where attempts > 0 group by receiver"
        )
        return {receiver: (made_at, error) for receiver, made_at, error in rows}

    def drop(self, waiting: Waiting) -> None:
        """Drop a message that its receiver has accepted, and count it."""
        self._connection.execute("delete from outbox where number = ?", (waiting.number,))
        self._count(waiting.receiver, 1, 0)

    def postpone(self, waiting: Waiting, next_at: float, error: str) -> None:
        """Keep a message for another attempt, and count the failure."""
        self._connection.execute(
            "update outbox set next_at = ?, attempts = attempts + 1, error = ? where number = ?",
            (next_at, error, waiting.number),
        )
        self._count(waiting.receiver, 0, 1)

    def _count(self, receiver: str, sent: int, failures: int) -> None:
        self._connection.execute(
            "insert into sent values (?, ?, ?) on conflict (receiver) do update set count = count + excluded.count,"
            " failures = failures + excluded.failures",
            (receiver, sent, failures),
        )

    def drop_removed_receivers(self, kept: Sequence[str]) -> list[str]:
        """Drop the messages to receivers that the file no longer has. Return their names."""
        names = [name for (name,) in self._connection.execute("select distinct receiver from outbox")]
        removed = sorted({*names} - {*kept})
        for name in removed:
            self._connection.execute("delete from outbox where receiver = ?", (name,))
        for table in ("receivers", "sent"):
            marks = ", ".join("?" * len(kept))
            self._connection.execute(f"delete from {table} where receiver not in ({marks})", [*kept])
        return removed

    def take_reports(self, now: float) -> list[Report]:
        """Take what other processes have reported, each once."""
        rows = self._connection.execute("select id, body from reported order by at").fetchall()
        if rows:
            self.add_seen([report_id for report_id, _ in rows], now)
            self._connection.execute("delete from reported")
        return [msgspec.json.decode(body, type=Report) for _, body in rows]

    def unseen(self, ids: Sequence[str]) -> set[str]:
        """Return the ids that were not added yet."""
        known = "select id from seen where id = ?"
        return {each for each in ids if self._connection.execute(known, (each,)).fetchone() is None}

    def add_seen(self, ids: Sequence[str], now: float) -> None:
        """Add ids, and drop old ones."""
        self._connection.executemany("insert or replace into seen values (?, ?)", [(each, now) for each in ids])
        self._connection.execute("delete from seen where at < ?", (now - SEEN_SECONDS,))

    def cursor(self, name: str) -> str | None:
        """Return how far something was read; None if it was not."""
        row = self._connection.execute("select value from cursors where name = ?", (name,)).fetchone()
        return row[0] if row else None

    def set_cursor(self, name: str, value: str) -> None:
        """Record how far something was read."""
        self._connection.execute("insert or replace into cursors values (?, ?)", (name, value))
