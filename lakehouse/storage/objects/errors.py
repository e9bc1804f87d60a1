"""Translation of S3 client errors to errors of this package. See `iceberg.errors` for those of catalogs."""

import re
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

from lakehouse.aws import explain
from lakehouse.errors import (
    LakehouseError,
    ObjectNotFoundError,
    StorageFullError,
    StorageUnavailableError,
    UnreadableObjectError,
)
from lakehouse.storage.objects.connection import Connection

MIN_FREE_RATIO = 0.02
MIN_FREE_BYTES = 128 << 20
MAX_REASON_CHARACTERS = 300


ACTIONS = {"read": "s3:GetObject", "write": "s3:PutObject", "list": "s3:ListBucket", "delete": "s3:DeleteObject"}
"""The permission that a request needs, by the verb of its error."""

_SERVER_ERROR = re.compile(
    r"\b(HTTP|status|code):?( code| status)?:? ?500\b|\b500 Internal Server Error", re.IGNORECASE
)


class ObjectExistsError(Exception):
    """A conditional write found that its key exists."""


@contextmanager
def translate_errors(verb: str, key: str, connection: Connection) -> Iterator[None]:
    """Replace an obstore error inside the block by one that names the key, or by ObjectExistsError."""
    what = f"Can't {verb} {key} in bucket {connection.bucket}"
    try:
        yield
    except (AlreadyExistsError, PreconditionError) as error:
        raise ObjectExistsError from error
    except (NotFoundError, FileNotFoundError) as error:
        if "NoSuchBucket" in str(error):
            raise missing_bucket(what) from error
        raise ObjectNotFoundError(f"There is no object {key} in bucket {connection.bucket}.") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise access_denied(verb, what, connection, error) from error
    except GenericError as error:
        raise _from_generic_error(verb, what, connection, error) from error
    except BaseError as error:
        raise LakehouseError(f"{what}: {first_line(error)}") from error


def _from_generic_error(verb: str, what: str, connection: Connection, error: GenericError) -> LakehouseError:
    """Build the error for one that obstore does not tell apart; for listings it raises it whatever the status."""
    reason = str(error)
    if "NoSuchBucket" in reason:
        return missing_bucket(what)
    if "403 Forbidden" in reason or "401 Unauthorized" in reason:
        return access_denied(verb, what, connection, error)
    if connection.is_external and (advice := explain(error, ACTIONS[verb])):
        return LakehouseError(f"{what}: {advice}")
    if verb == "read" and is_server_error(reason):
        return unreadable_object(what, first_line(error))
    return request_failed(what, connection, first_line(error))


def missing_bucket(what: str) -> LakehouseError:
    """Build the error for a bucket that does not exist."""
    return LakehouseError(f"{what}: there is no such bucket; create it or set LAKEHOUSE_BUCKET.")


def access_denied(verb: str, what: str, connection: Connection, error: Exception) -> LakehouseError:
    """Build the error for a request that the storage does not permit."""
    if connection.is_external and (advice := explain(error, ACTIONS[verb])):
        return LakehouseError(f"{what}: {advice}")
    key = "LAKEHOUSE_S3_ACCESS_KEY_ID" if connection.has_keys else "the AWS credentials"
    return LakehouseError(f"{what}: the storage refuses it; check {key}, and that it is allowed {ACTIONS[verb]}.")


def is_server_error(reason: str) -> bool:
    """Return whether a client reports that the server answered with status 500, as it does for an object that is damaged."""
    return _SERVER_ERROR.search(reason) is not None


def unreadable_object(what: str, reason: str) -> UnreadableObjectError:
    """Build the error for an object for which the server answers with an error."""
    return UnreadableObjectError(
        f"{what}: storage answers with an error for this object ({reason}). Others may be fine;"
        " `lakehouse audit` names all that can't be read."
    )


def request_failed(what: str, connection: Connection, reason: str) -> LakehouseError:
    """Build the error for a server that gives no proper answer."""
    if shortage := disk_shortage(connection.data_directory):
        return StorageFullError(f"{what}: {shortage}")
    if connection.data_directory is None:
        return StorageUnavailableError(
            f"{what}: {connection.endpoint or 'AWS'} does not answer as it should ({reason})."
        )
    return StorageUnavailableError(
        f"{what}: the storage server does not answer; start it with `lakehouse up` and run again ({reason})."
    )


def disk_shortage(data_directory: Path | None, min_free_ratio: float = MIN_FREE_RATIO) -> str | None:
    """Return an error message if the disk under the embedded server is nearly full; None if it is not.

    SeaweedFS stops writing at one percent of free space. It then answers 500 to every write, without a reason.
    """
    if data_directory is None or not data_directory.exists():
        return None
    disk = shutil.disk_usage(data_directory)
    if disk.free > min(MIN_FREE_BYTES, disk.total // 10) and disk.free > disk.total * min_free_ratio:
        return None
    free = f"{disk.free / 2**20:,.0f} MiB of {disk.total / 2**20:,.0f} MiB"
    return f"the disk under {data_directory} has only {free} left; free some space and run the command again."


def first_line(error: Exception) -> str:
    """Return the first line of a library's message, because obstore adds a debug dump of many lines.

    For a request that urllib3 retried in vain, it is that of the last attempt.
    """
    last_reason = getattr(next(iter(error.args), None), "reason", None)
    return str(last_reason or error).split("\n", 1)[0][:MAX_REASON_CHARACTERS]
