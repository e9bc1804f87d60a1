"""Routes under `/v1/overview`: the live overview, partition states, and business metrics by day."""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

import msgspec
from litestar import Router, get
from litestar.params import QueryParameter
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage

from lakehouse.http.problems import Problem, error_responses
from lakehouse.pipeline.long_form import DAILY_METRICS
from lakehouse.pipeline.metric_forecasts import HISTORY_DAYS
from lakehouse.pipeline.unified_view import metrics_view_sql
from lakehouse.serving.api.result_cache import CachedResult
from lakehouse.serving.api.sse import AuthorizedStreams, Messages
from lakehouse.serving.api.state import HttpRequest, Serving
from lakehouse.serving.monitoring.daily_metrics import (
    MetricByDay,
    MetricForecast,
    StreamMeasures,
    measures_sql,
    metric_by_day,
    metric_forecast,
    metric_sql,
    stream_measures,
)
from lakehouse.serving.monitoring.overview import Overview, OverviewTracker, PartitionGrid
from lakehouse.serving.query.live_gold import version_of

T = TypeVar("T")

MAX_DAYS = 5_000
METRICS_ERRORS = error_responses(400, 401, 403, 404, 408, 429, 503)

ToParameter = Annotated[date | None, QueryParameter(description="The last day. Defaults to today.")]
DaysParameter = Annotated[int, QueryParameter(ge=1, le=400, description="Number of days.")]
FirstParameter = Annotated[date, QueryParameter(description="The first day.")]
LastParameter = Annotated[date, QueryParameter(description="The last day.")]
ByParameter = Annotated[str | None, QueryParameter(max_length=200, description="Split the metric by this dimension.")]


AheadParameter = Annotated[int, QueryParameter(ge=1, le=60, description="Number of days ahead, today among them.")]
ValueParameter = Annotated[str | None, QueryParameter(max_length=200, description="Only this value of the dimension.")]


@get("/", summary="Get the overview", responses=error_responses(401, 403, 503))
async def overview(request: HttpRequest, serving: Serving) -> Overview:
    """Return the rate, freshness, quality and partition counts of each stream. Updated every second."""
    names = serving.readable_streams(request)
    return (await serving.overview.latest()).only(names)


@get("/live", summary="Follow the overview", media_type="text/event-stream", responses=error_responses(401, 403, 429))
async def live(request: HttpRequest, serving: Serving) -> ServerSentEvent:
    """Stream an `overview` event every second."""
    return serving.event_streams.respond(
        serving.access.client_id(request),
        partial(_overview_messages, serving.overview),
        partial(serving.readable_streams, request),
    )


async def _overview_messages(tracker: OverviewTracker, authorized_streams: AuthorizedStreams) -> Messages:
    latest = await tracker.latest()
    while True:
        text = msgspec.json.encode(latest.only(authorized_streams())).decode()
        yield ServerSentEventMessage(data=text, event="overview")
        latest = await tracker.next()


@get("/partitions", summary="List partition states", responses=error_responses(400, 401, 403))
async def partitions(
    request: HttpRequest, serving: Serving, to: ToParameter = None, days: DaysParameter = 30
) -> PartitionGrid:
    """List the state of each day's partition (materialised, stale, waiting or held_back), by stream and layer."""
    names = serving.readable_streams(request)
    last = to or datetime.now(UTC).date()
    if last < date(1, 1, 1) + timedelta(days=days):
        raise Problem(HTTPStatus.BAD_REQUEST, f"There are no {days} days up to {last}.")
    await serving.overview.latest()
    return serving.overview.grid(names, last, days)


@get("/metrics/{stream:str}", summary="List the metrics of a stream", responses=METRICS_ERRORS)
async def measures(request: HttpRequest, serving: Serving, stream: str) -> StreamMeasures:
    """List the metrics that `serving.live_daily_metrics` has of a stream, with their dimensions and days."""
    name = serving.get_stream(request, stream).name
    return await _from_numbers(serving, name, StreamMeasures, measures_sql, {}, partial(stream_measures, name))


@get("/metrics/{stream:str}/{metric:str}", summary="Get a metric by day", responses=METRICS_ERRORS)
async def metric(
    request: HttpRequest,
    serving: Serving,
    stream: str,
    metric: str,
    first: FirstParameter,
    last: LastParameter,
    by: ByParameter = None,
) -> MetricByDay:
    """Return one metric of a stream by day: its total, or one series for each of the largest values of a dimension."""
    name = serving.get_stream(request, stream).name
    number_of_days = (last - first).days + 1
    if not 1 <= number_of_days <= MAX_DAYS:
        raise Problem(HTTPStatus.BAD_REQUEST, f"Request 1 to {MAX_DAYS} days, not {number_of_days}.")
    parameters = {"metric": metric, "first": first, "last": last} | ({"by": by} if by else {})
    days = [first + timedelta(days=offset) for offset in range(number_of_days)]
    query, build = partial(metric_sql, metric=metric, by=by), partial(metric_by_day, name, metric, by, days)
    return await _from_numbers(serving, name, MetricByDay, query, parameters, build)


@get("/metrics/{stream:str}/{metric:str}/forecast", summary="Forecast a metric", responses=METRICS_ERRORS)
async def metric_ahead(
    request: HttpRequest,
    serving: Serving,
    stream: str,
    metric: str,
    days: DaysParameter = 90,
    ahead: AheadParameter = 14,
    by: ByParameter = None,
    value: ValueParameter = None,
) -> MetricForecast:
    """Return a metric by day with what its forecast from the days before expected, the band, and the days ahead.

    The forecast is made from the 400 days before today. With `by` and `value`, it is of one value of a dimension.
    """
    name = serving.get_stream(request, stream).name
    if (by is None) != (value is None):
        raise Problem(HTTPStatus.BAD_REQUEST, "Give both by and value, or neither.")
    today = datetime.now(UTC).date()
    first, last = today - timedelta(days=HISTORY_DAYS), today - timedelta(days=1)
    parameters = {"metric": metric, "first": first, "last": last} | ({"by": by} if by else {})
    every = [first + timedelta(days=offset) for offset in range(HISTORY_DAYS + ahead)]
    query = partial(metric_sql, metric=metric, by=by)
    build = partial(metric_forecast, name, metric, by, value, every, days + ahead)
    return await _from_numbers(serving, name, MetricForecast, query, parameters, build, (value, days, ahead))


async def _from_numbers(
    serving: Serving,
    name: str,
    kind: type[T],
    query: Callable[[str], str],
    parameters: Mapping[str, Any],
    build: Callable[[list[dict[str, Any]]], T],
    options: tuple[object, ...] = (),
) -> T:
    """Build a response from a query of a stream's live daily metrics, or return the one that was built from the same rows."""
    snapshot = await serving.live.pin_streams(frozenset([name]))

    async def compute() -> CachedResult:
        started = time.monotonic()
        numbers = await asyncio.to_thread(metrics_view_sql, snapshot, [snapshot.streams[name]], name)
        result = await serving.readers.run(query(numbers), parameters, snapshot=snapshot)
        body = msgspec.json.encode(build(result.table.to_pylist()))
        return CachedResult("", body, "", "", time.monotonic() - started)

    version = version_of(snapshot, name), snapshot.table_version([DAILY_METRICS])
    cached = await serving.metrics.get(
        repr((name, query(""), sorted(parameters.items()), options, version)), "", compute
    )
    return msgspec.json.decode(cached.body, type=kind)


router = Router(
    "/v1/overview", route_handlers=[overview, live, partitions, measures, metric, metric_ahead], tags=["overview"]
)
