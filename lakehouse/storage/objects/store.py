"""Objects of one S3 bucket: put, get, list and delete, with this package's errors. See `landing.keys` for key layouts."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlparse

import obstore
from obstore.exceptions import BaseError, GenericError
from obstore.store import S3Store
from tenacity import retry_if_exception, stop_after_delay

from lakehouse.errors import ObjectNotFoundError
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.errors import ObjectExistsError, translate_errors
from lakehouse.storage.objects.multipart import CONTENT_TYPE, put_parts
from lakehouse.storage.objects.unusual_keys import ObjectDescription, UnusualKeys, is_refused_listing, is_unusual
from lakehouse.storage.retry import retrying

if TYPE_CHECKING:
    from obstore import ObjectMeta, ReadableFile

T = TypeVar("T")

RETRY_SECONDS = 8.0
MAX_RETRIES = 10
PAGE_KEYS = 1000
FILE_READ_BYTES = 1 << 20
STREAM_CHUNK_BYTES = 1 << 20
MULTIPART_THRESHOLD_BYTES = 32 << 20
"""Objects of this size and more are uploaded in parts."""

OPEN_CHUNK_BYTES = 4 << 20
"""What an open object holds in memory while it is read from its start."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as a listing describes it."""

    key: str
    size: int
    """In bytes."""
    modified: datetime
    """With time zone, UTC."""
    etag: str


def open_store(connection: Connection, seconds: float = RETRY_SECONDS, retries: int = MAX_RETRIES) -> S3Store:
    """Return an S3 client that retries a request for at most `seconds`, `retries` times."""
    options: dict[str, Any] = {"region": connection.region, "retry_config": _retry_config(seconds, retries)}
    options["client_options"] = {
        "connect_timeout": timedelta(seconds=min(seconds, 5)),
        "read_timeout": timedelta(seconds=connection.silence_seconds if retries else seconds),
        # A large object may take any time while bytes arrive. If none do, the read timeout above applies.
        "timeout": timedelta(days=1),
    }
    if connection.endpoint is not None:
        options["client_options"]["allow_http"] = connection.endpoint.startswith("http://")
        # Both names, because AWS_ENDPOINT_URL_S3 in the environment overrides the first.
        options |= {"endpoint": connection.endpoint, "aws_endpoint_url_s3": connection.endpoint}
        options |= {"virtual_hosted_style_request": False, "skip_signature": False}
    return S3Store(connection.bucket, credential_provider=_credentials(connection), **options)


class _ClientKey:
    """A connection that equals another with the same client options."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._key = (
            *(connection.bucket, connection.region, connection.endpoint, connection.silence_seconds),
            *(connection.access_key_id, connection.secret_access_key, connection.session_token),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ClientKey) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


@lru_cache(maxsize=32)
def _shared_store(key: _ClientKey, _pid: int) -> S3Store:
    """Share a client within a process, because creating one reads the system's certificates: ten milliseconds."""
    return open_store(key.connection)


def _retry_config(seconds: float, retries: int) -> dict[str, Any]:
    backoff = {"init_backoff": timedelta(milliseconds=50), "max_backoff": timedelta(seconds=2), "base": 2}
    return {"max_retries": retries, "retry_timeout": timedelta(seconds=seconds), "backoff": backoff}


def _credentials(connection: Connection) -> Any:
    if not connection.has_keys:
        # Imported here because it takes half a second, and only AWS's credential chain needs it.
        from obstore.auth.boto3 import Boto3CredentialProvider

        return Boto3CredentialProvider()
    # A provider in place of plain options, because those would be combined with AWS_SESSION_TOKEN of the environment.
    credentials = {
        "access_key_id": connection.access_key_id,
        "secret_access_key": connection.secret_access_key,
        "token": connection.session_token,
        "expires_at": None,
    }
    return lambda: credentials


