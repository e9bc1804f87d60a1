"""The Idempotency-Key header: the first response for a key is stored for a day, as an object that all servers see.

A key is claimed by a conditional PUT before anything lands, so that of concurrent requests one lands. If a server dies
between landing and storing the response, its claim expires and the events may land again; their own keys then make them
count once. https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

import hashlib
from datetime import UTC, datetime, timedelta

import msgspec
import obstore
from obstore.store import S3Store

from lakehouse.errors import ObjectNotFoundError
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.errors import ObjectExistsError, translate_errors
from lakehouse.storage.objects.store import Objects

FOLDER = "idempotency"
RETENTION = timedelta(days=1)

CLAIM_TIMEOUT = timedelta(seconds=60)
"""A claim without a response is this old only if its server has died."""

CLAIM_ATTEMPTS = 3


class IdempotencyRecord(msgspec.Struct, frozen=True):
    """A key's request and, once there is one, its response."""

    request: str
    """SHA-256 of stream and body, in hexadecimal."""
    at: datetime
    answer: str | None = None
    """The response's body, JSON; None while the request is in progress."""

    def has_expired(self, now: datetime) -> bool:
        """Return whether the key may be used again."""
        return now - self.at > (CLAIM_TIMEOUT if self.answer is None else RETENTION)


_DECODER = msgspec.json.Decoder(IdempotencyRecord)


def request_hash(stream: str, body: bytes) -> str:
    """Hash a request, to recognise a key that is sent with another one."""
    return hashlib.sha256(stream.encode() + b"\n" + body).hexdigest()


class IdempotencyStore:
    """The keys and responses in one bucket. Methods raise the errors of `Objects`."""

    def __init__(self, store: S3Store, connection: Connection) -> None:
        self._store = store
        self._connection = connection

    async def claim(self, client_id: str, key: str, request: str) -> IdempotencyRecord | None:
        """Claim a key for a request. None if it is claimed now, else the record of the request that has it.

        Keys of different clients are independent.
        """
        path, now = _path(client_id, key), datetime.now(UTC)
        claim = IdempotencyRecord(request, now)
        for _ in range(CLAIM_ATTEMPTS):
            if await self._put(path, claim, if_absent=True):
                return None
            record = await self._get(path)
            if record is not None and not record.has_expired(now):
                return record
            await self._delete(path)
        return claim  # other requests claim and release the key all the time: one of them has it

    async def save(self, client_id: str, key: str, request: str, response: bytes) -> None:
        """Store the response to a claimed request."""
        record = IdempotencyRecord(request, datetime.now(UTC), response.decode())
        await self._put(_path(client_id, key), record, if_absent=False)

    async def release(self, client_id: str, key: str) -> None:
        """Give up a claim after its request has failed, so that the key can be used again."""
        await self._delete(_path(client_id, key))

    async def _put(self, path: str, record: IdempotencyRecord, *, if_absent: bool) -> bool:
        content = msgspec.json.encode(record)
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
                response = await obstore.get_async(self._store, path)
                return _DECODER.decode(bytes(await response.bytes_async()))
        except (ObjectNotFoundError, msgspec.DecodeError):
            return None

    async def _delete(self, path: str) -> None:
        with translate_errors("delete", path, self._connection):
            await obstore.delete_async(self._store, path)


def _path(client_id: str, key: str) -> str:
    digest = hashlib.sha256(client_id.encode() + b"\n" + key.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{FOLDER}/{digest}.json"


def expire(objects: Objects, now: datetime | None = None) -> int:
    """Delete the records that are older than a day and return how many those were. Raises the errors of `Objects`."""
    deadline = (now or datetime.now(UTC)) - RETENTION
    expired = [info.key for info in objects.list(FOLDER) if info.modified < deadline]
    objects.delete(expired)
    return len(expired)
