"""Translation of catalog errors to errors of this package. See `objects.errors` for those of S3 clients."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError
from pyiceberg.exceptions import RESTError

from lakehouse.errors import StorageUnavailableError
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.errors import first_line

_LIBRARY_ERRORS = (OSError, RESTError, ValidationError, BotoCoreError, ClientError)
"""OSError comes from file systems and requests, ValidationError from a malformed answer, the last two from Glue."""

UNAVAILABLE_ERRORS = (*_LIBRARY_ERRORS, StorageUnavailableError)
"""Raised when storage or a catalog gives no proper answer: by their clients, or translated from that."""


@contextmanager
def translate_catalog_errors(connection: Connection) -> Iterator[None]:
    """Raise StorageUnavailableError in place of a client error inside the block."""
    try:
        yield
    except _LIBRARY_ERRORS as error:
        is_embedded = connection.data_directory is not None
        advice = "; start it with `lakehouse up` and run again" if is_embedded else " as it should"
        raise StorageUnavailableError(
            f"The catalog at {connection.catalog_uri or 'AWS Glue'} does not answer{advice} ({first_line(error)})."
        ) from error
