"""Append to the log, from any number of processes, and read it. `verify` is in `chain`.

The files are `audit_log/YYYY-MM.ndjson` under the home, and `head.json`, which names the last entry. A file is only ever
appended to. All processes of a home write one chain, under one lock.
"""

import getpass
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from lakehouse.audit_log.entries import GENESIS, Entry, Event
from lakehouse.processes.atomic_file import write_private
from lakehouse.processes.home import private_home
from lakehouse.settings import Settings

LOCK_SECONDS = 30.0
FLUSH_SECONDS = 1.0
MAX_WAITING = 10_000
"""Events that may wait for the next flush."""

TAIL_BYTES = 1 << 16
RECOVERED, LOST = "recovered", "lost"

log = logging.getLogger(__name__)


def log_folder(settings: Settings) -> Path:
    """Return the folder of the log."""
    return settings.root / "audit_log"


def segments(settings: Settings) -> list[Path]:
    """List the files of the log, oldest first."""
    return sorted(log_folder(settings).glob("[0-9][0-9][0-9][0-9]-[0-9][0-9].ndjson"))


def read_entries(settings: Settings, after: int = 0) -> Iterator[tuple[str, Entry]]:
    """Yield the entries with a higher number, with the month of their file. Raises ValueError at one that was changed."""
    for path in segments(settings):
        for line in path.read_bytes().split(b"\n")[:-1]:
            entry = Entry.parse(line)
            if entry.number > after:
                yield path.stem, entry


End = tuple[int, str]
"""Number and hash of an entry."""


def read_head(settings: Settings) -> End | None:
    """Return the last entry as `head.json` names it; None if there is no such file, or it is damaged."""
    try:
        content = json.loads((log_folder(settings) / "head.json").read_bytes())
        return int(content["number"]), str(content["hash"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def command_line_user() -> str:
    """Return the actor of commands: the user of this process."""
    try:
        return f"user {getpass.getuser()}"
    except (OSError, KeyError):  # a container whose user has no name
        return f"user {os.getuid()}"


class AuditLog:
    """The log of one home, as one process writes it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._redact = _redactor(settings)
        self._waiting: list[Event] = []
        self._lock = threading.Lock()
        self._timer: threading.Thread | None = None
        self._closed = threading.Event()
        self._lost = 0

    def write(self, *events: Event) -> list[Entry]:
        """Append events, after those that wait, and return when they are on disk."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        return self._append([*waiting, *events])

    def record(self, event: Event) -> None:
        """Append an event within a second. Costs the caller next to nothing; a kill loses those of the last second.

        Events that wait because the log can't be written are bounded: an entry says how many were lost.
        """
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                self._lost += 1
                return
            self._waiting.append(event)
            if self._timer is None:
                self._timer = threading.Thread(target=self._flush_regularly, name="audit log", daemon=True)
                self._timer.start()

    def close(self) -> None:
        """Write what waits."""
        self._closed.set()
        self.write()

    def _flush_regularly(self) -> None:
        while not self._closed.wait(FLUSH_SECONDS):
            try:
                self.write()
            except Exception:  # the disk is full, or the lock is taken: they wait for the next time
                log.exception("The audit log could not be written; trying again")

    def _append(self, events: Sequence[Event]) -> list[Entry]:
        if self._lost:
            events = [*events, Event("lakehouse", LOST, "audit_log", {"events": self._lost})]
        if not events:
            return []
        self._lost = 0
        try:
            return self._append_locked([self._clean(event) for event in events])
        except BaseException:
            with self._lock:
                self._waiting[:0] = events
            raise

    def _clean(self, event: Event) -> Event:
        detail = json.loads(self._redact(json.dumps(event.detail, default=str, ensure_ascii=False)))
        return Event(event.actor, event.action, self._redact(event.subject), detail)

    def _append_locked(self, events: Sequence[Event]) -> list[Entry]:
        with _locked(self._settings) as folder:
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            number, previous, dropped = _end(self._settings)
            if dropped:
                unfinished = Event("lakehouse", RECOVERED, "audit_log", {"dropped_bytes": dropped})
                events = [unfinished, *events]
            entries = []
            for event in events:
                number += 1
                entry = Entry.make(number, previous, at, event)
                previous = entry.hash
                entries.append(entry)
            path = folder / f"{at[:7]}.ndjson"
            if existing := segments(self._settings):
                path = max(path, existing[-1])  # a clock that was set back opens no earlier file
            _append_bytes(path, b"".join(entry.line + b"\n" for entry in entries))
            write_private(folder / "head.json", json.dumps({"number": number, "hash": previous}))
        return entries


@contextmanager
def _locked(settings: Settings) -> Iterator[Path]:
    private_home(settings)
    folder = log_folder(settings)
    folder.mkdir(mode=0o700, exist_ok=True)
    with FileLock(folder / "lock", timeout=LOCK_SECONDS):
        yield folder


def _append_bytes(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _end(settings: Settings) -> tuple[int, str, int]:
    """Return number and hash of the last entry, and the bytes of an unfinished one after it, which are dropped."""
    existing = segments(settings)
    if not existing:
        return 0, GENESIS, 0
    path, dropped = existing[-1], 0
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        tail = b""
        while size > len(tail) and tail.count(b"\n", 0, -1) < 1:
            start = max(0, size - len(tail) - TAIL_BYTES)
            file.seek(start)
            tail = file.read(size - start)
        whole = tail.rfind(b"\n") + 1
        if dropped := len(tail) - whole:
            file.truncate(size - dropped)
            os.fsync(file.fileno())
            tail = tail[:whole]
    lines = tail.split(b"\n")[:-1]
    if not lines:  # a kill has left an empty file
        path.unlink()
        number, previous, more = _end(settings)
        return number, previous, dropped + more
    try:
        values = json.loads(lines[-1])
        return int(values["number"]), str(values["hash"]), dropped
    except (ValueError, KeyError, TypeError):  # it was changed: the chain goes on, and `verify` finds it
        number, digest = read_head(settings) or (0, GENESIS)
        return number, digest, dropped


def _redactor(settings: Settings) -> Callable[[str], str]:
    """Return a function that replaces the values of secret settings."""
    secrets = sorted(
        {
            text
            for name in type(settings).model_fields
            if (read := getattr(getattr(settings, name), "get_secret_value", None)) is not None
            if len(text := read()) >= 4
        }
        | ({settings.webhook_url} if settings.webhook_url else set()),
        key=len,
        reverse=True,
    )

    def redact(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "***").replace(json.dumps(secret)[1:-1], "***")
        return text

    return redact
