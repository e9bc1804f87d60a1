"""`GET /v1/quarantine/{stream}`: what was refused, and why."""

import asyncio
from typing import Annotated, Any

from litestar import Request, Router, get
from litestar.params import QueryParameter

from lakehouse.ingest.http.documented import refusals
from lakehouse.serving.api.serving import Serving
from lakehouse.serving.api.streams import named
from lakehouse.serving.quarantine import Arrived, Refusals, parse_moment, reasons_sql, refusals_of, samples_sql


@get("/{stream:str}", summary="What was refused, and why", responses=refusals(400, 401, 403, 404, 408, 429, 503))
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
    asked = {"since": None if since is None else parse_moment(since), "reason": reason}
    counted, samples = await asyncio.gather(
        serving.readers.run(reasons_sql(moment, known), asked, moment=moment),
        serving.readers.run(samples_sql(moment, known), {**asked, "limit": limit}, moment=moment),
    )
    counted_now = serving.overview.counted(stream)
    arrived = Arrived(counted_now.events, counted_now.broken)
    return refusals_of(stream, arrived, counted.table.to_pylist(), samples.table.to_pylist())


router = Router("/v1/quarantine", route_handlers=[quarantine], tags=["alerts and quarantine"])
