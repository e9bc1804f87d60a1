"""Objects of one S3 bucket: put, get, list, delete, with errors in our words. What keys mean is not known here."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import obstore
from obstore.exceptions import GenericError
from obstore.store import S3Store
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from lakehouse.errors import ObjectNotFoundError
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.errors import AlreadyThereError, explained
from lakehouse.storage.objects.multipart import CONTENT_TYPE, put_parts

if TYPE_CHECKING:
    from obstore import ObjectMeta, ReadableFile

T = TypeVar("T")

RETRY_SECONDS = 8.0
TRIES = 6
PAGE = 1000
READ = 1 << 20
SINGLE_PUT = 32 << 20
"""Bytes from which an object is uploaded in parts."""

PIECE = 4 << 20
"""Bytes of an object that are at hand while it is read from its start."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing says of an object."""

    key: str
    size: int
    """Bytes."""
    modified: datetime
    """Aware, UTC."""
    etag: str


def open_store(connection: Connection, seconds: float = RETRY_SECONDS, retries: int = 10) -> S3Store:
    """An S3 client that gives up on a server that does not answer after this long and this many retries."""
    options: dict[str, Any] = {"region": connection.region, "retry_config": _retry_config(seconds, retries)}
    options["client_options"] = {
        "connect_timeout": timedelta(seconds=min(seconds, 5)),
        "read_timeout": timedelta(seconds=connection.silence_seconds if retries else seconds),
        # A large object may take any time as long as it moves; the read timeout above ends what does not.
        "timeout": timedelta(days=1),
    }
    if connection.endpoint is not None:
        options["client_options"]["allow_http"] = connection.endpoint.startswith("http://")
        # Both names, for AWS_ENDPOINT_URL_S3 in the environment would win over the first.
        options |= {"endpoint": connection.endpoint, "aws_endpoint_url_s3": connection.endpoint}
        options |= {"virtual_hosted_style_request": False, "skip_signature": False}
    return S3Store(connection.bucket, credential_provider=_credentials(connection), **options)


class _Known:
    """A connection, the same as another by all that a client is made of."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._key = (
            *(connection.bucket, connection.region, connection.endpoint, connection.silence_seconds),
            *(connection.access_key_id, connection.secret_access_key),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Known) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


@lru_cache(maxsize=32)
def _kept_store(known: _Known, _process: int) -> S3Store:
    """One client of a process for all who ask the same: making one reads the system's certificates, ten milliseconds."""
    return open_store(known.connection)


def _retry_config(seconds: float, retries: int) -> dict[str, Any]:
    backoff = {"init_backoff": timedelta(milliseconds=50), "max_backoff": timedelta(seconds=2), "base": 2}
    return {"max_retries": retries, "retry_timeout": timedelta(seconds=seconds), "backoff": backoff}


def _credentials(connection: Connection) -> Any:
    if connection.access_key_id is None or connection.secret_access_key is None:
        from obstore.auth.boto3 import Boto3CredentialProvider  # half a second, and only for AWS's own chain

        return Boto3CredentialProvider()
    # A provider and not plain options, so that an AWS_SESSION_TOKEN in the environment is not mixed in.
    credentials = {
        "access_key_id": connection.access_key_id,
        "secret_access_key": connection.secret_access_key,
        "token": None,
        "expires_at": None,
    }
    return lambda: credentials


