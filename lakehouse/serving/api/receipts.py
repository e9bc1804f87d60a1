"""Route `/v1/receipts/{object}/{row}`: the outcome of an event that was acknowledged."""

import asyncio
from datetime import date
from http import HTTPStatus
from typing import Annotated

import msgspec
from litestar import Router, get
from litestar.params import PathParameter

from lakehouse.contracts.streams import Stream
from lakehouse.http.problems import Problem, error_responses
from lakehouse.pipeline.row_receipts import (
    MEANINGS,
    Found,
    Outcome,
    Place,
    Question,
    Rows,
    Search,
    find_outside_tables,
    find_row,
)
from lakehouse.pipeline.withdrawal import LANDING_FOLDERS
from lakehouse.serving.api.state import HttpRequest, Serving
from lakehouse.serving.query.lake_snapshot import LakeSnapshot


class RowPlace(msgspec.Struct, frozen=True):
    """A landing object, and the number of a row in it, from 1."""

    object: str
    row: int


class RowReceipt(msgspec.Struct, frozen=True):
    """The outcome of a row."""

    stream: str
    object: str
    row: int
    outcome: Outcome
    meaning: str
    """The outcome in a sentence."""
    day: date | None
    """The partition of silver and quarantine; null as long as no table has the row."""
    reasons: list[str]
    """Why it was rejected."""
    duplicate_of: RowPlace | None
    """The row that silver has of its key."""


Path = Annotated[
    str, PathParameter(description="The `object` of a receipt, and after a slash the number of the row in it.")
]


@get("/{place:path}", summary="What became of an event", responses=error_responses(400, 401, 403, 404, 408, 429, 503))
async def receipt(request: HttpRequest, serving: Serving, place: Path) -> RowReceipt:
    """Say in which layer an acknowledged event is, whose duplicate it is, why it was rejected, or why it is gone."""
    parsed = parse_place(place)
    stream = serving.get_stream(request, parsed.object.split("/", 2)[1])
    if (found := await _find(serving, stream, parsed)) is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"{parsed.object} has no row {parsed.row}, or there is no such object.")
    twin = found.duplicate_of
    return RowReceipt(
        stream.name,
        parsed.object,
        parsed.row,
        found.outcome,
        MEANINGS[found.outcome],
        found.day,
        list(found.reasons),
        RowPlace(twin.object, twin.row) if twin else None,
    )


def parse_place(path: str) -> Place:
    """Parse a landing object and the number of a row after a slash. Raises Problem 400."""
    key, _, row = path.strip("/").rpartition("/")
    if not key.startswith(LANDING_FOLDERS) or key.count("/") < 2 or not row.isascii() or not row.isdigit():
        detail = "Name a row as /v1/receipts/OBJECT/ROW, with `receipt.object` of a POST and a row from first_row to last_row."
        raise Problem(HTTPStatus.BAD_REQUEST, detail)
    return Place(key, int(row))


async def find_in_tables(serving: Serving, snapshot: LakeSnapshot, stream: Stream, place: Place) -> Found | None:
    """Find a row in the tables of a snapshot. None if none of them has it."""
    search = find_row(snapshot, stream, place)
    step = await asyncio.to_thread(_next, search, None)
    while isinstance(step, Question):
        result = await serving.readers.run(step.sql, step.parameters, snapshot=snapshot)
        step = await asyncio.to_thread(_next, search, result.table.to_pylist())
    return step


async def _find(serving: Serving, stream: Stream, place: Place) -> Found | None:
    if (found := await find_in_tables(serving, serving.snapshot, stream, place)) is not None:
        return found
    if place.object in serving.tracker.tail.ingested():
        rejects = await asyncio.to_thread(serving.tracker.tail.recent_rejects.newest, stream)
        reasons = [row.reasons for row in rejects if (row.object, row.row) == (place.object, place.row)]
        return Found("rejected", reasons=tuple(reasons[0])) if reasons else Found("realtime")
    return await asyncio.to_thread(find_outside_tables, serving.lake, stream, place)


def _next(search: Search, rows: Rows | None) -> Question | Found | None:
    try:
        return search.send(rows)  # type: ignore[arg-type]
    except StopIteration as end:
        found: Found | None = end.value
        return found


router = Router("/v1/receipts", route_handlers=[receipt], tags=["ingest"])
