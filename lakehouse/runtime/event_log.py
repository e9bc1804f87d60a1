"""Dagster's event log storage on SQLite, fast enough for thousands of events a run.

Dagster's own storage makes an engine for every statement, which compiles each one anew, and closes the last connection
after it, which makes SQLite copy its log into the database and sync both: some 10 ms an event. Here connections stay
open, an event and all that follows from it is one transaction, and the log is synced at checkpoints only. A crash of the
machine may lose the last moments of history but never its consistency; a crash of a process loses nothing.

`event_log_storage` in dagster.yaml is a documented extension point, but Dagster 1.13 does not export its base classes,
hence `dagster._core`. Dagster is pinned below 1.14; the tests compare this storage with Dagster's own.
"""

import inspect
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy
from dagster import DagsterEventType, EventLogEntry
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
from dagster._core.storage.event_log.migration import ASSET_DATA_MIGRATIONS, EVENT_LOG_DATA_MIGRATIONS
from dagster._core.storage.event_log.schema import (
    AssetKeyTable,
    SecondaryIndexMigrationTable,
    SqlEventLogStorageMetadata,
    SqlEventLogStorageTable,
)
from dagster._core.storage.sql import AlembicVersion, check_alembic_revision, get_alembic_config, stamp_alembic_rev
from filelock import FileLock
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection, Engine
from watchdog.events import FileSystemEvent, PatternMatchingEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

BUSY_SECONDS = 60
"""How long a writer waits for others: daemon, page, runs and commands write to one database."""

_INSERT = SqlEventLogStorageTable.insert()

StoredEvent = tuple[EventLogEntry, int]
"""An event and the id under which it is stored."""


class PooledSqliteEventLogStorage(ConsolidatedSqliteEventLogStorage):
    """Store the events of all runs in one SQLite database, `event_log.db` in `base_dir`, with ids in one order."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        self._path = Path(base_dir) / "event_log.db"
        self._engines: dict[int, Engine] = {}
        self._joined = threading.local()
        self._tables: set[str] = set()
        self._watch_lock = threading.RLock()
        self._observer: BaseObserver | None = None
        super().__init__(base_dir, inst_data)

    @property
    def _engine(self) -> Engine:
        # A SQLite connection must not cross a fork, so each process opens its own.
        process = os.getpid()
        if process not in self._engines:
            self._engines[process] = _open(self._path)
        return self._engines[process]

    def _init_db(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self._path}.lock"):
            if not self._path.exists():
                _create(self._path)

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        joined = getattr(self._joined, "connection", None)
        if joined is not None:
            yield joined
        else:
            with self._engine.begin() as connection:
                yield connection

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Open a transaction that every statement of this thread joins until it ends."""
        with self._engine.begin() as connection:
            self._joined.connection = connection
            try:
                yield connection
            finally:
                del self._joined.connection

    def has_table(self, table_name: str) -> bool:
        """Return whether the table exists. A table is never dropped, so the answer is cached."""
        if table_name not in self._tables:
            with self._connect() as connection:
                if not sqlalchemy.inspect(connection).has_table(table_name):
                    return False
            self._tables.add(table_name)
        return True

    def alembic_version(self) -> AlembicVersion:
        """Return the schema revision of the database and of this Dagster, for `dagster instance migrate`."""
        with self._connect() as connection:
            return check_alembic_revision(_migrations(), connection)

    def dispose(self) -> None:
        """Stop watching and close this process's connections."""
        if self._observer:
            self._observer.stop()
            self._observer.join(timeout=15)
        if engine := self._engines.pop(os.getpid(), None):
            engine.dispose()

    def store_event(self, event: EventLogEntry) -> None:
        """Store one event with what follows from it, or nothing."""
        self.store_event_batch([event])

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events with what follows from them (asset index, tags, checks), all or nothing."""
        with self._transaction() as connection:
            stored = [(event, _insert(connection, self._event_to_row(event))) for event in events]
            about_assets = [(event, id_) for event, id_ in stored if _asset_key(event) is not None]
            self._store_asset_event_tags(
                connection, [event for event, _ in about_assets], [id_ for _, id_ in about_assets]
            )
            self._index_assets(connection, about_assets)
            for event, id_ in stored:
                if event.dagster_event_type in ASSET_CHECK_EVENTS:
                    self.store_asset_check_event(event, id_)

    def _index_assets(self, connection: Connection, stored: Iterable[StoredEvent]) -> None:
        entries: dict[str, dict[str, Any]] = {}
        for key, (event, id_) in _last_of_each_kind(stored):
            entries.setdefault(key, {}).update(self._get_asset_entry_values(event, id_, has_asset_key_index_cols=True))
        for key, entry in entries.items():
            if entry:
                upsert = sqlite.insert(AssetKeyTable).values(asset_key=key, **entry)
                connection.execute(upsert.on_conflict_do_update(index_elements=["asset_key"], set_=entry))

    def wipe(self) -> None:
        """Delete everything but pool limits, as Dagster's default storage does (its consolidated storage differs)."""
        self._wipe_index()  # type: ignore[no-untyped-call]

    def watch(self, run_id: str, cursor: str | None, callback: Any) -> None:
        """Call back with each event of a run after the cursor, including those already stored."""
        with self._watch_lock:
            if not self._observer:
                self._observer = Observer()
                self._observer.schedule(_LogWatch(self, self._path), str(self._path.parent))
                self._observer.start()
            self._watchers[run_id][callback] = cursor
        self.on_modified()

    def end_watch(self, run_id: str, handler: Any) -> None:
        """Stop calling back."""
        with self._watch_lock:
            super().end_watch(run_id, handler)  # type: ignore[no-untyped-call]

    def on_modified(self) -> None:
        """Pass new events to the watchers, each once."""
        with self._watch_lock:
            super().on_modified()  # type: ignore[no-untyped-call]


