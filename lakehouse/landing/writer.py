"""The one writer of landing objects. See `listing` for finding them and `readers` for their rows."""

import asyncio
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count

import obstore
import pyarrow as pa

from lakehouse.errors import StorageUnavailableError
from lakehouse.landing.keys import LandingObject, realtime_key
from lakehouse.landing.shared import fits_name, sections, shared_key
from lakehouse.storage.durability import acknowledge
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.errors import ObjectExistsError, translate_errors
from lakehouse.storage.objects.store import Objects, open_store

_numbers = count()

MIN_COMPRESSED_BYTES = 128 << 10
"""Larger objects are stored as zstd. Compressing one takes a third of the work of storing it plain, because SeaweedFS
spends some 12 ms of a core on each MiB."""

STORE_TIMEOUT_SECONDS = 5.0
"""How long a client of the ingest service waits while storage does not answer."""


def land(objects: Objects, stream: str, lines: bytes, *, now: datetime | None = None) -> LandingObject:
    """Store NDJSON lines as one new landing object that arrived `now`. The lines are durable when this returns.

    Raises what Objects.put raises. It is then unknown whether the lines are stored. Landing them again is safe, because
    an event that is there twice has one key.
    """
    at = now or datetime.now(UTC)
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    key = realtime_key(stream, at, _writer_id(os.getpid()), next(_numbers))
    if not objects.put(key, lines, if_absent=True) and objects.get(key) != lines:
        # The number is ours alone. The same content means that our first attempt succeeded and its answer was lost.
        raise _key_taken(key)
    acknowledge(objects.connection, key).result()
    return LandingObject(key, stream, at, len(lines))


def land_as(objects: Objects, key: str, content: bytes) -> bool:
    """Store lines under a key that was chosen before. A key that ends in `.zst` stores them compressed.

    Returns False if the key exists already, which means that the same lines are stored. They are durable when this
    returns. Raises what Objects.put raises; doing it again is safe.
    """
    is_new = objects.put(key, _compressed(content) if key.endswith(".zst") else content, if_absent=True)
    acknowledge(objects.connection, key).result()
    return is_new


@dataclass(frozen=True, slots=True)
class Lines:
    """NDJSON of one stream, in pieces."""

    stream: str
    pieces: Sequence[bytes]

    @property
    def size(self) -> int:
        """Return the bytes in all."""
        return sum(map(len, self.pieces))


class AsyncLandingWriter:
    """`land` for an event loop, with the same keys and the same guarantees."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._objects = Objects.from_connection(connection)
        self._store = open_store(connection, STORE_TIMEOUT_SECONDS)

    async def land(self, stream: str, pieces: Sequence[bytes], at: datetime) -> LandingObject:
        """Store pieces of NDJSON as one new landing object that arrived `at`, which is aware. Raises what `land` raises.

        The lines are durable when this returns.
        """
        key = realtime_key(stream, at, _writer_id(os.getpid()), next(_numbers))
        content = b"".join(pieces)
        if (zstd_key := compressed_key(key, len(content))) != key:
            key, content = zstd_key, await asyncio.to_thread(_compressed, content)
        await self._put(key, content, [key])
        return LandingObject(key, stream, at.astimezone(UTC), len(content))

    async def land_shared(self, parts: Sequence[Lines], at: datetime) -> list[LandingObject]:
        """Store lines of different streams as one shared object, or as few, if there are too many streams for one name.

        Returns the landing object of each part. Otherwise as `land`.
        """
        if len(parts) == 1:
            return [await self.land(parts[0].stream, parts[0].pieces, at)]
        key = shared_key(at, _writer_id(os.getpid()), next(_numbers), {part.stream: part.size for part in parts})
        if not fits_name(key):
            half = len(parts) // 2
            halves = await asyncio.gather(self.land_shared(parts[:half], at), self.land_shared(parts[half:], at))
            return [obj for landed in halves for obj in landed]
        landed = sections(key)
        await self._put(key, b"".join(piece for part in parts for piece in part.pieces), [obj.key for obj in landed])
        return landed

    async def _put(self, key: str, content: bytes, receipts: Sequence[str]) -> None:
        try:
            with translate_errors("write", key, self._connection):
                await obstore.put_async(self._store, key, content, mode="create", use_multipart=False)
        except ObjectExistsError as error:
            if await asyncio.to_thread(self._objects.get, key) != content:
                raise _key_taken(key) from error
        await asyncio.wrap_future(acknowledge(self._connection, *receipts))


def compressed_key(key: str, size: int) -> str:
    """Add `.zst` to the key if so many bytes are worth compressing."""
    return f"{key}.zst" if size >= MIN_COMPRESSED_BYTES else key


def _key_taken(key: str) -> StorageUnavailableError:
    return StorageUnavailableError(f"Another writer took the key {key}; land the events again.")


def _compressed(content: bytes) -> bytes:
    compressed: bytes = pa.Codec("zstd", compression_level=1).compress(content, asbytes=True)
    return compressed


@lru_cache(maxsize=1)
def _writer_id(pid: int) -> str:
    # Cached by process, because a forked child must not write under its parent's id.
    return secrets.token_hex(6)
