"""`GET /v1/queries/{name}`: each named query is an endpoint of its own, with its parameters' types in the document.

An answer is kept as long as what it was read from stays as it is, and its ETag says so; see `answers`.
"""

import asyncio
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response, Router, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Operation, Schema
from litestar.openapi.spec import Parameter as Documented
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from lakehouse.errors import ParameterError
from lakehouse.http.api_keys import ApiKey
from lakehouse.http.problems import Problem, error_responses
from lakehouse.pipeline.unified_view import stream_view_names, view_exists
from lakehouse.serving.api.content_negotiation import ANSWERS, MEDIA_TYPES, STATISTICS, chosen
from lakehouse.serving.api.result_cache import Answers, Kept
from lakehouse.serving.api.state import Serving
from lakehouse.serving.query.lake_snapshot import LakeSnapshot
from lakehouse.serving.query.named_queries import NamedQuery, Parameter, Value
from lakehouse.serving.query.rendering import Column, Format, Statistics, render, sql_type
from lakehouse.serving.query.sql import names_mentioned

Asked = Request[Any, Any, Any]

SECONDS = 10.0

TYPES: Mapping[str, tuple[OpenAPIType, OpenAPIFormat | None]] = {
    "text": (OpenAPIType.STRING, None),
    "integer": (OpenAPIType.INTEGER, None),
    "number": (OpenAPIType.NUMBER, None),
    "boolean": (OpenAPIType.BOOLEAN, None),
    "date": (OpenAPIType.STRING, OpenAPIFormat.DATE),
    "timestamp": (OpenAPIType.STRING, OpenAPIFormat.DATE_TIME),
}
"""OpenAPI's type and format of a parameter."""


class Reads:
    """What a query reads of the latest snapshot, worked out once a snapshot."""

    def __init__(self, query: NamedQuery) -> None:
        self._mentioned = sorted(names_mentioned(query.sql))
        self._number = -1
        self.names: list[str] = []
        """Of the tables and views."""
        self.committed = ""
        self.landed = ""

    def look(self, snapshot: LakeSnapshot) -> None:
        """Be about this snapshot."""
        if snapshot.number != self._number:
            self.names = [name for name in self._mentioned if view_exists(snapshot, name)]
            self.committed, self.landed = snapshot.committed(self.names), snapshot.landed(self.names)
            self._number = snapshot.number


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

    @get("/", summary="The named queries", responses=error_responses(401, 403))
    async def list_queries(request: Asked, serving: Serving) -> list[Listed]:
        """Every named query with its parameters."""
        serving.access.authenticate(request)
        return listed

    answers = Answers()
    handlers = [_handler(query, answers) for query in queries.values()]
    return Router("/v1/queries", route_handlers=[list_queries, _unknown(sorted(queries)), *handlers], tags=["queries"])


def _unknown(names: list[str]) -> HTTPRouteHandler:
    @get("/{name:str}", include_in_schema=False)
    async def unknown_query(name: str) -> None:
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no query {name!r}; there are {', '.join(names)}.")

    return unknown_query


def _handler(query: NamedQuery, answers: Answers) -> HTTPRouteHandler:
    reads = Reads(query)
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
        responses={200: ANSWERS} | error_responses(400, 401, 403, 406, 408, 429, 503),
    )
    async def answer(request: Asked, serving: Serving) -> Response[bytes]:
        key = serving.access.authorize(request, "query")
        form = chosen(request)
        values = _values(query, request)
        snapshot = serving.snapshot
        reads.look(snapshot)
        _refuse_others(key, reads.names)
        question = repr((query.sql, sorted(values.items()), form, reads.committed))
        wanted = request.headers.get("if-none-match", "")
        if (etag := _etag(question, reads.landed)) in wanted:
            return Response(b"", status_code=HTTPStatus.NOT_MODIFIED, headers={"etag": etag})
        kept = await answers.get(
            question, reads.landed, partial(_computed, serving, snapshot, query, values, form, question, reads.landed)
        )
        if kept.etag in wanted:
            return Response(b"", status_code=HTTPStatus.NOT_MODIFIED, headers={"etag": kept.etag})
        headers = {"etag": kept.etag, "cache-control": "private, no-cache", STATISTICS: kept.statistics}
        if kept.landed != reads.landed:
            headers["age"] = str(round(kept.age))
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


def _refuse_others(key: ApiKey | None, names: list[str]) -> None:
    """A key that is good for some streams reads what is theirs alone."""
    if key is None or not key.streams:
        return
    allowed = {name for stream in key.streams for name in stream_view_names(stream)}
    if others := [name for name in names if name not in allowed]:
        raise Problem(HTTPStatus.FORBIDDEN, f"The key {key.id} ({key.name}) is not good for {', '.join(others)}.")


def _etag(question: str, landed: str) -> str:
    return f'"{hashlib.sha256((question + landed).encode()).hexdigest()[:32]}"'


async def _computed(
    serving: Serving,
    snapshot: LakeSnapshot,
    query: NamedQuery,
    values: Mapping[str, Value | None],
    form: Format,
    question: str,
    landed: str,
) -> Kept:
    began = time.monotonic()
    rows = serving.settings.query_rows
    answer = await serving.readers.run(query.sql, values, rows=rows, seconds=SECONDS, snapshot=snapshot)
    snapshots = {name: None if one is None else str(one) for name, one in answer.snapshots.items()}
    statistics = Statistics(answer.table.num_rows, answer.truncated, answer.seconds, answer.table.nbytes, snapshots)
    columns = [Column(field.name, sql_type(field.type)) for field in answer.table.schema]
    body = await asyncio.to_thread(lambda: b"".join(render(answer.table, columns, form, statistics)))
    said = msgspec.json.encode(statistics).decode()
    return Kept(_etag(question, landed), body, said, landed, time.monotonic() - began)


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
