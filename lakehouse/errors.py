"""The exceptions that a user can catch. A message says what failed, where, and what to do."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lakehouse.client.results import SendResult


class LakehouseError(Exception):
    """The base of all exceptions. The command line prints the message on one line and exits with 1."""

    problem: Mapping[str, Any] | None = None
    """The server's answer as RFC 9457 problem details, with its `status`; None for an error that no server reported."""

    retry_after: float | None = None
    """Seconds after which the server asks for another attempt; None if it does not ask for one."""

    sent: "SendResult | None" = None
    """The events that `Client.send` had stored when it failed; None for an error of anything else."""


class ContractError(LakehouseError):
    """A contract or a SQL file of a stream is wrong. The message names the file, the field and what is allowed."""


class ModelError(LakehouseError):
    """A model is wrong. The message names the file, the line and what is allowed."""


class SqlTestError(LakehouseError):
    """The file of a test of SQL is wrong, or its SQL fails. The message names the file and what is allowed."""


class SchemaChangeError(LakehouseError):
    """A contract changed in a way that its table can't follow in place."""


class UnknownStreamError(LakehouseError):
    """No stream has this name. The message lists the streams there are."""


class StorageUnavailableError(LakehouseError):
    """The S3 server or the catalog does not answer. Start it with `lakehouse up` and try again."""


class UnreadableTableError(LakehouseError):
    """A table's metadata is gone or damaged. The message names the file; other tables can be read."""


class UnreadableObjectError(LakehouseError):
    """Storage answers with an error for one object. The message names it; other objects may be fine."""


class StorageFullError(LakehouseError):
    """The disk under the storage server is full. Free some space and try again."""


class EngineError(LakehouseError):
    """Spark can't be used, or gave up on a task. The message says why."""


class CommitConflictError(LakehouseError):
    """Another writer committed the same partition first. Compute it again and commit again."""


class QualityGateError(LakehouseError):
    """The quality gate blocked a partition because too few of its rows are valid. Its last good rows stay."""


class QueryError(LakehouseError):
    """A query is wrong, or does more than read."""


class QueryFileError(LakehouseError):
    """The file of a named query is wrong. The message names the file, the field and what is allowed."""


class LookupFileError(LakehouseError):
    """The file of a look-up is wrong, or its key does not identify rows. The message names the file, the line and the rule."""


class ParameterError(LakehouseError):
    """A parameter of a named query is unknown, missing or wrong."""


class SourceChangedError(LakehouseError):
    """A file changed while it was loaded. Load it again when its writer has finished."""


class UnreadableSourceError(LakehouseError):
    """A file or object can't be read as rows."""


class ObjectNotFoundError(LakehouseError):
    """No object has this key."""


class QueryTimeoutError(QueryError):
    """A query took longer than the limit. Ask for less at a time."""


class BusyError(LakehouseError):
    """Too many queries are waiting. Try again in a second."""


class ServerUnreachableError(LakehouseError):
    """The HTTP server does not answer. Start it with `lakehouse up`, or check the URL."""


class AuthenticationError(LakehouseError):
    """The API key is missing, unknown or revoked. Create one with `lakehouse keys create`."""


class PermissionDeniedError(LakehouseError):
    """The API key lacks the scope or the stream. The message names both."""


class NotFoundError(LakehouseError):
    """Nothing has this name: there is no such query, look-up or entity."""


class RequestError(LakehouseError):
    """The server rejects a request for any other reason. The same request will fail again; `problem` has the status."""
