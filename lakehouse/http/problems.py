"""Errors as RFC 9457 problem details, and how the OpenAPI document describes them.

Each route raises its own; see `auth` for those about API keys.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec
from litestar.plugins.problem_details import ProblemDetailsConfig, ProblemDetailsException, ProblemDetailsPlugin

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class ProblemDetails(msgspec.Struct, omit_defaults=True):
    """An error, https://www.rfc-editor.org/rfc/rfc9457."""

    title: str
    """The status in words."""
    status: int
    """The HTTP status."""
    detail: str
    """The error of this request, and how to fix it."""
    streams: list[str] = []
    """The known streams, if the request names an unknown one."""


class Problem(ProblemDetailsException):
    """End a request with this status; `detail` says what is wrong and what to do."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        streams: list[str] | None = None,
    ) -> None:
        super().__init__(
            detail=detail,
            status_code=status.value,
            title=status.phrase,
            headers=dict(headers or {}),
            extra={"streams": streams} if streams else None,
        )


def unknown_stream(name: str, streams: Sequence[str]) -> Problem:
    """Build the 404 for a stream that does not exist; `streams` are those that the client may choose from."""
    detail = f"There is no stream {name!r}; there are {', '.join(streams)}."
    return Problem(HTTPStatus.NOT_FOUND, detail, streams=[*streams])


def problem_details_plugin(
    to_problem: Mapping[type[Exception], Callable[[Any], Problem]] | None = None,
) -> ProblemDetailsPlugin:
    """Build the plugin that answers every HTTP error with problem details.

    `to_problem` converts exceptions of the application. Litestar's own conversion of its HTTP errors puts their detail
    into `title` and leaves `detail` out, so `_from_http_exception` replaces it.
    """
    converters: dict[type[Exception], Callable[[Any], Problem]] = {
        HTTPException: _from_http_exception,
        RecursionError: _nested_too_deeply,
        **(to_problem or {}),
    }
    return ProblemDetailsPlugin(ProblemDetailsConfig(exception_to_problem_detail_map=converters))


def _from_http_exception(error: HTTPException) -> Problem:
    """Convert an error that Litestar raises: no such path, method or parameter."""
    status = HTTPStatus(error.status_code)
    headers = error.headers or {}
    detail = error.detail
    if status is HTTPStatus.NOT_FOUND:
        detail = "Nothing is served at this path. See /schema for the paths."
    elif status is HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"This path accepts {headers.get('allow', 'other methods')}. See /schema."
    elif isinstance(error.extra, list):
        fields = (f"{entry.get('key')}: {entry.get('message')}" for entry in error.extra if isinstance(entry, dict))
        detail = "; ".join([detail, *fields])
    return Problem(status, detail, headers=headers)


def _nested_too_deeply(_: RecursionError) -> Problem:
    """Convert the error by which msgspec refuses JSON that is nested deeper than Python's stack allows."""
    return Problem(HTTPStatus.BAD_REQUEST, "The request's JSON is nested too deeply.")


def unexpected_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Answer 500 and log the exception with the request's method and path, which the plugin's converters don't get."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    detail = "The server failed; its log says why. Send the request again."
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail).to_response(request)


EXCEPTION_HANDLERS = {Exception: unexpected_error}


def error_responses(*statuses: int) -> dict[int, ResponseSpec]:
    """Describe these statuses for OpenAPI, each with problem details as its body."""
    return {
        status: ResponseSpec(
            data_container=ProblemDetails,
            description=HTTPStatus(status).phrase,
            media_type=MEDIA_TYPE,
            generate_examples=False,
        )
        for status in statuses
    }
