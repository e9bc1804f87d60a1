"""Route `POST /v1/query`: read-only SQL over every table and view."""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from litestar import Response, Router, post
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema

from lakehouse.http.api_keys import ApiKey
from lakehouse.http.problems import Problem, error_responses
from lakehouse.serving.api.content_negotiation import RESULT_RESPONSE, result_response, select_format
from lakehouse.serving.api.disconnect import cancel_on_disconnect
from lakehouse.serving.api.min_receipt import MIN_RECEIPT_PARAMETER, await_receipts
from lakehouse.serving.api.state import HttpRequest, Serving
from lakehouse.serving.query.information_schema import resolve_information_schema
from lakehouse.serving.query.lake_snapshot import LakeSnapshot
from lakehouse.serving.query.rendering import Format
from lakehouse.serving.query.sandbox import MAX_SQL_CHARACTERS, check_length, resolve_show_tables
from lakehouse.serving.query.table_reads import name_unreadable
from lakehouse.serving.query.time_travel import resolve_time_travel
from lakehouse.serving.query.worker_messages import QueryRequest, WorkerReply
from lakehouse.serving.query.worker_pool import WorkerEndedError
from lakehouse.storage.iceberg.readable import forget_readable

MAX_BODY_BYTES = 4 * MAX_SQL_CHARACTERS
"""Room for a statement of any characters, and its parameters."""

MAX_PARAMETER_DEPTH = 64


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits below those of the server."""

    seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None
    rows: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A query with its parameters and limits."""

    sql: str
    params: list[Any] | dict[str, Any] = []
    """Values for `?` by position, or for `$name` by name."""
    limits: Limits = Limits()


@dataclass
class _QueryOperation(Operation):
    def __post_init__(self) -> None:
        limits = {"seconds": Schema(type="number"), "rows": Schema(type="integer")}  # type: ignore[arg-type]
        properties: dict[str, Any] = {
            "sql": Schema(type="string", description="One SELECT. Name tables as `layer.name`."),  # type: ignore[arg-type]
            "params": Schema(description="An array for `?`, or an object for `$name`."),
            "limits": Schema(type="object", properties=limits, description="Limits below those of the server."),  # type: ignore[arg-type]
        }
        query = Schema(type="object", required=["sql"], properties=properties)  # type: ignore[arg-type]
        content = {
            "application/json": OpenAPIMediaType(schema=query),
            "text/plain": OpenAPIMediaType(schema=Schema(type="string")),  # type: ignore[arg-type]
        }
        self.parameters = [MIN_RECEIPT_PARAMETER]
        self.request_body = RequestBody(content=content, description="A query, or only its SQL as text.", required=True)


@post(
    "/",
    status_code=HTTPStatus.OK,
    operation_class=_QueryOperation,
    request_max_body_size=MAX_BODY_BYTES,
    responses={200: RESULT_RESPONSE} | error_responses(400, 401, 403, 404, 406, 408, 413, 415, 429, 503),
    summary="Run SQL",
)
async def run_query(request: HttpRequest, serving: Serving) -> Response[Any]:
    """Run one SELECT over the tables and views of `GET /v1/tables`, now or `at (version => …)`. SHOW TABLES lists them.

    The Accept header selects JSON, NDJSON, CSV or Arrow. The header Lakehouse-Statistics holds the number of rows, whether
    they were truncated, the seconds taken, and the snapshots read.
    """
    key = serving.access.authorize(request, "query")
    form = select_format(request)
    query = _parse(request, await request.body())
    check_length(query.sql)
    serving.log(key, "query", "", sql=query.sql)
    snapshot = await serving.live.pin(query.sql, await await_receipts(request, serving))
    reply = await run_select(request, serving, snapshot, key, query, form)
    assert reply.statistics is not None
    return result_response(form, reply.statistics, reply.body, reply.path)


async def run_select(
    request: HttpRequest, serving: Serving, snapshot: LakeSnapshot, key: ApiKey | None, query: Query, form: Format
) -> WorkerReply:
    """Run a query in a worker over what its key may read, until the client disconnects. `QUERY_PROBLEMS` has its errors."""
    query_request = await asyncio.to_thread(_prepare, serving, snapshot, query, form, key)
    max_seconds = serving.settings.query_seconds
    seconds = min(query.limits.seconds or max_seconds, max_seconds)
    try:
        work = serving.workers.run(query_request, seconds)
        reply = await cancel_on_disconnect(
            request, name_unreadable(work, serving.lake.connection, snapshot, query_request.snapshots)
        )
    except WorkerEndedError:
        forget_readable()  # an unreadable manifest ends a worker, too; preparing the query again then raises
        await asyncio.to_thread(_prepare, serving, snapshot, query, form, key)
        raise
    return reply


def _prepare(serving: Serving, snapshot: LakeSnapshot, query: Query, form: Format, key: ApiKey | None) -> QueryRequest:
    """Resolve a query for a worker: one snapshot, and the views that it names and its key may read."""
    settings = serving.settings
    allowed = serving.readable_views(key, snapshot)
    sql, past_views = resolve_time_travel(snapshot.only(allowed), resolve_show_tables(query.sql, lambda: allowed))
    sql, described = resolve_information_schema(snapshot, sql, allowed)
    views = {name: select for name, select in snapshot.views(sql).items() if name in allowed}
    return QueryRequest(
        sql=sql,
        parameters=query.params,
        form=form,
        max_rows=min(query.limits.rows or settings.query_rows, settings.query_rows),
        max_bytes=settings.query_answer_mb << 20,
        snapshot=snapshot.number,
        views=views | past_views | described,
        snapshots={name: None if id_ is None else str(id_) for name, id_ in snapshot.snapshot_ids_of(views).items()},
        table_names=sorted(allowed),
    )


def _parse(request: HttpRequest, body: bytes) -> Query:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if media_type == "application/json":
            query = msgspec.json.decode(body, type=Query)
            if not _is_shallow(query.params):
                raise RecursionError(f"params are nested more than {MAX_PARAMETER_DEPTH} deep")
            return query
        if media_type in ("text/plain", "application/sql"):
            return Query(body.decode())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        detail = f'Invalid query ({error}). Send {{"sql": "select …", "params": […], "limits": {{"rows": 100}}}}.'
        raise Problem(HTTPStatus.BAD_REQUEST, detail) from None
    raise Problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send the query as application/json, or only its SQL as text/plain."
    )


def _is_shallow(params: list[Any] | dict[str, Any]) -> bool:
    """Return whether parameters are nested at most MAX_PARAMETER_DEPTH deep, so that every later step can recurse into them."""
    level: list[Any] = [params]
    for _ in range(MAX_PARAMETER_DEPTH):
        containers = [value for value in level if isinstance(value, list | dict)]
        level = [item for value in containers for item in (value.values() if isinstance(value, dict) else value)]
        if not level:
            return True
    return False


router = Router("/v1/query", route_handlers=[run_query], tags=["query"])
