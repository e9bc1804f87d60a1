"""`GET /v1/queries/{name}`: each named query is an endpoint of its own, with its parameters' types in the document.

An answer is kept as long as what it was read from stays as it is, and its ETag says so.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response, Router, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Operation, Schema
from litestar.openapi.spec import Parameter as Documented
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from lakehouse.errors import ParameterError
from lakehouse.ingest.http.documented import refusals
from lakehouse.ingest.http.keys import Key
from lakehouse.ingest.http.problems import Problem
from lakehouse.layers.views import names_of, view_exists
from lakehouse.serving.api.formats import ANSWERS, MEDIA_TYPES, STATISTICS, chosen
from lakehouse.serving.api.serving import Serving
from lakehouse.serving.moments import Moment
from lakehouse.serving.named import NamedQuery, Parameter, Value
from lakehouse.serving.query import mentioned
from lakehouse.serving.rendering import Column, Format, Statistics, render, sql_type

Asked = Request[Any, Any, Any]

SECONDS = 10.0
CACHE_BYTES = 64 << 20

TYPES: Mapping[str, tuple[OpenAPIType, OpenAPIFormat | None]] = {
    "text": (OpenAPIType.STRING, None),
    "integer": (OpenAPIType.INTEGER, None),
    "number": (OpenAPIType.NUMBER, None),
    "boolean": (OpenAPIType.BOOLEAN, None),
    "date": (OpenAPIType.STRING, OpenAPIFormat.DATE),
    "timestamp": (OpenAPIType.STRING, OpenAPIFormat.DATE_TIME),
}
"""OpenAPI's type and format of a parameter."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer as it was sent."""

    etag: str
    body: bytes
    statistics: str


class Cache:
    """The newest answers, the least recently asked for forgotten first; the same question is worked on once at a time."""

    def __init__(self, most: int = CACHE_BYTES) -> None:
        self._most = most
        self._held = 0
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._asked: dict[str, asyncio.Task[Kept]] = {}

    async def get(self, etag: str, compute: Any) -> Kept:
        """The answer of that ETag: kept, being worked on, or computed now."""
        if (kept := self._kept.get(etag)) is not None:
            self._kept.move_to_end(etag)
            return kept
        if (task := self._asked.get(etag)) is None:
            task = self._asked[etag] = asyncio.create_task(compute())
            task.add_done_callback(lambda done: self._finished(etag, done))
        # Who gives up does not take the answer from the others.
        return await asyncio.shield(task)

    def _finished(self, etag: str, done: "asyncio.Task[Kept]") -> None:
        del self._asked[etag]
        if done.cancelled() or done.exception() is not None:
            return
        kept = done.result()
        self._kept[etag] = kept
        self._held += len(kept.body)
        while self._held > self._most:
            _, oldest = self._kept.popitem(last=False)
            self._held -= len(oldest.body)


class About(msgspec.Struct):
    """A parameter of a named query."""

    name: str
    type: str
    description: str
    required: bool
    default: Any = None
    """`today` and `now` are those of the request."""
    enum: list[str] | None = None
    minimum: float | None = None
    maximum: float | None = None


class Listed(msgspec.Struct):
    """A named query."""

    name: str
    description: str
    path: str
    parameters: list[About]


def named_router(queries: Mapping[str, NamedQuery]) -> Router:
    """The routes of these queries, and the list of them."""
    listed = [_listed(query) for query in queries.values()]

    @get("/", summary="The named queries", responses=refusals(401, 403))
    async def list_queries(request: Asked, serving: Serving) -> list[Listed]:
        """Every named query with its parameters."""
        serving.access.check_any(request)
        return listed

    cache = Cache()
    handlers = [_handler(query, cache) for query in queries.values()]
    return Router("/v1/queries", route_handlers=[list_queries, _unknown(sorted(queries)), *handlers], tags=["queries"])


def _unknown(names: list[str]) -> HTTPRouteHandler:
    @get("/{name:str}", include_in_schema=False)
    async def unknown_query(name: str) -> None:
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no query {name!r}; there are {', '.join(names)}.")

    return unknown_query


