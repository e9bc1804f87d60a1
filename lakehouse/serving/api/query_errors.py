"""Problem details for the errors of a query, with the status that tells a client what to do."""

from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus

from lakehouse.errors import (
    BusyError,
    QueryError,
    QueryTimeoutError,
    StorageUnavailableError,
    UnreadableObjectError,
    UnreadableTableError,
)
from lakehouse.http.problems import Problem


def _to_problem(error: Exception, *, status: HTTPStatus, retry_after: str | None = None) -> Problem:
    return Problem(status, str(error), headers={"retry-after": retry_after} if retry_after else None)


QUERY_PROBLEMS: Mapping[type[Exception], Callable[[Exception], Problem]] = {
    QueryTimeoutError: partial(_to_problem, status=HTTPStatus.REQUEST_TIMEOUT),
    QueryError: partial(_to_problem, status=HTTPStatus.BAD_REQUEST),
    BusyError: partial(_to_problem, status=HTTPStatus.TOO_MANY_REQUESTS, retry_after="1"),
    StorageUnavailableError: partial(_to_problem, status=HTTPStatus.SERVICE_UNAVAILABLE, retry_after="2"),
    UnreadableObjectError: partial(_to_problem, status=HTTPStatus.SERVICE_UNAVAILABLE, retry_after="60"),
    UnreadableTableError: partial(_to_problem, status=HTTPStatus.SERVICE_UNAVAILABLE, retry_after="60"),
}
