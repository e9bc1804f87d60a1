"""Errors as RFC 9457 problem details: what is wrong and what to do. When one is raised is decided elsewhere."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class ProblemDetails(msgspec.Struct, omit_defaults=True):
    """An error, https://www.rfc-editor.org/rfc/rfc9457."""

    title: str
    """The status in words."""
    status: int
    """The HTTP status."""
    detail: str
    """What is wrong with this request, and what to do."""
    streams: list[str] = []
    """The streams there are, where an unknown one was asked for."""


class Problem(Exception):  # noqa: N818 (the word of the RFC)
    """Ends a request with this status; `detail` says what to do."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        streams: list[str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.headers = dict(headers or {})
        self.details = ProblemDetails(status.phrase, status.value, detail, streams or [])


def _response(details: ProblemDetails, headers: Mapping[str, str]) -> Response[bytes]:
    content = msgspec.json.encode(details)
    return Response(content, status_code=details.status, media_type=MEDIA_TYPE, headers=headers)


def problem(_: Request[Any, Any, Any], raised: Problem) -> Response[bytes]:
    """The answer to a request that met a Problem."""
    return _response(raised.details, raised.headers)


def framework_error(_: Request[Any, Any, Any], raised: HTTPException) -> Response[bytes]:
    """The answer where the framework itself refuses: no such path, method or parameter."""
    status = HTTPStatus(raised.status_code)
    detail = raised.detail
    if status is HTTPStatus.NOT_FOUND:
        detail = "There is nothing here; /schema lists what there is."
    elif status is HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"This path takes {(raised.headers or {}).get('allow', 'other methods')}; /schema says what for."
    elif isinstance(raised.extra, list):
        detail = "; ".join(
            [detail, *(f"{e.get('key')}: {e.get('message')}" for e in raised.extra if isinstance(e, dict))]
        )
    return _response(ProblemDetails(status.phrase, status.value, detail), raised.headers or {})


def unforeseen(request: Request[Any, Any, Any], raised: Exception) -> Response[bytes]:
    """The answer where nobody thought of it; the log has the reason."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=raised)
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    return _response(
        ProblemDetails(status.phrase, status.value, "The server failed; its log says why. Send the request again."), {}
    )


HANDLERS = {Problem: problem, HTTPException: framework_error, Exception: unforeseen}