class Objects:
    """The objects of one bucket.

    Every method raises StorageUnavailableError when the server does not answer within some ten seconds,
    StorageFullError when it has no space left, and LakehouseError for what it refuses; the message names the key.
    """

    def __init__(self, store: S3Store, connection: Connection) -> None:
        self._store = store
        self._connection = connection

    @classmethod
    def from_connection(cls, connection: Connection) -> Self:
        """The objects of the connection's bucket; nothing is asked of the server yet."""
        return cls(_kept_store(_Known(connection), os.getpid()), connection)

    def put(
        self,
        key: str,
        data: bytes | list[bytes],
        *,
        if_absent: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> bool:
        """Store an object of at most 5 GiB in one request. False when `if_absent` and there is one under this key."""
        try:
            with explained("write", key, self._connection):
                obstore.put(
                    self._store,
                    key,
                    data,
                    attributes={"Content-Type": CONTENT_TYPE, **(metadata or {})},
                    mode="create" if if_absent else "overwrite",
                    use_multipart=False,
                )
        except AlreadyThereError:
            return False
        return True

    def put_stream(
        self,
        key: str,
        pieces: Iterable[bytes],
        *,
        if_absent: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> bool:
        """Store the pieces as one object of any size, in bounded memory; if they raise, nothing is stored.

        False when `if_absent` and there is an object under this key.
        """
        pieces = iter(pieces)
        head = _take(pieces, SINGLE_PUT)
        if len(head) < SINGLE_PUT:
            return self.put(key, head, if_absent=if_absent, metadata=metadata)
        try:
            put_parts(self._connection, key, chain([head], pieces), if_absent=if_absent, metadata=metadata or {})
        except AlreadyThereError:
            return False
        return True

    def put_file(self, key: str, path: Path, *, if_absent: bool = False) -> bool:
        """Store a file of any size, in bounded memory. False when `if_absent` and there is an object under this key."""
        with path.open("rb") as file:
            return self.put_stream(key, iter(lambda: file.read(READ), b""), if_absent=if_absent)

    def get(self, key: str) -> bytes:
        """The whole object. Raises ObjectNotFoundError."""
        with explained("read", key, self._connection):
            return obstore.get(self._store, key).bytes().to_bytes()

    def head(self, key: str) -> ObjectInfo | None:
        """Size, time and etag of an object; None when there is none."""
        try:
            with explained("read", key, self._connection):
                return _info(obstore.head(self._store, key))
        except ObjectNotFoundError:
            return None

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """`length` bytes from `start`; fewer where the object ends. Raises ObjectNotFoundError."""
        with explained("read", key, self._connection):
            return obstore.get_range(self._store, key, start=start, length=length).to_bytes()

    def open(self, key: str) -> "OpenObject":
        """The object as a file to read and seek in. Raises ObjectNotFoundError."""
        return OpenObject(self._store, self._connection, key)

    def stream(self, key: str, chunk_size: int = 1 << 20) -> Iterator[bytes]:
        """The object in pieces of about `chunk_size` bytes, as they arrive. Raises ObjectNotFoundError."""
        with explained("read", key, self._connection):
            for chunk in obstore.get(self._store, key).stream(min_chunk_size=chunk_size):
                yield bytes(chunk)

    def list(self, prefix: str, start_after: str | None = None) -> Iterator[ObjectInfo]:
        """Objects under a folder, in the order of their keys, from the first key after `start_after`."""
        with explained("list", prefix, self._connection):
            full = True
            while full:
                page = _again(partial(self._page, prefix, start_after))
                yield from map(_info, page)
                full = len(page) == PAGE
                start_after = page[-1]["path"] if page else None

    def _page(self, prefix: str, start_after: str | None) -> "Sequence[ObjectMeta]":
        return next(iter(obstore.list(self._store, prefix, offset=start_after, chunk_size=PAGE)), [])

    def folders(self, prefix: str) -> Sequence[str]:
        """The folders directly under a folder, by their whole prefix, without a trailing slash."""
        with explained("list", prefix, self._connection):
            return _again(lambda: obstore.list_with_delimiter(self._store, prefix)["common_prefixes"])

    def delete(self, keys: Iterable[str]) -> None:
        """Delete these objects; one that does not exist is no error."""
        gone = [*keys]
        if gone:
            with explained(
                "delete", gone[0] if len(gone) == 1 else f"{gone[0]} and {len(gone) - 1} more", self._connection
            ):
                obstore.delete(self._store, gone)


class OpenObject:
    """An object as a file: its bytes from the start come in one request; from the first `seek` on, each read asks for its
    own, which takes the embedded server twice the time.
    """

    def __init__(self, store: S3Store, connection: Connection, key: str) -> None:
        self._store, self._connection, self._key = store, connection, key
        with explained("read", key, connection):
            self._pieces: Iterator[obstore.Bytes | bytes] = iter(obstore.get(store, key).stream(min_chunk_size=PIECE))
        self._held = memoryview(b"")
        self._file: ReadableFile | None = None

    def read(self, size: int = -1, /) -> "bytes | memoryview | obstore.Bytes":
        """At most `size` bytes from where the last read ended, all that are left if it is below 0; none at the end."""
        with explained("read", self._key, self._connection):
            if self._file is not None:
                return self._file.read(None if size < 0 else size)
            if size < 0:
                return b"".join([self._held, *self._pieces])
            if not self._held:
                self._held = memoryview(next(self._pieces, b""))
            piece, self._held = self._held[:size], self._held[size:]
            return piece

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place, as with any file."""
        with explained("read", self._key, self._connection):
            if self._file is None:
                self._file, self._pieces, self._held = (
                    obstore.open_reader(self._store, self._key),
                    iter(()),
                    memoryview(b""),
                )
            return self._file.seek(offset, whence)

    def close(self) -> None:
        """Let go of the object."""
        self._pieces, self._held = iter(()), memoryview(b"")
        if self._file is not None:
            self._file.close()


def _is_cut(problem: BaseException) -> bool:
    """Whether the answer to a list broke off: all else the client itself tries again."""
    return isinstance(problem, GenericError) and "response body" in str(problem)


def _again(ask: Callable[[], T]) -> T:
    """Ask again when the answer breaks off."""
    retrying = Retrying(
        retry=retry_if_exception(_is_cut),
        stop=stop_after_attempt(TRIES),
        wait=wait_random_exponential(multiplier=0.05, max=1),
        reraise=True,
    )
    return retrying(ask)


def _take(pieces: Iterator[bytes], size: int) -> bytes:
    """The first pieces, together at least `size` bytes unless there are no more."""
    taken, held = [], 0
    while held < size and (piece := next(pieces, None)) is not None:
        taken.append(piece)
        held += len(piece)
    return b"".join(taken)


def _info(meta: "ObjectMeta") -> ObjectInfo:
    return ObjectInfo(meta["path"], meta["size"], meta["last_modified"], meta["e_tag"] or "")
