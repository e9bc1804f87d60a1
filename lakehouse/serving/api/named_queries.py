"""Routes under `/v1/queries`: each named query is an endpoint of its own, with typed parameters in the OpenAPI document.

Results are cached until the tables they were read from change, and carry an ETag; see `result_cache`.
"""

import asyncio
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Response, Router, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Operation, Schema
from litestar.openapi.spec import Parameter as OpenAPIParameter
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from lakehouse.errors import ParameterError
from lakehouse.http.api_keys import ApiKey
from lakehouse.http.problems import Problem, error_responses
from lakehouse.pipeline.unified_view import UNREADABLE, view_exists
from lakehouse.serving.api.content_negotiation import MEDIA_TYPES, RESULT_RESPONSE, STATISTICS_HEADER, select_format
from lakehouse.serving.api.min_receipt import MIN_RECEIPT_PARAMETER, await_receipts
from lakehouse.serving.api.result_cache import CachedResult, ResultCache
from lakehouse.serving.api.state import HttpRequest, Serving
from lakehouse.serving.query.lake_snapshot import LakeSnapshot
from lakehouse.serving.query.named_queries import NamedQuery, Parameter, Value
from lakehouse.serving.query.rendering import Column, Format, Statistics, render, sql_type
from lakehouse.serving.query.sql import names_mentioned

MAX_SECONDS = 10.0

OPENAPI_TYPES: Mapping[str, tuple[OpenAPIType, OpenAPIFormat | None]] = {
    "text": (OpenAPIType.STRING, None),
    "integer": (OpenAPIType.INTEGER, None),
    "number": (OpenAPIType.NUMBER, None),
    "boolean": (OpenAPIType.BOOLEAN, None),
    "date": (OpenAPIType.STRING, OpenAPIFormat.DATE),
    "timestamp": (OpenAPIType.STRING, OpenAPIFormat.DATE_TIME),
}
"""OpenAPI type and format by parameter type."""

LIVE_LAG_SECONDS = (0.5, 2.0)
"""How long a result over live gold may lack what its snapshot has: less than others, because people look for today's numbers
there, but longer where computing its rows takes long."""

LIVE_LAG_RATIO = 4
"""The lag that is allowed, as a multiple of the time that computing the rows took, within these bounds."""


class QuerySources:
    """The tables and views that a query reads, and their versions in the latest snapshot."""

    def __init__(self, query: NamedQuery) -> None:
        self._mentioned = sorted(names_mentioned(query.sql))
        self._number = -1
        self.names: list[str] = []
        """Existing tables and views among those that the query mentions."""
        self.committed = ""
        """Version of their commits."""
        self.landed = ""
        """Version of their newest arrivals."""

    def update(self, snapshot: LakeSnapshot) -> None:
        """Switch to this snapshot. Does nothing if it is the current one."""
        if snapshot.number != self._number:
            self.names = [name for name in self._mentioned if view_exists(snapshot, name)]
            self.committed, self.landed = snapshot.table_version(self.names), snapshot.tail_version(self.names)
            self._number = snapshot.number


class ParameterInfo(msgspec.Struct):
    """A parameter of a named query."""

    name: str
    type: str
    description: str
    required: bool
    default: Any = None
    """`today` and `now` are resolved at the time of the request."""
    enum: list[str] | None = None
    minimum: float | None = None
    maximum: float | None = None


class QueryInfo(msgspec.Struct):
    """A named query."""

    name: str
    description: str
    path: str
    parameters: list[ParameterInfo]


def named_queries_router(queries: Mapping[str, NamedQuery]) -> Router:
    """Build the routes of these queries, and the route that lists them."""
    infos = [query_info(query) for query in queries.values()]

    @get("/", summary="List the named queries", responses=error_responses(401, 403))
    async def list_queries(request: HttpRequest, serving: Serving) -> list[QueryInfo]:
        """List every named query with its parameters."""
        serving.access.authenticate(request)
        return infos

    cache = ResultCache()
    handlers = [_query_handler(query, cache) for query in queries.values()]
    unknown = _unknown_query_handler(sorted(queries))
    return Router("/v1/queries", route_handlers=[list_queries, unknown, *handlers], tags=["queries"])


def _unknown_query_handler(names: list[str]) -> HTTPRouteHandler:
    @get("/{name:str}", include_in_schema=False)
    async def unknown_query(name: str) -> None:
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no query {name!r}; there are {', '.join(names)}.")

    return unknown_query


