"""`GET /v1/quarantine/{stream}`: what was refused, and why."""

import asyncio
from typing import Annotated, Any

from litestar import Request, Router, get
from litestar.params import QueryParameter

from lakehouse.contracts.streams import Stream
from lakehouse.http.problems import error_responses
from lakehouse.serving.api.authorized_streams import named
from lakehouse.serving.api.state import Serving
from lakehouse.serving.query.lake_snapshot import LakeSnapshot
from lakehouse.serving.query.reader_pool import ReaderPool
from lakehouse.serving.query.recent_rejects import RecentRejects
from lakehouse.serving.query.rejects import (
    QuarantineReport,
    RecentArrivals,
    RejectSample,
    in_bronze_sql,
    matches_filter,
    parse_time,
    quarantine_report,
    reasons_sql,
    reject_samples,
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
) -> QuarantineReport:
    """A stream's quarantine: its rows counted by reason, and those that arrived last with their raw text."""
    known, snapshot = named(serving, request, stream), serving.snapshot
    first = None if since is None else parse_time(since)
    asked = {"since": first, "reason": reason}
    counted, samples, fresh = await asyncio.gather(
        serving.readers.run(reasons_sql(snapshot, known), asked, snapshot=snapshot),
        serving.readers.run(samples_sql(snapshot, known), {**asked, "limit": limit}, snapshot=snapshot),
        just_arrived(serving.tracker.tail.recent_rejects, serving.readers, known, snapshot),
    )
    counted_now = serving.overview.counted(stream)
    arrived = RecentArrivals(counted_now.events, counted_now.broken)
    shown = [row for row in fresh if matches_filter(row, first, reason)]
    shown += reject_samples(samples.table.to_pylist())
    return quarantine_report(stream, arrived, counted.table.to_pylist(), shown[:limit])


async def just_arrived(
    refused: RecentRejects, readers: ReaderPool, stream: Stream, snapshot: LakeSnapshot
) -> list[RejectSample]:
    """The rows refused just now that bronze does not hold, those that arrived last first; the others are forgotten."""
    if not (rows := await asyncio.to_thread(refused.of, stream)):
        return []
    found = await readers.run(in_bronze_sql(snapshot, stream, rows), snapshot=snapshot)
    held = {str(one) for one in found.table.column("object").to_pylist()}
    refused.forget(stream.name, held)
    return [row for row in rows if row.object not in held]


router = Router("/v1/quarantine", route_handlers=[quarantine], tags=["alerts and quarantine"])
