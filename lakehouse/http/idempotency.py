"""The first answers to requests that carry an Idempotency-Key, kept for a day as objects that all servers see.

A key is claimed by a conditional PUT before anything lands, so that of several requests at once one lands. Where a
server dies between landing and remembering, the claim runs out and the events may land again; their own keys then make
them count once. https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import obstore
from obstore.store import S3Store

from lakehouse.errors import ObjectNotFoundError
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.errors import ObjectExistsError, translate_errors
from lakehouse.storage.objects.store import Objects

FOLDER = "idempotency"
KEPT = timedelta(days=1)
CLAIM = timedelta(seconds=60)
"""After which a claim without an answer is one whose server died."""


class IdempotencyRecord(msgspec.Struct, frozen=True):
    """What is kept of a key: which request it came with, when, and the answer when there is one."""

    request: str
    """SHA-256 of stream and body, in hexadecimal."""
    at: datetime
    answer: str | None = None
    """JSON."""

    def is_over(self, now: datetime) -> bool:
        """Whether the key may be used anew."""
        return now - self.at > (CLAIM if self.answer is None else KEPT)


_DECODER = msgspec.json.Decoder(IdempotencyRecord)


def request_hash(stream: str, body: bytes) -> str:
    """What tells one request from another."""
    return hashlib.sha256(stream.encode() + b"\n" + body).hexdigest()


class IdempotencyStore:
    """The answers of one bucket. Methods raise what Objects raises."""

    def __init__(self, store: S3Store, connection: Connection) -> None:
        self._store = store
        self._connection = connection

    async def claim(self, owner: str, key: str, request: str) -> IdempotencyRecord | None:
        """None when the key is now this request's; else what is remembered of it. `owner` keeps clients' keys apart."""
        path, now = _path(owner, key), datetime.now(UTC)
        claim = IdempotencyRecord(request, now)
        for _ in range(3):
            if await self._put(path, claim, if_absent=True):
                return None
            found = await self._get(path)
            if found is not None and not found.is_over(now):
                return found
            await self._delete(path)
        return claim  # others take the key as fast as it is given back: one of them has it

    async def remember(self, owner: str, key: str, request: str, answer: bytes) -> None:
        """Keep the answer for a day."""
        await self._put(
            _path(owner, key), IdempotencyRecord(request, datetime.now(UTC), answer.decode()), if_absent=False
        )

    async def give_back(self, owner: str, key: str) -> None:
        """Nothing came of it: the key may be used anew."""
        await self._delete(_path(owner, key))

    async def _put(self, path: str, remembered: IdempotencyRecord, *, if_absent: bool) -> bool:
        content = msgspec.json.encode(remembered)
        try:
            with translate_errors("write", path, self._connection):
                await obstore.put_async(
                    self._store, path, content, mode="create" if if_absent else "overwrite", use_multipart=False
                )
        except ObjectExistsError:
            return False
        return True

    async def _get(self, path: str) -> IdempotencyRecord | None:
        try:
            with translate_errors("read", path, self._connection):
                found = await obstore.get_async(self._store, path)
                return _DECODER.decode(bytes(await found.bytes_async()))
        except (ObjectNotFoundError, msgspec.DecodeError):
            return None

    async def _delete(self, path: str) -> None:
        with translate_errors("delete", path, self._connection):
            await obstore.delete_async(self._store, path)


def _path(owner: str, key: str) -> str:
    digest = hashlib.sha256(owner.encode() + b"\n" + key.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{FOLDER}/{digest}.json"


def expire(objects: Objects, now: datetime | None = None) -> int:
    """Delete what is older than a day; returns how many answers that were."""
    gone = list(_outlived(objects, now or datetime.now(UTC)))
    objects.delete(gone)
    return len(gone)


def _outlived(objects: Objects, now: datetime) -> Iterator[str]:
    return (info.key for info in objects.list(FOLDER) if now - info.modified > KEPT)