def _query_handler(query: NamedQuery, cache: ResultCache) -> HTTPRouteHandler:
    sources = QuerySources(query)
    parameters = [_openapi_parameter(name, parameter) for name, parameter in query.parameters.items()]

    @dataclass
    class QueryOperation(Operation):
        def __post_init__(self) -> None:
            self.parameters = [*parameters, MIN_RECEIPT_PARAMETER]

    @get(
        f"/{query.name}",
        operation_class=QueryOperation,
        operation_id=f"query_{query.name}",
        summary=query.name.replace("_", " ").capitalize(),
        description=query.description,
        responses={200: RESULT_RESPONSE} | error_responses(400, 401, 403, 404, 406, 408, 429, 503),
    )
    async def run_named_query(request: HttpRequest, serving: Serving) -> Response[bytes]:
        api_key = serving.access.authorize(request, "query")
        form = select_format(request)
        values = _parameter_values(query, request)
        serving.log(api_key, "query", query.name, parameters=values)
        least = await await_receipts(request, serving)
        snapshot = await serving.live.pin(query.sql, least)
        sources.update(snapshot)
        _check_names(serving, api_key, snapshot, sources.names)
        landed = sources.landed
        cache_key = repr((query.sql, sorted(values.items()), form, sources.committed))
        if_none_match = request.headers.get("if-none-match", "")
        if (etag := _etag(cache_key, landed)) in if_none_match:
            return _not_modified(etag)
        compute = partial(_compute, serving, snapshot, query, values, form, cache_key, landed)
        result = await cache.get(cache_key, landed, compute, max_lag=0.0 if least else _max_lag(snapshot))
        if result.etag in if_none_match:
            return _not_modified(result.etag)
        headers = {"cache-control": "private, no-cache", STATISTICS_HEADER: result.statistics}
        if result.whole:
            headers["etag"] = result.etag
        if result.landed != landed:
            headers["age"] = str(round(result.age))
        return Response(result.body, media_type=MEDIA_TYPES[form], headers=headers)

    return run_named_query


def _max_lag(snapshot: LakeSnapshot) -> float | None:
    """Return how many seconds a result may lag; None without live gold, so that the cache decides."""
    if not snapshot.live_rows:
        return None
    shortest, longest = LIVE_LAG_SECONDS
    seconds = max(rows.seconds for rows in snapshot.live_rows.values())
    return max(shortest, min(longest, seconds * LIVE_LAG_RATIO))


def _not_modified(etag: str) -> Response[bytes]:
    return Response(b"", status_code=HTTPStatus.NOT_MODIFIED, headers={"etag": etag})


def _parameter_values(query: NamedQuery, request: HttpRequest) -> dict[str, Value | None]:
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise Problem(HTTPStatus.BAD_REQUEST, f"{name} is given twice; give it once.")
        given[name] = value
    try:
        return query.bind(given)
    except ParameterError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, str(error)) from None


def _check_names(serving: Serving, key: ApiKey | None, snapshot: LakeSnapshot, names: list[str]) -> None:
    """Raise Problem 403 if a key restricted to some streams would read rows of others."""
    if key is None or not key.streams:
        return
    allowed = serving.readable_views(key, snapshot)
    if forbidden := [name for name in names if name not in allowed]:
        raise Problem(HTTPStatus.FORBIDDEN, f"The key {key.id} ({key.name}) may not read {', '.join(forbidden)}.")


def _etag(cache_key: str, landed: str) -> str:
    return f'"{hashlib.sha256((cache_key + landed).encode()).hexdigest()[:32]}"'


async def _compute(
    serving: Serving,
    snapshot: LakeSnapshot,
    query: NamedQuery,
    values: Mapping[str, Value | None],
    form: Format,
    cache_key: str,
    landed: str,
) -> CachedResult:
    started = time.monotonic()
    max_rows = serving.settings.query_rows
    result = await serving.readers.run(query.sql, values, rows=max_rows, seconds=MAX_SECONDS, snapshot=snapshot)
    table = result.table
    snapshots = {name: None if id_ is None else str(id_) for name, id_ in result.snapshots.items()}
    statistics = Statistics(table.num_rows, result.truncated, result.seconds, table.nbytes, snapshots)
    columns = [Column(field.name, sql_type(field.type)) for field in table.schema]
    body = await asyncio.to_thread(lambda: b"".join(render(table, columns, form, statistics)))
    return CachedResult(
        etag=_etag(cache_key, landed),
        body=body,
        statistics=msgspec.json.encode(statistics).decode(),
        landed=landed,
        seconds=time.monotonic() - started,
        whole=UNREADABLE not in table.column_names or table[UNREADABLE].null_count == len(table),
    )


def _openapi_parameter(name: str, parameter: Parameter) -> OpenAPIParameter:
    kind, form = OPENAPI_TYPES[parameter.type]
    schema = Schema(
        type=kind,
        format=form,
        enum=parameter.enum,
        minimum=_as_float(parameter.minimum),
        maximum=_as_float(parameter.maximum),
    )
    description = parameter.description
    if not parameter.required and parameter.default is not None:
        description += f" {parameter.default} unless given."
    return OpenAPIParameter(name, "query", schema=schema, description=description, required=parameter.required)


def query_info(query: NamedQuery) -> QueryInfo:
    """Describe a query as the list of queries does."""
    parameters = [
        ParameterInfo(
            name=name,
            type=parameter.type,
            description=parameter.description,
            required=parameter.required,
            default=None if parameter.required else parameter.default,
            enum=[*parameter.enum] if parameter.enum else None,
            minimum=_as_float(parameter.minimum),
            maximum=_as_float(parameter.maximum),
        )
        for name, parameter in query.parameters.items()
    ]
    return QueryInfo(query.name, query.description, f"/v1/queries/{query.name}", parameters)


def _as_float(bound: Decimal | None) -> float | None:
    return None if bound is None else float(bound)