def _handler(query: NamedQuery, cache: Cache) -> HTTPRouteHandler:
    parameters = [_documented(name, one) for name, one in query.parameters.items()]

    @dataclass
    class QueryOperation(Operation):
        def __post_init__(self) -> None:
            self.parameters = [*parameters]

    @get(
        f"/{query.name}",
        operation_class=QueryOperation,
        operation_id=f"query_{query.name}",
        summary=query.name.replace("_", " ").capitalize(),
        description=query.description,
        responses={200: ANSWERS} | refusals(400, 401, 403, 406, 408, 429, 503),
    )
    async def answer(request: Asked, serving: Serving) -> Response[bytes]:
        key = serving.access.check_for(request, "query")
        form = chosen(request)
        values = _values(query, request)
        moment = serving.moment
        names = [name for name in sorted(mentioned(query.sql)) if view_exists(moment, name)]
        _refuse_others(key, names)
        etag = _etag(query, values, form, moment, names)
        if etag in request.headers.get("if-none-match", ""):
            return Response(b"", status_code=HTTPStatus.NOT_MODIFIED, headers={"etag": etag})

        async def compute() -> Kept:
            return await _computed(serving, query, values, form, etag)

        kept = await cache.get(etag, compute)
        headers = {"etag": kept.etag, "cache-control": "private, no-cache", STATISTICS: kept.statistics}
        return Response(kept.body, media_type=MEDIA_TYPES[form], headers=headers)

    return answer


def _values(query: NamedQuery, request: Asked) -> dict[str, Value | None]:
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise Problem(HTTPStatus.BAD_REQUEST, f"{name} is given twice; give it once.")
        given[name] = value
    try:
        return query.bind(given)
    except ParameterError as problem:
        raise Problem(HTTPStatus.BAD_REQUEST, str(problem)) from None


def _refuse_others(key: Key | None, names: list[str]) -> None:
    """A key that is good for some streams reads what is theirs alone."""
    if key is None or not key.streams:
        return
    allowed = {name for stream in key.streams for name in names_of(stream)}
    if others := [name for name in names if name not in allowed]:
        raise Problem(HTTPStatus.FORBIDDEN, f"The key {key.id} ({key.name}) is not good for {', '.join(others)}.")


def _etag(query: NamedQuery, values: Mapping[str, Value | None], form: Format, moment: Moment, names: list[str]) -> str:
    said = repr((query.sql, sorted(values.items()), form, moment.state_of(names)))
    return f'"{hashlib.sha256(said.encode()).hexdigest()[:32]}"'


async def _computed(
    serving: Serving, query: NamedQuery, values: Mapping[str, Value | None], form: Format, etag: str
) -> Kept:
    answer = await serving.readers.run(query.sql, values, rows=serving.settings.query_rows, seconds=SECONDS)
    snapshots = {name: None if one is None else str(one) for name, one in answer.snapshots.items()}
    statistics = Statistics(answer.table.num_rows, answer.truncated, answer.seconds, answer.table.nbytes, snapshots)
    columns = [Column(field.name, sql_type(field.type)) for field in answer.table.schema]
    body = await asyncio.to_thread(lambda: b"".join(render(answer.table, columns, form, statistics)))
    return Kept(etag, body, msgspec.json.encode(statistics).decode())


def _documented(name: str, parameter: Parameter) -> Documented:
    kind, form = TYPES[parameter.type]
    schema = Schema(
        type=kind,
        format=form,
        enum=parameter.enum,
        minimum=None if parameter.minimum is None else float(parameter.minimum),
        maximum=None if parameter.maximum is None else float(parameter.maximum),
    )
    words = parameter.description
    if not parameter.required and parameter.default is not None:
        words += f" {parameter.default} unless given."
    return Documented(name, "query", schema=schema, description=words, required=parameter.required)


def _listed(query: NamedQuery) -> Listed:
    return Listed(
        query.name,
        query.description,
        f"/v1/queries/{query.name}",
        [
            About(
                name,
                one.type,
                one.description,
                one.required,
                None if one.required else one.default,
                [*one.enum] if one.enum else None,
                None if one.minimum is None else float(one.minimum),
                None if one.maximum is None else float(one.maximum),
            )
            for name, one in query.parameters.items()
        ],
    )
