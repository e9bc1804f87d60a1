"""Large objects, uploaded in parts: what obstore can't do on a condition. Small ones are objects.py's."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import datetime
from typing import Any

from filelock import FileLock

from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.errors import AlreadyThereError, failed, no_bucket, refused

PART = 32 << 20
"""Bytes; S3 takes 10,000 parts, so objects up to 312 GiB."""
AT_ONCE = 3

CONTENT_TYPE = "binary/octet-stream"
"""S3's own default, said aloud: where a type is missing or that of some text, SeaweedFS compresses each chunk by gzip,
and inflates it again for each read at three times the cost."""


def put_parts(
    connection: Connection, key: str, pieces: Iterable[bytes], *, if_absent: bool, metadata: Mapping[str, str]
) -> None:
    """Upload the pieces in parts, a few at once; nothing is visible until the end, and if they raise nothing stays.

    Raises AlreadyThereError when `if_absent` and there is an object under this key, and errors as Objects does.
    """
    with _explained(key, connection):
        client = _client(connection)
        target = {"Bucket": connection.bucket, "Key": key}
        upload = client.create_multipart_upload(**target, ContentType=CONTENT_TYPE, Metadata=dict(metadata))["UploadId"]
        try:
            parts = _upload(client, target | {"UploadId": upload}, _parts(pieces))
            condition = {"IfNoneMatch": "*"} if if_absent else {}
            with _one_at_a_time(connection) if if_absent else nullcontext():
                client.complete_multipart_upload(
                    **target, UploadId=upload, MultipartUpload={"Parts": parts}, **condition
                )
        except BaseException:
            with suppress(Exception):  # the first error counts; S3 forgets parts that nobody completes
                client.abort_multipart_upload(**target, UploadId=upload)
            raise


def _upload(client: Any, target: Mapping[str, str], parts: Iterable[bytes]) -> list[dict[str, Any]]:
    done: list[dict[str, Any]] = []
    under_way: deque[tuple[int, Future[Any]]] = deque()

    def collect() -> None:
        number, future = under_way.popleft()
        done.append({"PartNumber": number, "ETag": future.result()["ETag"]})

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for number, part in enumerate(parts, start=1):
            under_way.append((number, pool.submit(client.upload_part, **target, PartNumber=number, Body=part)))
            if len(under_way) == AT_ONCE:
                collect()
        while under_way:
            collect()
    return done


def _parts(pieces: Iterable[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= PART:
            yield bytes(held[:PART])
            del held[:PART]
    if held:
        yield bytes(held)


def _one_at_a_time(connection: Connection) -> AbstractContextManager[Any]:
    """A lock around completing an upload on the embedded server, all of whose clients are on this machine.

    SeaweedFS 4.48 checks the condition of two completions that come at once before it stores either (3 of 10 such
    races had two winners); its single PUT and AWS's completion are atomic. Goes when a release has it fixed.
    """
    if connection.data_directory is None:
        return nullcontext()
    return FileLock(connection.data_directory.parent / "complete.lock")


def _client(connection: Connection) -> Any:
    import boto3  # a third of a second, and only for large objects
    from botocore.config import Config

    config = Config(
        connect_timeout=5,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 4},
        s3={"addressing_style": "path" if connection.endpoint else "auto"},
    )
    client = boto3.client(
        "s3",
        endpoint_url=connection.endpoint,
        region_name=connection.region,
        aws_access_key_id=connection.access_key_id,
        aws_secret_access_key=connection.secret_access_key,
        config=config,
    )
    client.meta.events.register("before-sign.s3.UploadPart", _typed)
    return client


def _typed(request: Any, **_: Any) -> None:
    """A part says its type too, for SeaweedFS looks at that of each; S3 takes no notice."""
    request.headers["Content-Type"] = CONTENT_TYPE


@contextmanager
def _explained(key: str, connection: Connection) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    what = f"Can't write {key} in bucket {connection.bucket}"
    try:
        yield
    except ClientError as problem:
        code = str(problem.response.get("Error", {}).get("Code", ""))
        if code in {"PreconditionFailed", "412", "ConditionalRequestConflict"}:
            raise AlreadyThereError from problem
        if code in {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}:
            raise refused(what) from problem
        if code == "NoSuchBucket":
            raise no_bucket(what) from problem
        raise failed(what, connection, str(problem)) from problem
    except BotoCoreError as problem:
        raise failed(what, connection, str(problem)) from problem


def abort_uploads(connection: Connection, before: datetime, *, dry_run: bool = False) -> int:
    """Abort uploads into the connection's bucket that were begun before then; how many there were.

    Raises what Objects raises.
    """
    with _explained("unfinished uploads", connection):
        client = _client(connection)
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=connection.bucket)
        old = [one for page in pages for one in page.get("Uploads", ()) if one["Initiated"] < before]
        for one in [] if dry_run else old:
            client.abort_multipart_upload(Bucket=connection.bucket, Key=one["Key"], UploadId=one["UploadId"])
    return len(old)
