"""The one writer of raw events as objects, and the listing of what has landed. Rows are not read here."""

import asyncio
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import count

import obstore
import pyarrow as pa

from lakehouse.errors import StorageUnavailableError
from lakehouse.landing.keys import (
    LandingObject,
    arrival,
    day_prefixes,
    hour_of,
    hour_prefixes,
    parse_hour,
    realtime_key,
)
from lakehouse.landing.upload import upload
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.errors import AlreadyThereError, explained
from lakehouse.storage.objects.store import ObjectInfo, Objects, open_store

__all__ = [
    "AsyncLanding",
    "LandingObject",
    "arrival",
    "days_landed",
    "hours_landed",
    "land",
    "land_under",
    "list_day",
    "list_days",
    "list_hour",
    "list_incoming",
    "list_realtime_day",
    "packed_key",
    "upload",
]

_numbers = count()

COMPRESSED_FROM = 128 << 10
"""Bytes of a group of requests from which it is stored as zstd: a third of the work that storing it plain is,
for SeaweedFS takes some 12 ms of a core for each MiB."""

PATIENCE = 5.0
"""Seconds for which a client of the HTTP server is kept waiting while storage does not answer."""


def land(objects: Objects, stream: str, lines: bytes, *, now: datetime | None = None) -> LandingObject:
    """Store raw NDJSON lines as one new object that arrived `now`. When this returns they are stored.

    Raises what Objects.put raises, and then it is not known whether they are stored; landing them again is safe, for
    an event that is there twice has one key.
    """
    at = now or datetime.now(UTC)
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    key = realtime_key(stream, at, _writer(os.getpid()), next(_numbers))
    if not objects.put(key, lines, if_absent=True) and objects.get(key) != lines:
        # No other writer has our number; what is there is ours when an answer was lost and the client tried again.
        raise StorageUnavailableError(f"Another writer took the key {key}; land the events again.")
    return LandingObject(key, stream, at, len(lines))


def land_under(objects: Objects, key: str, content: bytes) -> bool:
    """Store lines under a landing key that was settled beforehand; one that ends in `.zst` is compressed.

    False when there is an object under it: then whoever settled the key has stored the same lines. Raises what
    Objects.put raises, and then doing it again is safe.
    """
    return objects.put(key, _compressed(content) if key.endswith(".zst") else content, if_absent=True)


class AsyncLanding:
    """`land` for an event loop: the same names, the same promises."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._objects = Objects.from_connection(connection)
        self._store = open_store(connection, PATIENCE)

    async def land(self, stream: str, lines: Sequence[bytes], at: datetime) -> LandingObject:
        """Store pieces of NDJSON lines as one new object that arrived `at`, aware. When this returns they are stored.

        Raises what `land` raises.
        """
        key = realtime_key(stream, at, _writer(os.getpid()), next(_numbers))
        content = b"".join(lines)
        if (packed := packed_key(key, len(content))) != key:
            key, content = packed, await asyncio.to_thread(_compressed, content)
        try:
            with explained("write", key, self._connection):
                await obstore.put_async(self._store, key, content, mode="create", use_multipart=False)
        except AlreadyThereError as problem:
            if await asyncio.to_thread(self._objects.get, key) != content:
                raise StorageUnavailableError(f"Another writer took the key {key}; land the events again.") from problem
        return LandingObject(key, stream, at.astimezone(UTC), len(content))


def packed_key(key: str, size: int) -> str:
    """The key under which so many bytes land: that of a compressed object when it is worth it."""
    return f"{key}.zst" if size >= COMPRESSED_FROM else key


def _compressed(content: bytes) -> bytes:
    found: bytes = pa.Codec("zstd", compression_level=1).compress(content, asbytes=True)
    return found


@lru_cache(maxsize=1)
def _writer(pid: int) -> str:
    # By process, for a forked child must not go on under its parent's name.
    return secrets.token_hex(6)


def list_hour(objects: Objects, stream: str, hour: str) -> list[LandingObject]:
    """What landed under `realtime/` in an hour (`2025-11-20-14:00`), by key."""
    return _realtime(objects, stream, hour_prefixes(stream, parse_hour(hour)))


def list_realtime_day(objects: Objects, stream: str, day: date) -> list[LandingObject]:
    """What landed under `realtime/` on a day, by key."""
    return _realtime(objects, stream, day_prefixes(stream, day))


def list_incoming(objects: Objects, stream: str, *, since: datetime | None = None) -> list[LandingObject]:
    """Files that landed under `incoming/`, by key; with `since`, those that arrived then or later."""
    found = _landed(objects.list(f"incoming/{stream}"), stream)
    return sorted(landing for landing in found if since is None or landing.arrived_at >= since)


def list_day(objects: Objects, stream: str, day: date) -> list[LandingObject]:
    """Everything that landed on a day, by key."""
    return list_days(objects, stream, day, day)[day]


def list_days(objects: Objects, stream: str, first: date, last: date) -> dict[date, list[LandingObject]]:
    """Everything that landed on each day from `first` to `last`, by key; `incoming/` is listed once for all of them."""
    days = _days(first, last)
    found: dict[date, list[LandingObject]] = {day: [] for day in days}
    present = days if len(days) == 1 else days_landed(objects, stream, first, last)
    for day in present:
        found[day] = list_realtime_day(objects, stream, day)
    for landing in list_incoming(objects, stream):
        if landing.day in found:
            found[landing.day].append(landing)
    return {day: sorted(landings) for day, landings in found.items()}


def days_landed(objects: Objects, stream: str, first: date, last: date) -> list[date]:
    """Days from `first` to `last` with a folder under `realtime/`, found from the folders alone."""
    return sorted({hour.date() for hour in _hours(objects, _day_folders(objects, stream, first, last), "/hour=0/")})


def hours_landed(objects: Objects, stream: str, first: date, last: date) -> list[str]:
    """Hours (`2025-11-20-14:00`) of these days with a folder under `realtime/`, found from the folders alone."""
    folders = (hour for day in _day_folders(objects, stream, first, last) for hour in objects.folders(day))
    return sorted({f"{hour:%Y-%m-%d-%H}:00" for hour in _hours(objects, folders, "/")})


def _day_folders(objects: Objects, stream: str, first: date, last: date) -> Iterator[str]:
    for year in range(first.year, last.year + 1):
        for month in objects.folders(f"realtime/{stream}/year={year:04d}"):
            if _may_hold(f"{month}/day=1/hour=0/", first.replace(day=1), last):
                yield from (f for f in objects.folders(month) if _may_hold(f"{f}/hour=0/", first, last))


def _may_hold(key: str, first: date, last: date) -> bool:
    hour = hour_of(key)
    return hour is not None and first <= hour.date() <= last


def _hours(objects: Objects, folders: Iterable[str], rest: str) -> Iterator[datetime]:
    return (hour for folder in folders if (hour := hour_of(folder + rest)) is not None)


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _realtime(objects: Objects, stream: str, prefixes: Iterable[str]) -> list[LandingObject]:
    found = (landing for prefix in prefixes for landing in _landed(objects.list(prefix), stream))
    return sorted(landing for landing in found if hour_of(landing.key) is not None)


def _landed(found: Iterable[ObjectInfo], stream: str) -> Iterator[LandingObject]:
    """The objects with events in them: folder markers and empty objects have none."""
    for info in found:
        if info.size > 0:
            yield LandingObject(info.key, stream, arrival(info.key, info.modified), info.size)
