"""Requests for objects whose keys obstore refuses although S3 allows them, such as `a//b`, `a/../b`, or one with a tab.

See `store` for all other keys.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from tempfile import TemporaryFile
from typing import IO, Any, TypedDict

from lakehouse.errors import ObjectNotFoundError
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.multipart import CONTENT_TYPE, open_client, translate_client_errors

_UNUSUAL = re.compile(r"[\x00-\x1f\x7f]|(^|/)\.{0,2}(/|$)")

_REFUSED_LISTING = re.compile("invalid path|invalid list response", re.IGNORECASE)


class ObjectDescription(TypedDict):
    """An object as obstore describes it in a listing."""

    path: str
    size: int
    last_modified: datetime
    e_tag: str | None


def is_unusual(key: str) -> bool:
    """Return whether obstore would refuse the key: it has a control character, or a segment that is empty, `.` or `..`."""
    return _UNUSUAL.search(key) is not None


def is_refused_listing(error: BaseException) -> bool:
    """Return whether obstore could not list because of a key that it refuses."""
    return _REFUSED_LISTING.search(str(error)) is not None


class UnusualKeys:
    """Objects of one bucket under any key. Raises what `Objects` raises."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @cached_property
    def _client(self) -> Any:
        return open_client(self._connection)

    @contextmanager
    def _request(self, verb: str, key: str) -> Iterator[dict[str, str]]:
        from botocore.exceptions import ClientError

        try:
            with translate_client_errors(verb, key, self._connection):
                yield {"Bucket": self._connection.bucket, "Key": key}
        except Exception as error:
            cause = error.__cause__
            if isinstance(cause, ClientError) and cause.response["Error"]["Code"] in {"404", "NoSuchKey"}:
                raise ObjectNotFoundError(f"There is no object {key!r} in bucket {self._connection.bucket}.") from cause
            raise

    def list(self, prefix: str, start_after: str | None, size: int) -> Sequence[ObjectDescription]:
        """List the next objects below a folder in key order, at most `size`."""
        folder = f"{prefix}/" if prefix else ""
        with self._request("list", prefix) as target:
            page = self._client.list_objects_v2(
                Bucket=target["Bucket"], Prefix=folder, MaxKeys=size, StartAfter=start_after or ""
            )
        return [
            {"path": obj["Key"], "size": obj["Size"], "last_modified": obj["LastModified"], "e_tag": obj["ETag"]}
            for obj in page.get("Contents", ())
        ]

    def folders(self, prefix: str) -> Sequence[str]:
        """List the folders directly below a folder, as whole prefixes without their last slash."""
        with self._request("list", prefix) as target:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=target["Bucket"], Prefix=f"{prefix}/", Delimiter="/"
            )
            return [folder["Prefix"].removesuffix("/") for page in pages for folder in page.get("CommonPrefixes", ())]

    def head(self, key: str) -> ObjectDescription:
        """Describe the object."""
        with self._request("read", key) as target:
            obj = self._client.head_object(**target)
        modified = obj["LastModified"].astimezone(UTC)
        return {"path": key, "size": obj["ContentLength"], "last_modified": modified, "e_tag": obj["ETag"]}

    def open(self, key: str) -> IO[bytes]:
        """Download the object to a temporary file, so that it can be read and sought in without holding it in memory."""
        file = TemporaryFile()  # noqa: SIM115  # the caller closes it
        try:
            with self._request("read", key) as target:
                self._client.download_fileobj(**target, Fileobj=file)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    def put(self, key: str, data: bytes, *, if_absent: bool, metadata: Mapping[str, str]) -> None:
        """Store an object. Raises ObjectExistsError if `if_absent` and the key exists."""
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        with self._request("write", key) as target:
            self._client.put_object(**target, Body=data, ContentType=CONTENT_TYPE, Metadata=dict(metadata), **condition)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. A key that does not exist is no error."""
        for key in keys:
            with self._request("delete", key) as target:
                self._client.delete_object(**target)
