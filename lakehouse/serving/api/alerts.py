"""Routes under `/v1/alerts`: pages of alerts, and a live feed of new ones."""

from functools import partial
from typing import Annotated

import msgspec
from litestar import Router, get
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage

from lakehouse.http.problems import error_responses
from lakehouse.serving.api.sse import AuthorizedStreams, Messages
from lakehouse.serving.api.state import HttpRequest, Serving
from lakehouse.serving.monitoring.alert_feed import AlertFeed
from lakehouse.serving.monitoring.alerts import Alert, parse_since


class AlertList(msgspec.Struct, frozen=True):
    """A page of alerts."""

    alerts: list[Alert]
    next: str
    """Pass it as `since`, with the same `stream`, to receive every following alert exactly once: first the rest of this
    page's result, then alerts raised since, whenever their event happened."""


SinceParameter = Annotated[
    str | None,
    QueryParameter(
        max_length=8000,
        description="A time such as 2025-11-20T14:00:00Z, which returns alerts from then on, oldest first; or `next` of"
        " an earlier response. Without it, the newest alerts, newest first.",
    ),
]
StreamParameter = Annotated[str | None, QueryParameter(description="Only alerts of this stream.")]
LimitParameter = Annotated[int, QueryParameter(ge=1, le=1000, description="Maximum number of alerts.")]
LastEventIdParameter = Annotated[
    str | None,
    HeaderParameter(name="Last-Event-ID", max_length=100, description="Resume after the event with this id."),
]


@get("/", summary="List alerts", responses=error_responses(400, 401, 403, 404, 408, 429, 503))
async def alerts(
    request: HttpRequest,
    serving: Serving,
    since: SinceParameter = None,
    stream: StreamParameter = None,
    limit: LimitParameter = 100,
) -> AlertList:
    """List alerts by event time, including those of the last seconds. Follow `next` to miss none."""
    names = serving.selected_streams(request, stream)
    if since is None:
        page = await serving.alert_pages.newest(names, limit)
    else:
        page = await serving.alert_pages.since(names, parse_since(since), limit)
    return AlertList(page.alerts, page.next)


@get(
    "/live",
    summary="Follow new alerts",
    media_type="text/event-stream",
    responses=error_responses(401, 403, 404, 429),
)
async def live(
    request: HttpRequest,
    serving: Serving,
    stream: StreamParameter = None,
    last_event_id: LastEventIdParameter = None,
) -> ServerSentEvent:
    """Stream an `alert` event for each new alert. An alert that is recomputed with another result is sent again."""
    return serving.event_streams.respond(
        serving.access.client_id(request),
        partial(_alert_messages, serving.alert_feed, last_event_id),
        partial(serving.selected_streams, request, stream),
    )


async def _alert_messages(
    feed: AlertFeed, last_event_id: str | None, authorized_streams: AuthorizedStreams
) -> Messages:
    async for entry in feed.follow(last_event_id):
        if entry.alert.stream in authorized_streams():
            text = msgspec.json.encode(entry.alert).decode()
            yield ServerSentEventMessage(data=text, event="alert", id=feed.event_id(entry))


router = Router("/v1/alerts", route_handlers=[alerts, live], tags=["alerts and quarantine"])
