"""What catalogs raise when they give no proper answer, in our own words. `failures` has the same of S3 clients."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import RESTError

from lakehouse.errors import StorageUnavailableError
from lakehouse.storage.objects.connection import Connection

_RAISED = (OSError, RESTError, ValidationError, BotoCoreError, ClientError)
UNANSWERED = (*_RAISED, StorageUnavailableError)
"""What is raised when storage or a catalog gives no proper answer: OSError by file systems and requests, ValidationError
for an answer that makes no sense, the two of botocore by Glue; and what becomes of them here."""

ASKED = (
    "load_table", "table_exists", "create_table", "commit_table", "list_tables", "list_namespaces", "create_namespace",
)  # fmt: skip
"""The methods of a catalog that are used here, by tables and their transactions too."""

P = ParamSpec("P")
R = TypeVar("R")


def explained(catalog: Catalog, connection: Connection) -> Catalog:
    """The catalog, which raises StorageUnavailableError from now on where it gets no proper answer."""
    for name in ASKED:
        setattr(catalog, name, _explained(getattr(catalog, name), connection))
    return catalog


def _explained(method: Callable[P, R], connection: Connection) -> Callable[P, R]:
    @wraps(method)
    def asked(*arguments: P.args, **named: P.kwargs) -> R:
        with answering(connection):
            return method(*arguments, **named)

    return asked


@contextmanager
def answering(connection: Connection) -> Iterator[None]:
    """Raise what the catalog's silence or nonsense raises inside as StorageUnavailableError."""
    try:
        yield
    except _RAISED as problem:
        embedded = connection.data_directory is not None
        what = "; start it with `lakehouse up` and run again" if embedded else " as it should"
        raise StorageUnavailableError(
            f"The catalog at {connection.catalog_uri or 'AWS Glue'} does not answer{what} ({said(problem)})."
        ) from problem


def said(problem: Exception) -> str:
    """The first line of what a library says, as far as somebody may want to read it; of tries in vain, what the last said."""
    last = getattr(next(iter(problem.args), None), "reason", None)
    return str(last or problem).split("\n", 1)[0][:200]
