"""Route `POST /v1/features`: features of entities as they were known at a time, up to now."""

import asyncio
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
import pyarrow as pa
from litestar import Response, Router, post
from litestar.openapi.spec import Operation

from lakehouse.errors import ContractError, ParameterError, UnknownStreamError
from lakehouse.http.problems import Problem, error_responses
from lakehouse.pipeline.point_in_time.known_features import known_features_sql
from lakehouse.serving.api.content_negotiation import RESULT_RESPONSE, result_response, select_format
from lakehouse.serving.api.min_receipt import MIN_RECEIPT_PARAMETER, await_receipts
from lakehouse.serving.api.state import HttpRequest, Serving
from lakehouse.serving.features.requests import (
    StreamFeatures,
    add_features,
    describe_requests,
    find_features,
    inline_requests,
    read_entities,
    stream_requests,
)
from lakehouse.serving.query.lake_snapshot import LakeSnapshot
from lakehouse.serving.query.rendering import Column, Statistics, render, sql_type

MAX_ENTITIES = 10_000
"""Larger sets of entities belong to `lakehouse.features`, which reads and returns tables."""

MAX_BODY_BYTES = 4 << 20


class FeatureRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Features, and the entities and times that they are asked for."""

    features: Annotated[list[str], msgspec.Meta(min_length=1)]
    """Names as `stream.feature`, such as `iot.readings_7d`."""
    entities: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1, max_length=MAX_ENTITIES)]
    """Rows with the column of each stream's entity, such as `device_id`, and `time`: a time with its zone, or `now`."""


@dataclass
class _FeatureOperation(Operation):
    def __post_init__(self) -> None:
        self.parameters = [MIN_RECEIPT_PARAMETER]


@post(
    "/",
    operation_class=_FeatureOperation,
    status_code=HTTPStatus.OK,
    request_max_body_size=MAX_BODY_BYTES,
    responses={200: RESULT_RESPONSE} | error_responses(400, 401, 403, 404, 406, 408, 413, 429, 503),
    summary="Features at a point in time",
)
async def features(request: HttpRequest, serving: Serving, data: FeatureRequest) -> Response[Any]:
    """Return the rows with a column for each feature, as it was known at the row's time: from rows that had arrived by then.

    An entity without rows in the 30 days before its time has nulls. The Accept header selects JSON, NDJSON, CSV or Arrow.
    """
    started = time.perf_counter()
    key = serving.access.authorize(request, "query")
    form = select_format(request)
    await await_receipts(request, serving)
    snapshot = serving.snapshot
    streams = sorted({name.partition(".")[0] for name in data.features} & snapshot.streams.keys())
    serving.access.authorize(request, "query", *streams)
    serving.log(key, "features", ",".join(streams), features=data.features, entities=len(data.entities))
    try:
        wanted = find_features(snapshot, data.features)
        entities = read_entities(data.entities)
        computed = {of_stream: await _compute(serving, snapshot, of_stream, entities) for of_stream in wanted}
        table = add_features(entities, data.features, computed)
    except UnknownStreamError as error:
        raise Problem(HTTPStatus.NOT_FOUND, str(error), streams=serving.readable_streams(request)) from None
    except (ParameterError, ContractError) as error:
        raise Problem(HTTPStatus.BAD_REQUEST, str(error)) from None
    names = [f"{layer}.{stream}" for stream in streams for layer in ("silver", "realtime")]
    read = {name: None if id_ is None else str(id_) for name, id_ in snapshot.snapshot_ids_of(names).items()}
    statistics = Statistics(table.num_rows, False, time.perf_counter() - started, table.nbytes, read)
    columns = [Column(field.name, sql_type(field.type)) for field in table.schema]
    return result_response(form, statistics, b"".join(render(table, columns, form, statistics)))


async def _compute(serving: Serving, snapshot: LakeSnapshot, wanted: StreamFeatures, entities: pa.Table) -> pa.Table:
    """Compute the features of one stream, a row for each entity in their order."""
    requests = await asyncio.to_thread(stream_requests, snapshot, wanted, entities)
    described = await asyncio.to_thread(describe_requests, wanted, requests, inline_requests(requests))
    arrivals = await serving.arrivals.arrivals(snapshot, wanted.stream, described)
    sql = await asyncio.to_thread(known_features_sql, snapshot, wanted.stream, wanted.names, described, arrivals)
    result = await serving.readers.run(sql, seconds=serving.settings.query_seconds, snapshot=snapshot)
    return result.table


router = Router("/v1/features", route_handlers=[features], tags=["queries"])
