"""Translation of catalog errors to errors of this package. See `objects.errors` for those of S3 clients."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError
from pyiceberg.exceptions import RESTError

from lakehouse.aws import explain
from lakehouse.errors import LakehouseError, StorageUnavailableError, UnreadableObjectError
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.errors import first_line

try:
    from botocore.exceptions import BotoCoreError, ClientError

    _GLUE_ERRORS: tuple[type[Exception], ...] = (BotoCoreError, ClientError)
except ImportError:  # Spark's workers lack it: they are given tables, and ask no catalog
    _GLUE_ERRORS = ()

_LIBRARY_ERRORS: tuple[type[Exception], ...] = (OSError, RESTError, ValidationError, *_GLUE_ERRORS)
"""OSError comes from file systems and requests, ValidationError from a malformed answer, the others from Glue."""

_EARLIER_TIME = re.compile(r"timestamp\b.*\bbefore last", re.DOTALL)
"""The message of a catalog that refuses an update whose time is before that of the last one."""

UNAVAILABLE_ERRORS: tuple[type[Exception], ...] = (*_LIBRARY_ERRORS, StorageUnavailableError, UnreadableObjectError)
"""Raised when storage or a catalog gives no proper answer: by their clients, or translated from that."""


@contextmanager
def translate_catalog_errors(connection: Connection) -> Iterator[None]:
    """Raise StorageUnavailableError in place of a client error inside the block."""
    try:
        yield
    except _LIBRARY_ERRORS as error:
        if _EARLIER_TIME.search(str(error)):
            raise StorageUnavailableError(
                "The catalog refuses a commit that is earlier than the table's last one: this machine's clock was set back. "
                f"Set it right, or run again when it has caught up ({first_line(error)})."
            ) from error
        if connection.is_external and (advice := explain(error)):
            raise LakehouseError(
                f"Can't use the catalog at {connection.catalog_uri or 'AWS Glue'}: {advice}"
            ) from error
        if isinstance(error, FileNotFoundError):
            raise UnreadableObjectError(
                f"A metadata file of a table is gone ({first_line(error)}). Bring it back from a backup."
            ) from error
        is_embedded = connection.data_directory is not None
        advice = "; start it with `lakehouse up` and run again" if is_embedded else " as it should"
        raise StorageUnavailableError(
            f"The catalog at {connection.catalog_uri or 'AWS Glue'} does not answer{advice} ({first_line(error)})."
        ) from error
