"""`POST /v1/query`: read-only SQL over every table and view."""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, Router, post
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema

from lakehouse.errors import QueryError
from lakehouse.http.api_keys import ApiKey
from lakehouse.http.problems import Problem, error_responses
from lakehouse.pipeline.unified_view import stream_view_names, view_names
from lakehouse.serving.api.content_negotiation import ANSWERS, chosen, response
from lakehouse.serving.api.disconnect import unless_gone
from lakehouse.serving.api.state import Serving
from lakehouse.serving.query.rendering import Format
from lakehouse.serving.query.sandbox import MAX_SQL_CHARACTERS
from lakehouse.serving.query.sql import resolve_time_travel
from lakehouse.serving.query.worker import QueryRequest

MOST_BYTES = 4 * MAX_SQL_CHARACTERS
"""Of a request: a statement, and what belongs to it."""

MOST_READ_BYTES = 64 << 20
"""Of a request that is too long: one that is not read to its end is cut off, and its sender never sees the answer."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Less than the server allows."""

    seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None
    rows: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A query."""

    sql: str
    params: list[Any] | dict[str, Any] = []
    """Values for `?` in their order, or for `$name` by name."""
    limits: Limits = Limits()


@dataclass
class _QueryOperation(Operation):
    def __post_init__(self) -> None:
        limits = {"seconds": Schema(type="number"), "rows": Schema(type="integer")}  # type: ignore[arg-type]
        properties: dict[str, Any] = {
            "sql": Schema(type="string", description="One SELECT; tables are `layer.name`."),  # type: ignore[arg-type]
            "params": Schema(description="An array for `?`, an object for `$name`."),
            "limits": Schema(type="object", properties=limits, description="Less than the server allows."),  # type: ignore[arg-type]
        }
        query = Schema(type="object", required=["sql"], properties=properties)  # type: ignore[arg-type]
        content = {
            "application/json": OpenAPIMediaType(schema=query),
            "text/plain": OpenAPIMediaType(schema=Schema(type="string")),  # type: ignore[arg-type]
        }
        self.request_body = RequestBody(content=content, description="A query, or its SQL alone.", required=True)


@post(
    "/",
    status_code=HTTPStatus.OK,
    operation_class=_QueryOperation,
    responses={200: ANSWERS} | error_responses(400, 401, 403, 406, 408, 413, 415, 429, 503),
    summary="Run SQL",
)
async def run_query(request: Request[Any, Any, Any], serving: Serving) -> Response[Any]:
    """One SELECT over the tables and views of `GET /v1/tables`, now or `at (version => …)`.

    In JSON, NDJSON, CSV or Arrow, by Accept; the header Lakehouse-Statistics says how many rows there are, whether there
    would be more, the seconds, and the snapshots that were read.
    """
    key = serving.access.authorize(request, "query")
    form = chosen(request)
    query = _parsed(request, await _body(request))
    asked = await asyncio.to_thread(_prepared, serving, query, form, key)
    most = serving.settings.query_seconds
    told = await unless_gone(request, serving.workers.run(asked, min(query.limits.seconds or most, most)))
    assert told.statistics is not None
    return response(form, told.statistics, told.body, told.path)


def _prepared(serving: Serving, query: Query, form: Format, key: ApiKey | None) -> QueryRequest:
    """The query as a worker takes it: over one snapshot, with the views that it names and its key may read."""
    if len(query.sql) > MAX_SQL_CHARACTERS:
        raise QueryError(f"A query may have {MAX_SQL_CHARACTERS:,} characters; this one has {len(query.sql):,}.")
    snapshot, settings = serving.snapshot, serving.settings
    allowed = set(view_names(snapshot))
    if key is not None and key.streams:
        allowed &= {name for stream in key.streams for name in stream_view_names(stream)}
    text, past = resolve_time_travel(snapshot.only(allowed), query.sql)
    views = {name: select for name, select in snapshot.views(text).items() if name in allowed}
    return QueryRequest(
        sql=text,
        parameters=query.params,
        form=form,
        rows=min(query.limits.rows or settings.query_rows, settings.query_rows),
        bytes=settings.query_answer_mb << 20,
        snapshot=snapshot.number,
        views=views | past,
        snapshots={name: _text(number) for name, number in snapshot.snapshot_ids_of(views).items()},
        names=sorted(allowed),
    )


async def _body(request: Request[Any, Any, Any]) -> bytes:
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size <= MOST_BYTES:
            pieces.append(piece)
        elif size > MOST_READ_BYTES:
            break
    if size > MOST_BYTES:
        detail = f"A query may have {MOST_BYTES >> 10} KiB; what is longer belongs in a table."
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
    return b"".join(pieces)


def _parsed(request: Request[Any, Any, Any], body: bytes) -> Query:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if media == "application/json":
            return msgspec.json.decode(body, type=Query)
        if media in ("text/plain", "application/sql"):
            return Query(body.decode())
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        detail = f'This is no query ({problem}); send {{"sql": "select …", "params": […], "limits": {{"rows": 100}}}}.'
        raise Problem(HTTPStatus.BAD_REQUEST, detail) from None
    raise Problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send the query as application/json, or its SQL alone as text/plain."
    )


def _text(snapshot: int | None) -> str | None:
    return None if snapshot is None else str(snapshot)


router = Router("/v1/query", route_handlers=[run_query], tags=["query"])
