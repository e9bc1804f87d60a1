"""What the S3 clients raise, in our own words. Retrying is the clients' own."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from lakehouse.errors import LakehouseError, ObjectNotFoundError, StorageFullError, StorageUnavailableError
from lakehouse.storage.objects.connection import Connection

_RESERVE_SHARE = 0.02
_RESERVE_BYTES = 128 << 20


class AlreadyThereError(Exception):
    """A conditional write found an object under its key."""


def disk_shortage(data_directory: Path | None) -> str | None:
    """What to tell the user when the disk under the embedded server is (nearly) full; None when it is not.

    SeaweedFS stops writing at one percent and then answers 500 to every write, saying no more.
    """
    if data_directory is None or not data_directory.exists():
        return None
    disk = shutil.disk_usage(data_directory)
    if disk.free > min(_RESERVE_BYTES, disk.total // 10) and disk.free > disk.total * _RESERVE_SHARE:
        return None
    left = f"{disk.free / 2**20:,.0f} MiB of {disk.total / 2**20:,.0f} MiB"
    return f"the disk under {data_directory} has only {left} left; free some space and run the command again."


@contextmanager
def explained(verb: str, key: str, connection: Connection) -> Iterator[None]:
    """Raise what obstore raises inside as an error of ours that names the key, or AlreadyThereError."""
    what = f"Can't {verb} {key} in bucket {connection.bucket}"
    try:
        yield
    except (AlreadyExistsError, PreconditionError) as problem:
        raise AlreadyThereError from problem
    except (NotFoundError, FileNotFoundError) as problem:
        if "NoSuchBucket" in str(problem):
            raise no_bucket(what) from problem
        raise ObjectNotFoundError(f"There is no object {key} in bucket {connection.bucket}.") from problem
    except (PermissionDeniedError, UnauthenticatedError) as problem:
        raise refused(what) from problem
    except GenericError as problem:
        # Of listings obstore raises this whatever the status.
        if "NoSuchBucket" in str(problem):
            raise no_bucket(what) from problem
        if "403 Forbidden" in str(problem) or "401 Unauthorized" in str(problem):
            raise refused(what) from problem
        raise failed(what, connection, _first_line(problem)) from problem
    except BaseError as problem:
        raise LakehouseError(f"{what}: {_first_line(problem)}") from problem


def no_bucket(what: str) -> LakehouseError:
    """The error for a bucket that does not exist."""
    return LakehouseError(f"{what}: there is no such bucket; create it or set LAKEHOUSE_BUCKET.")


def refused(what: str) -> LakehouseError:
    """The error for credentials that may not do this."""
    return LakehouseError(
        f"{what}: the storage refuses it; check LAKEHOUSE_S3_ACCESS_KEY_ID and what its owner may do."
    )


def failed(what: str, connection: Connection, reason: str) -> LakehouseError:
    """The error for a server that does not answer, or not as it should."""
    if shortage := disk_shortage(connection.data_directory):
        return StorageFullError(f"{what}: {shortage}")
    if connection.data_directory is None:
        return StorageUnavailableError(
            f"{what}: {connection.endpoint or 'AWS'} does not answer as it should ({reason})."
        )
    return StorageUnavailableError(
        f"{what}: the storage server does not answer; start it with `lakehouse up` and run again ({reason})."
    )


def _first_line(problem: Exception) -> str:
    # obstore adds a debug dump of many lines.
    return str(problem).split("\n", 1)[0][:300]
