"""What a query's failure is over HTTP: problem details that say what to do."""

from http import HTTPStatus
from typing import Any

from litestar import Request, Response

from lakehouse.errors import BusyError, QueryError, QueryTimeoutError, StorageUnavailableError
from lakehouse.http.problems import Problem, problem

Asked = Request[Any, Any, Any]


def wrong(request: Asked, raised: QueryError) -> Response[bytes]:
    """The query can't be run as it is."""
    return problem(request, Problem(HTTPStatus.BAD_REQUEST, str(raised)))


def timed_out(request: Asked, raised: QueryTimeoutError) -> Response[bytes]:
    """The query took longer than it may."""
    return problem(request, Problem(HTTPStatus.REQUEST_TIMEOUT, str(raised)))


def busy(request: Asked, raised: BusyError) -> Response[bytes]:
    """There are too many at once."""
    return problem(request, Problem(HTTPStatus.TOO_MANY_REQUESTS, str(raised), headers={"retry-after": "1"}))


def away(request: Asked, raised: StorageUnavailableError) -> Response[bytes]:
    """Storage does not answer."""
    return problem(request, Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(raised), headers={"retry-after": "2"}))


QUERY_HANDLERS = {
    QueryTimeoutError: timed_out,
    QueryError: wrong,
    BusyError: busy,
    StorageUnavailableError: away,
}
