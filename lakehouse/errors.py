"""Every exception this package raises on purpose; the message says what is wrong and what to do about it."""


class LakehouseError(Exception):
    """Anything the user can mend; the command line prints its message in one line and exits with 1."""


class ContractError(LakehouseError):
    """A contract breaks the rules; the message names the file, the field and what is allowed."""


class SchemaChangeError(LakehouseError):
    """A contract changed in a way that a table can't follow in place."""


class UnknownStreamError(LakehouseError):
    """No stream has this name; the message lists those there are."""


class StorageUnavailableError(LakehouseError):
    """The S3 server or the catalog does not answer; start it with `lakehouse up` and run the command again."""


class StorageFullError(LakehouseError):
    """The disk under the storage server is full; free some space and run the command again."""


class CommitConflictError(LakehouseError):
    """Another writer committed the same partition first; compute it again and commit again."""


class QualityGateError(LakehouseError):
    """Too few rows of a partition are valid; the last good snapshot stays."""


class QueryError(LakehouseError):
    """A query is wrong or would do more than read."""


class QueryFileError(LakehouseError):
    """The file of a named query breaks the rules; the message names the file, the field and what is allowed."""


class ParameterError(LakehouseError):
    """A named query was given a parameter that is unknown, missing or wrong."""


class SourceChangedError(LakehouseError):
    """A file changed while it was loaded; load it again when its writer has finished."""


class UnreadableSourceError(LakehouseError):
    """A file or object is not in a form that can be read as rows at all."""


class ObjectNotFoundError(LakehouseError):
    """No object has this key."""


class QueryTimeoutError(QueryError):
    """A query took longer than it may; ask for less at a time."""


class BusyError(LakehouseError):
    """Too many queries are waiting; ask again in a second."""
