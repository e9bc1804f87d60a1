"""Multipart uploads of large objects, with the condition on the key that obstore does not support for them.

See `store` for small objects.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import datetime
from http import HTTPStatus
from typing import Any

from filelock import FileLock

from lakehouse.aws import explain
from lakehouse.errors import LakehouseError
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.errors import (
    ACTIONS,
    ObjectExistsError,
    access_denied,
    missing_bucket,
    request_failed,
    unreadable_object,
)

PART_BYTES = 32 << 20
"""S3 accepts 10,000 parts, so objects can be up to 312 GiB."""

MAX_CONCURRENT_PARTS = 3

CONNECT_SECONDS = 5
READ_SECONDS = 60
MAX_ATTEMPTS = 4

CONTENT_TYPE = "binary/octet-stream"
"""S3's default, sent explicitly: without a type, or with a text type, SeaweedFS compresses each chunk by gzip. Reading then
costs three times as much, because it decompresses each chunk again."""


def put_parts(
    connection: Connection, key: str, pieces: Iterable[bytes], *, if_absent: bool, metadata: Mapping[str, str]
) -> None:
    """Upload the pieces in parts, several at a time. The object appears whole at the end, or not at all if they raise.

    Raises ObjectExistsError if `if_absent` and the key exists, and errors as `Objects` does.
    """
    with translate_client_errors("write", key, connection):
        client = open_client(connection)
        target = {"Bucket": connection.bucket, "Key": key}
        upload = client.create_multipart_upload(**target, ContentType=CONTENT_TYPE, Metadata=dict(metadata))["UploadId"]
        try:
            parts = _upload(client, target | {"UploadId": upload}, _parts(pieces))
            condition = {"IfNoneMatch": "*"} if if_absent else {}
            with _completion_lock(connection) if if_absent else nullcontext():
                client.complete_multipart_upload(
                    **target, UploadId=upload, MultipartUpload={"Parts": parts}, **condition
                )
        except BaseException:
            # Suppressed because the first error counts. Maintenance aborts uploads that were never finished.
            with suppress(Exception):
                client.abort_multipart_upload(**target, UploadId=upload)
            raise


def abort_uploads(connection: Connection, before: datetime, *, dry_run: bool = False) -> int:
    """Abort unfinished uploads into the connection's bucket that were started before a time. Returns their number.

    Raises errors as `Objects` does.
    """
    with translate_client_errors("write", "unfinished uploads", connection):
        client = open_client(connection)
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=connection.bucket)
        old = [upload for page in pages for upload in page.get("Uploads", ()) if upload["Initiated"] < before]
        for upload in [] if dry_run else old:
            client.abort_multipart_upload(Bucket=connection.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    return len(old)


def _upload(client: Any, target: Mapping[str, str], parts: Iterable[bytes]) -> list[dict[str, Any]]:
    """Upload parts and return them as S3's request to complete the upload lists them."""
    uploaded: list[dict[str, Any]] = []
    pending: deque[tuple[int, Future[Any]]] = deque()

    def collect() -> None:
        number, future = pending.popleft()
        uploaded.append({"PartNumber": number, "ETag": future.result()["ETag"]})

    with ThreadPoolExecutor(MAX_CONCURRENT_PARTS) as pool:
        for number, part in enumerate(parts, start=1):
            pending.append((number, pool.submit(client.upload_part, **target, PartNumber=number, Body=part)))
            if len(pending) == MAX_CONCURRENT_PARTS:
                collect()
        while pending:
            collect()
    return uploaded


def _parts(pieces: Iterable[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= PART_BYTES:
            yield bytes(held[:PART_BYTES])
            del held[:PART_BYTES]
    if held:
        yield bytes(held)


def _completion_lock(connection: Connection) -> AbstractContextManager[Any]:
    """Serialize the completion of uploads on the embedded server, all of whose clients are on this machine.

    SeaweedFS 4.48 checks the condition of two concurrent completions before it stores either: 3 of 10 such races had two
    winners. Its single PUT and the completion on AWS are atomic. Goes when a release has it fixed.
    """
    if connection.data_directory is None:
        return nullcontext()
    return FileLock(connection.data_directory.parent / "complete.lock")


def open_client(connection: Connection) -> Any:
    """Open a boto3 client, which can do what obstore can't: conditional multipart uploads and unusual keys."""
    import boto3  # takes a third of a second; few commands need it
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": MAX_ATTEMPTS},
        s3={"addressing_style": "path" if connection.endpoint else "auto"},
    )
    client = boto3.client(
        "s3",
        endpoint_url=connection.endpoint,
        region_name=connection.region,
        aws_access_key_id=connection.access_key_id,
        aws_secret_access_key=connection.secret_access_key,
        aws_session_token=connection.session_token,
        config=config,
    )
    client.meta.events.register("before-sign.s3.UploadPart", _set_content_type)
    return client


def _set_content_type(request: Any, **_: Any) -> None:
    """Set the type of a part, because SeaweedFS decides by each part's type whether to compress it. S3 ignores it."""
    request.headers["Content-Type"] = CONTENT_TYPE


@contextmanager
def translate_client_errors(verb: str, key: str, connection: Connection) -> Iterator[None]:
    """Replace a boto3 error inside the block by one that names the key, or by ObjectExistsError."""
    from botocore.exceptions import BotoCoreError, ClientError

    what = f"Can't {verb} {key} in bucket {connection.bucket}"
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in {"PreconditionFailed", "412", "ConditionalRequestConflict"}:
            raise ObjectExistsError from error
        if code == "NoSuchBucket":
            raise missing_bucket(what) from error
        if code in {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}:
            raise access_denied(verb, what, connection, error) from error
        if advice := explain(error, ACTIONS[verb]):
            raise LakehouseError(f"{what}: {advice}") from error
        if (
            verb == "read"
            and error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == HTTPStatus.INTERNAL_SERVER_ERROR
        ):
            raise unreadable_object(what, str(error)) from error
        raise request_failed(what, connection, str(error)) from error
    except BotoCoreError as error:
        if advice := explain(error):
            raise LakehouseError(f"{what}: {advice}") from error
        raise request_failed(what, connection, str(error)) from error
