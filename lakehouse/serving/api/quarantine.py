"""`GET /v1/quarantine/{stream}`: what was refused, and why."""

import asyncio
from typing import Annotated, Any

from litestar import Request, Router, get
from litestar.params import QueryParameter

from lakehouse.contracts.streams import Stream
from lakehouse.http.problems import error_responses
from lakehouse.serving.api.authorized_streams import named
from lakehouse.serving.api.state import Serving
from lakehouse.serving.query.lake_snapshot import Moment
from lakehouse.serving.query.reader_pool import Readers
from lakehouse.serving.query.recent_rejects import JustRefused
from lakehouse.serving.query.rejects import (
    Arrived,
    Refusals,
    Refused,
    held_sql,
    is_asked_for,
    parse_moment,
    reasons_sql,
    refusals_of,
    refused_of,
    samples_sql,
)


@get("/{stream:str}", summary="What was refused, and why", responses=error_responses(400, 401, 403, 404, 408, 429, 503))
async def quarantine(
    request: Request[Any, Any, Any],
    serving: Serving,
    stream: str,
    since: Annotated[
        str | None,
        QueryParameter(max_length=100, description="What arrived from then on, a time such as 2025-11-20T14:00:00Z."),
    ] = None,
    reason: Annotated[
        str | None,
        QueryParameter(max_length=4000, description="Those with this reason, as the list of reasons has it."),
    ] = None,
    limit: Annotated[int, QueryParameter(ge=0, le=1000, description="How many rows at most.")] = 20,
) -> Refusals:
    """A stream's quarantine: its rows counted by reason, and those that arrived last with their raw text."""
    known, moment = named(serving, request, stream), serving.moment
    first = None if since is None else parse_moment(since)
    asked = {"since": first, "reason": reason}
    counted, samples, fresh = await asyncio.gather(
        serving.readers.run(reasons_sql(moment, known), asked, moment=moment),
        serving.readers.run(samples_sql(moment, known), {**asked, "limit": limit}, moment=moment),
        just_arrived(serving.moments.tail.refused, serving.readers, known, moment),
    )
    counted_now = serving.overview.counted(stream)
    arrived = Arrived(counted_now.events, counted_now.broken)
    shown = [row for row in fresh if is_asked_for(row, first, reason)]
    shown += refused_of(samples.table.to_pylist())
    return refusals_of(stream, arrived, counted.table.to_pylist(), shown[:limit])


async def just_arrived(refused: JustRefused, readers: Readers, stream: Stream, moment: Moment) -> list[Refused]:
    """The rows refused just now that bronze does not hold, those that arrived last first; the others are forgotten."""
    if not (rows := await asyncio.to_thread(refused.of, stream)):
        return []
    found = await readers.run(held_sql(moment, stream, rows), moment=moment)
    held = {str(one) for one in found.table.column("object").to_pylist()}
    refused.forget(stream.name, held)
    return [row for row in rows if row.object not in held]


router = Router("/v1/quarantine", route_handlers=[quarantine], tags=["alerts and quarantine"])
