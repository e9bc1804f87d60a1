"""`GET /v1/overview` and what is below it: what flows now, the days' numbers, the partitions and their state."""

from collections.abc import AsyncGenerator, Callable
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from litestar import Request, Router, get
from litestar.params import QueryParameter
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage

from lakehouse.http.problems import Problem, error_responses
from lakehouse.serving.api.authorized_streams import named, readable
from lakehouse.serving.api.state import Serving
from lakehouse.serving.monitoring.daily_metrics import (
    MEASURES_SQL,
    Measures,
    Numbers,
    measures_of,
    numbers_of,
    numbers_sql,
)
from lakehouse.serving.monitoring.overview import Grid, Overview, OverviewNow

MOST_DAYS = 5_000
REFUSED = error_responses(400, 401, 403, 404, 408, 429, 503)


@get("/", summary="What flows now", responses=error_responses(401, 403, 503))
async def overview(request: Request[Any, Any, Any], serving: Serving) -> OverviewNow:
    """Each stream's rate, freshness, quality and partitions; made anew every second."""
    names = readable(serving, request)
    return (await serving.overview.latest()).only(names)


@get(
    "/live", summary="What flows, from now on", media_type="text/event-stream", responses=error_responses(401, 403, 429)
)
async def live(request: Request[Any, Any, Any], serving: Serving) -> ServerSentEvent:
    """Server-sent events: an `overview` every second."""

    def names() -> list[str]:
        return readable(serving, request)

    names()
    return serving.live.answer(_messages(serving.overview, names), names)


async def _messages(overview: Overview, names: Callable[[], list[str]]) -> AsyncGenerator[ServerSentEventMessage, None]:
    now = await overview.latest()
    while True:
        yield ServerSentEventMessage(data=msgspec.json.encode(now.only(names())).decode(), event="overview")
        now = await overview.next()


@get("/partitions", summary="Partitions and their state", responses=error_responses(400, 401, 403))
async def partitions(
    request: Request[Any, Any, Any],
    serving: Serving,
    to: Annotated[date | None, QueryParameter(description="The last day; today when none is given.")] = None,
    days: Annotated[int, QueryParameter(ge=1, le=400, description="How many days.")] = 30,
) -> Grid:
    """Of every stream and layer that is computed day by day: what is materialised, stale, waiting or held back."""
    names = readable(serving, request)
    last = to or datetime.now(UTC).date()
    if last < date(1, 1, 1) + timedelta(days=days):
        raise Problem(HTTPStatus.BAD_REQUEST, f"There are no {days} days up to {last}.")
    await serving.overview.latest()
    return serving.overview.grid(names, last, days)


@get("/metrics/{stream:str}", summary="Which numbers a stream has", responses=REFUSED)
async def measures(request: Request[Any, Any, Any], serving: Serving, stream: str) -> Measures:
    """The numbers of `gold.daily_metrics` for this stream, and the days there are."""
    name = named(serving, request, stream).name
    answer = await serving.readers.run(MEASURES_SQL, [name])
    return measures_of(name, answer.table.to_pylist())


@get("/metrics/{stream:str}/{metric:str}", summary="A number by day", responses=REFUSED)
async def numbers(
    request: Request[Any, Any, Any],
    serving: Serving,
    stream: str,
    metric: str,
    first: Annotated[date, QueryParameter(description="The first day.")],
    last: Annotated[date, QueryParameter(description="The last day.")],
    by: Annotated[str | None, QueryParameter(max_length=200, description="A dimension to tell it apart by.")] = None,
) -> Numbers:
    """One number of a stream by day, as a whole or for the largest values of a dimension."""
    name = named(serving, request, stream).name
    if not 0 <= (last - first).days < MOST_DAYS:
        raise Problem(HTTPStatus.BAD_REQUEST, f"Ask for 1 to {MOST_DAYS} days; these are {(last - first).days + 1}.")
    asked = {"stream": name, "metric": metric, "first": first, "last": last} | ({"by": by} if by else {})
    answer = await serving.readers.run(numbers_sql(metric, by), asked)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return numbers_of(name, metric, by, days, answer.table.to_pylist())


router = Router("/v1/overview", route_handlers=[overview, live, partitions, measures, numbers], tags=["overview"])
