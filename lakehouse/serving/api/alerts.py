"""`GET /v1/alerts` and `/v1/alerts/live`: what somebody should look at, so far and from now on."""

from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Any

import msgspec
from litestar import Request, Router, get
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage

from lakehouse.http.problems import error_responses
from lakehouse.serving.api.authorized_streams import named, readable
from lakehouse.serving.api.state import Serving
from lakehouse.serving.monitoring.alert_feed import AlertFeed
from lakehouse.serving.monitoring.alerts import Alert, parse_since


class Alerts(msgspec.Struct, frozen=True):
    """Some alerts."""

    alerts: list[Alert]
    next: str
    """Give it as `since`, with the same `stream`, for those that follow: the rest of this answer, then what has come up
    since, whenever it happened."""


SinceParameter = Annotated[
    str | None,
    QueryParameter(
        max_length=8000,
        description="From when on: a time such as 2025-11-20T14:00:00Z (the oldest come first then), or `next` of an earlier"
        " answer. Without it, the newest, which come first.",
    ),
]
StreamParameter = Annotated[str | None, QueryParameter(description="Those of this stream alone.")]
LimitParameter = Annotated[int, QueryParameter(ge=1, le=1000, description="How many at most.")]


@get("/", summary="Alerts", responses=error_responses(400, 401, 403, 404, 408, 429, 503))
async def alerts(
    request: Request[Any, Any, Any],
    serving: Serving,
    since: SinceParameter = None,
    stream: StreamParameter = None,
    limit: LimitParameter = 100,
) -> Alerts:
    """Alerts by the time of their event, those of the last moments among them. Who follows `next` misses none."""
    names = readable(serving, request) if stream is None else [named(serving, request, stream).name]
    if since is None:
        page = await serving.alert_pages.newest(names, limit)
    else:
        page = await serving.alert_pages.since(names, parse_since(since), limit)
    return Alerts(page.alerts, page.next)


@get(
    "/live",
    summary="Alerts as they come",
    media_type="text/event-stream",
    responses=error_responses(401, 403, 404, 429),
)
async def live(
    request: Request[Any, Any, Any],
    serving: Serving,
    stream: StreamParameter = None,
    last_event_id: Annotated[
        str | None,
        HeaderParameter(
            name="Last-Event-ID", max_length=100, description="The id of the last event seen: go on after it."
        ),
    ] = None,
) -> ServerSentEvent:
    """Server-sent events, `alert` each, as alerts come up; one that is computed anew with another outcome comes again."""

    def names() -> list[str]:
        return readable(serving, request) if stream is None else [named(serving, request, stream).name]

    names()
    return serving.live.answer(_messages(serving.alert_feed, names, last_event_id), names)


async def _messages(
    feed: AlertFeed, names: Callable[[], list[str]], last_id: str | None
) -> AsyncGenerator[ServerSentEventMessage, None]:
    async for fed in feed.follow(last_id):
        if fed.alert.stream in names():
            text = msgspec.json.encode(fed.alert).decode()
            yield ServerSentEventMessage(data=text, event="alert", id=feed.event_id(fed))


router = Router("/v1/alerts", route_handlers=[alerts, live], tags=["alerts and quarantine"])