class Objects:
    """The objects of one bucket.

    Every method raises StorageUnavailableError if the server does not answer within about ten seconds, StorageFullError
    if it has no space left, and LakehouseError if it refuses the request. The message names the key.
    """

    def __init__(self, store: S3Store, connection: Connection) -> None:
        self._store = store
        self._connection = connection
        self._unusual = UnusualKeys(connection)

    @classmethod
    def from_connection(cls, connection: Connection) -> Self:
        """Return the objects of the connection's bucket. Makes no request."""
        return cls(_shared_store(_ClientKey(connection), os.getpid()), connection)

    @classmethod
    def from_url(cls, connection: Connection, url: str) -> Self:
        """Return the objects of the bucket in a URL such as a table's location, on the same server. Makes no request."""
        return cls.from_connection(replace(connection, bucket=urlparse(url).netloc))

    @property
    def bucket(self) -> str:
        """The name of the bucket."""
        return self._connection.bucket

    @property
    def connection(self) -> Connection:
        """Where the bucket is and how to log in."""
        return self._connection

    def put(
        self,
        key: str,
        data: bytes | list[bytes],
        *,
        if_absent: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> bool:
        """Store an object of at most 5 GiB in one request. Returns False if `if_absent` and the key exists."""
        try:
            if is_unusual(key):
                content = data if isinstance(data, bytes) else b"".join(data)
                self._unusual.put(key, content, if_absent=if_absent, metadata=metadata or {})
                return True
            with translate_errors("write", key, self._connection):
                obstore.put(
                    self._store,
                    key,
                    data,
                    attributes={"Content-Type": CONTENT_TYPE, **(metadata or {})},
                    mode="create" if if_absent else "overwrite",
                    use_multipart=False,
                )
        except ObjectExistsError:
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
        """Store the pieces as one object of any size, in bounded memory. Nothing is stored if the iterable raises.

        Returns False if `if_absent` and the key exists.
        """
        pieces = iter(pieces)
        head = _read_ahead(pieces, MULTIPART_THRESHOLD_BYTES)
        if len(head) < MULTIPART_THRESHOLD_BYTES:
            return self.put(key, head, if_absent=if_absent, metadata=metadata)
        try:
            put_parts(self._connection, key, chain([head], pieces), if_absent=if_absent, metadata=metadata or {})
        except ObjectExistsError:
            return False
        return True

    def put_file(self, key: str, path: Path, *, if_absent: bool = False) -> bool:
        """Store a file of any size, in bounded memory. Returns False if `if_absent` and the key exists."""
        with path.open("rb") as file:
            return self.put_stream(key, iter(lambda: file.read(FILE_READ_BYTES), b""), if_absent=if_absent)

    def get(self, key: str) -> bytes:
        """Read the whole object. Raises ObjectNotFoundError."""
        if is_unusual(key):
            with self._unusual.open(key) as file:
                return file.read()
        with translate_errors("read", key, self._connection):
            return obstore.get(self._store, key).bytes().to_bytes()

    def head(self, key: str) -> ObjectInfo | None:
        """Return the object's size, time and etag; None if it does not exist."""
        try:
            if is_unusual(key):
                return _info(self._unusual.head(key))
            with translate_errors("read", key, self._connection):
                return _info(obstore.head(self._store, key))
        except ObjectNotFoundError:
            return None

    def metadata(self, key: str) -> dict[str, str]:
        """Return the metadata that the object was stored with; empty if it does not exist or has a key that obstore refuses."""
        if is_unusual(key):
            return {}
        try:
            with translate_errors("read", key, self._connection):
                attributes = obstore.get(self._store, key, options={"head": True}).attributes
        except ObjectNotFoundError:
            return {}
        return {str(name): str(value) for name, value in attributes.items() if name != "Content-Type"}

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """Read `length` bytes from `start`, fewer where the object ends. Raises ObjectNotFoundError."""
        if is_unusual(key):
            with self._unusual.open(key) as file:
                file.seek(start)
                return file.read(length)
        with translate_errors("read", key, self._connection):
            return obstore.get_range(self._store, key, start=start, length=length).to_bytes()

    def open(self, key: str) -> "OpenObject | IO[bytes]":
        """Open the object as a file to read and seek in. Raises ObjectNotFoundError."""
        if is_unusual(key):
            return self._unusual.open(key)
        return OpenObject(self._store, self._connection, key)

    def stream(self, key: str, chunk_size: int = STREAM_CHUNK_BYTES) -> Iterator[bytes]:
        """Yield the object in chunks of about `chunk_size` bytes as they arrive. Raises ObjectNotFoundError."""
        if is_unusual(key):
            with self._unusual.open(key) as file:
                yield from iter(partial(file.read, chunk_size), b"")
            return
        with translate_errors("read", key, self._connection):
            for chunk in obstore.get(self._store, key).stream(min_chunk_size=chunk_size):
                yield bytes(chunk)

    def list(self, prefix: str, start_after: str | None = None) -> Iterator[ObjectInfo]:
        """List the objects below a folder in key order, from the first key after `start_after`."""
        with translate_errors("list", prefix, self._connection):
            has_more = True
            while has_more:
                page = _list(partial(self._page, prefix, start_after))
                yield from map(_info, page)
                has_more = len(page) == PAGE_KEYS
                start_after = page[-1]["path"] if page else None

    def _page(self, prefix: str, start_after: str | None) -> "Sequence[ObjectMeta | ObjectDescription]":
        if start_after is None or not is_unusual(start_after):
            try:
                page = next(iter(obstore.list(self._store, prefix, offset=start_after, chunk_size=PAGE_KEYS)), [])
                # SeaweedFS lists control characters, which XML can't hold, as replacement characters.
                if not any("\ufffd" in obj["path"] for obj in page):
                    return page
            except BaseError as error:
                if not is_refused_listing(error):
                    raise
        return self._unusual.list(prefix, start_after, PAGE_KEYS)

    def folders(self, prefix: str) -> Sequence[str]:
        """List the folders directly below a folder, as whole prefixes without a trailing slash."""
        with translate_errors("list", prefix, self._connection):
            return _list(partial(self._folders, prefix))

    def _folders(self, prefix: str) -> Sequence[str]:
        try:
            return obstore.list_with_delimiter(self._store, prefix)["common_prefixes"]
        except BaseError as error:
            if not is_refused_listing(error):
                raise
        return self._unusual.folders(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. A key that does not exist is no error."""
        all_keys = [*keys]
        self._unusual.delete(key for key in all_keys if is_unusual(key))
        todo = [key for key in all_keys if not is_unusual(key)]
        if todo:
            what = todo[0] if len(todo) == 1 else f"{todo[0]} and {len(todo) - 1} more"
            with translate_errors("delete", what, self._connection):
                obstore.delete(self._store, todo)


class OpenObject:
    """An object as a file.

    Reads from the start share one request. From the first `seek` on, each read makes its own, which takes the embedded
    server twice as long.
    """

    def __init__(self, store: S3Store, connection: Connection, key: str) -> None:
        self._store, self._connection, self._key = store, connection, key
        with translate_errors("read", key, connection):
            self._pieces: Iterator[obstore.Bytes | bytes] = iter(
                obstore.get(store, key).stream(min_chunk_size=OPEN_CHUNK_BYTES)
            )
        self._held = memoryview(b"")
        self._file: ReadableFile | None = None

    def read(self, size: int = -1, /) -> "bytes | memoryview | obstore.Bytes":
        """Read at most `size` bytes, or the rest if it is negative; returns no bytes at the end."""
        with translate_errors("read", self._key, self._connection):
            if self._file is not None:
                return self._file.read(None if size < 0 else size)
            if size < 0:
                return b"".join([self._held, *self._pieces])
            if not self._held:
                self._held = memoryview(next(self._pieces, b""))
            piece, self._held = self._held[:size], self._held[size:]
            return piece

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to an offset, as with any file."""
        with translate_errors("read", self._key, self._connection):
            if self._file is None:
                self._file = obstore.open_reader(self._store, self._key)
                self._pieces, self._held = iter(()), memoryview(b"")
            return self._file.seek(offset, whence)

    def close(self) -> None:
        """Free the buffers and the connection."""
        self._pieces, self._held = iter(()), memoryview(b"")
        if self._file is not None:
            self._file.close()


def object_key(url: str) -> str:
    """Return the key, or the folder, in a URL such as `s3://bucket/key`."""
    return urlparse(url).path.strip("/")


def _list(request: Callable[[], T]) -> T:
    """Make a list request; retry it if its answer is cut off, because the S3 client retries all other failures alone."""
    return retrying(retry_if_exception(_is_cut_off), stop=stop_after_delay(RETRY_SECONDS))(request)


def _is_cut_off(error: BaseException) -> bool:
    return isinstance(error, GenericError) and "response body" in str(error)


def _read_ahead(pieces: Iterator[bytes], size: int) -> bytes:
    """Return the first pieces, together at least `size` bytes unless there are no more."""
    head, held = [], 0
    while held < size and (piece := next(pieces, None)) is not None:
        head.append(piece)
        held += len(piece)
    return b"".join(head)


def _info(meta: "ObjectMeta | ObjectDescription") -> ObjectInfo:
    return ObjectInfo(meta["path"], meta["size"], meta["last_modified"], meta["e_tag"] or "")