class _LogWatch(PatternMatchingEventHandler):
    """Watch the database's log as well, because the database itself changes at checkpoints only."""

    def __init__(self, history: PooledSqliteEventLogStorage, path: Path) -> None:
        super().__init__(patterns=[str(path), f"{path}-wal"])
        self._history = history

    def on_modified(self, event: FileSystemEvent) -> None:
        self._history.on_modified()


def _asset_key(event: EventLogEntry) -> str | None:
    """Return the key of the asset that an event is indexed under, if it is about an asset."""
    if event.dagster_event is None or event.dagster_event_type not in ASSET_EVENTS:
        return None
    key = event.dagster_event.asset_key
    return key.to_string() if key else None


def _last_of_each_kind(stored: Iterable[StoredEvent]) -> Iterator[tuple[str, StoredEvent]]:
    """Return each asset's last event of each type, in order. Indexing them has the same result as indexing all."""
    last: dict[tuple[str, DagsterEventType | None], StoredEvent] = {}
    for event, id_ in stored:
        key = _asset_key(event)
        assert key is not None
        last.pop((key, event.dagster_event_type), None)
        last[key, event.dagster_event_type] = event, id_
    for (key, _), latest in last.items():
        yield key, latest


def _insert(connection: Connection, row: dict[str, Any]) -> int:
    key = connection.execute(_INSERT, row).inserted_primary_key
    assert key is not None
    return int(key[0])


def _open(path: Path) -> Engine:
    engine = sqlalchemy.create_engine(
        f"sqlite:///{path}", pool_size=5, max_overflow=-1, connect_args={"timeout": BUSY_SECONDS}
    )

    @sqlalchemy.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")

    return engine


def _create(path: Path) -> None:
    """Create the database under a temporary name and rename it, so that it never exists half-made."""
    draft = path.with_suffix(".draft")
    for stale in path.parent.glob(f"{draft.name}*"):
        stale.unlink()
    engine = _open(draft)
    SqlEventLogStorageMetadata.create_all(engine)
    done = datetime.now(UTC).replace(tzinfo=None)
    with engine.begin() as connection:
        stamp_alembic_rev(_migrations(), connection)
        # An empty database has nothing to migrate.
        connection.execute(
            SecondaryIndexMigrationTable.insert(),
            [{"name": n, "migration_completed": done} for n in (*EVENT_LOG_DATA_MIGRATIONS, *ASSET_DATA_MIGRATIONS)],
        )
    engine.dispose()
    draft.rename(path)


def _migrations() -> Any:
    return get_alembic_config(inspect.getfile(ConsolidatedSqliteEventLogStorage))
