"""Route `/v1/trace/{table}`: the landing objects, rows and bytes that rows of a table were made of."""

import asyncio
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from litestar import Router, get
from litestar.params import PathParameter, QueryParameter

from lakehouse.http.api_keys import ApiKey
from lakehouse.http.problems import Problem, error_responses
from lakehouse.pipeline.tracing.document import TraceDocument, make_document
from lakehouse.pipeline.tracing.places import Places, find_places
from lakehouse.pipeline.tracing.trace import Search, Trace, find_origins
from lakehouse.serving.api.query import Query, run_select
from lakehouse.serving.api.state import HttpRequest, Serving
from lakehouse.serving.query.lake_snapshot import LakeSnapshot
from lakehouse.serving.query.sandbox import check_length
from lakehouse.serving.query.worker_messages import WorkerReply

TableName = Annotated[str, PathParameter(description="A table, such as `gold.retail_daily`.")]
Where = Annotated[
    str,
    QueryParameter(
        description="Which of its rows: an SQL condition over its columns, such as `dt = date '2025-11-20'`."
    ),
]
Limit = Annotated[int, QueryParameter(ge=1, le=1_000, description="How many landing objects and rows to list.")]


@get(
    "/{table:str}",
    summary="What a number was made of",
    responses=error_responses(400, 401, 403, 404, 408, 429, 503),
)
async def trace(
    request: HttpRequest, serving: Serving, table: TableName, where: Where, limit: Limit = 20
) -> TraceDocument:
    """Trace rows of a table to the rows of bronze, the landing objects and the bytes that they were made of.

    `steps` says where the answer is by row, and where it is all rows of a day.
    """
    key = serving.access.authorize(request, "query")
    check_length(where)
    snapshot = serving.snapshot
    if table not in serving.readable_views(key, snapshot):
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no table {table[:200]!r} that this request may read.")
    serving.log(key, "query", table, trace=where)
    models = await asyncio.to_thread(lambda: serving.lake.models.models.by_name)
    search = find_origins(snapshot, models, table, where, limit)
    found = await _run(request, serving, snapshot, key, search)
    places = await asyncio.to_thread(_find_places, serving, snapshot, found)
    return make_document(found, places, shared=key is None or not key.streams)


async def _run(
    request: HttpRequest, serving: Serving, snapshot: LakeSnapshot, key: ApiKey | None, search: Search
) -> Trace:
    step = await asyncio.to_thread(_next, search, None)
    while isinstance(step, str):
        reply = await run_select(request, serving, snapshot, key, Query(step), "arrow")
        step = await asyncio.to_thread(lambda answer: _next(search, _rows(answer)), reply)
    return step


def _next(search: Search, rows: Sequence[dict[str, Any]] | None) -> str | Trace:
    try:
        return search.send(rows)  # type: ignore[arg-type]
    except StopIteration as end:
        found: Trace = end.value
        return found


def _rows(reply: WorkerReply) -> list[dict[str, Any]]:
    content = reply.body
    if reply.path is not None:
        file = Path(reply.path)
        content = file.read_bytes()
        file.unlink()
    rows: list[dict[str, Any]] = pa.ipc.open_stream(content).read_all().to_pylist()
    return rows


def _find_places(serving: Serving, snapshot: LakeSnapshot, found: Trace) -> dict[str, Places]:
    find = partial(find_places, serving.lake.objects)
    return {each.stream: find(snapshot.streams[each.stream], each) for each in found.streams}


router = Router("/v1/trace", route_handlers=[trace], tags=["query"])
