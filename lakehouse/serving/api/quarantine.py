"""Route `/v1/quarantine/{stream}`: rejected rows and their reasons."""

import asyncio
from typing import Annotated

from litestar import Router, get
from litestar.params import QueryParameter

from lakehouse.contracts.streams import Stream
from lakehouse.http.problems import error_responses
from lakehouse.serving.api.state import HttpRequest, Serving
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

SinceParameter = Annotated[
    str | None,
    QueryParameter(max_length=100, description="Only rows that arrived from then on, such as 2025-11-20T14:00:00Z."),
]
ReasonParameter = Annotated[
    str | None, QueryParameter(max_length=4000, description="Only rows with this reason, as the report lists it.")
]
LimitParameter = Annotated[int, QueryParameter(ge=0, le=1000, description="Maximum number of sample rows.")]


@get("/{stream:str}", summary="Report rejected rows", responses=error_responses(400, 401, 403, 404, 408, 429, 503))
async def quarantine(
    request: HttpRequest,
    serving: Serving,
    stream: str,
    since: SinceParameter = None,
    reason: ReasonParameter = None,
    limit: LimitParameter = 20,
) -> QuarantineReport:
    """Report a stream's quarantine: row counts by reason, and the newest rows with their raw text."""
    definition, snapshot = serving.get_stream(request, stream), serving.snapshot
    since_time = None if since is None else parse_time(since)
    parameters = {"since": since_time, "reason": reason}
    count_sql = await asyncio.to_thread(reasons_sql, snapshot, definition)
    sample_sql = await asyncio.to_thread(samples_sql, snapshot, definition)
    counted, samples, recent = await asyncio.gather(
        serving.readers.run(count_sql, parameters, snapshot=snapshot),
        serving.readers.run(sample_sql, {**parameters, "limit": limit}, snapshot=snapshot),
        rejects_not_in_bronze(serving.tracker.tail.recent_rejects, serving.readers, definition, snapshot),
    )
    recent_counts = serving.overview.recent_counts(stream)
    arrived = RecentArrivals(recent_counts.events, recent_counts.broken)
    shown = [row for row in recent if matches_filter(row, since_time, reason)]
    shown += reject_samples(samples.table.to_pylist())
    return quarantine_report(stream, arrived, counted.table.to_pylist(), shown[:limit])


async def rejects_not_in_bronze(
    recent_rejects: RecentRejects, readers: ReaderPool, stream: Stream, snapshot: LakeSnapshot
) -> list[RejectSample]:
    """Return the recently rejected rows that bronze does not hold yet, newest first, and forget the others."""
    if not (rows := await asyncio.to_thread(recent_rejects.newest, stream)):
        return []
    sql = await asyncio.to_thread(in_bronze_sql, snapshot, stream, rows)
    result = await readers.run(sql, snapshot=snapshot)
    in_bronze = {str(key) for key in result.table.column("object").to_pylist()}
    recent_rejects.drop(stream.name, in_bronze)
    return [row for row in rows if row.object not in in_bronze]


router = Router("/v1/quarantine", route_handlers=[quarantine], tags=["alerts and quarantine"])
