"""Read your writes: a query that names receipts waits until its answer holds their events."""

import asyncio
import time
from http import HTTPStatus
from urllib.parse import unquote

from litestar.openapi.spec import Parameter, Schema
from litestar.openapi.spec.enums import OpenAPIType

from lakehouse.contracts.streams import Stream
from lakehouse.http.problems import Problem
from lakehouse.pipeline.row_receipts import MEANINGS, Place, find_outside_tables
from lakehouse.serving.api.receipts import find_in_tables, parse_place
from lakehouse.serving.api.state import HttpRequest, Serving

HEADER = "lakehouse-min-receipt"

MAX_RECEIPTS = 100

MAX_WAIT_SECONDS = 10.0
POLL_SECONDS = 0.01
TABLES_POLL_SECONDS = 1.0
"""Between two searches in tables, which take longer than a look at the hot tail."""

MIN_RECEIPT_PARAMETER = Parameter(
    "Lakehouse-Min-Receipt",
    "header",
    schema=Schema(type=OpenAPIType.STRING),
    description=(
        "Receipts as OBJECT/ROW, separated by commas. The query waits until the unified views hold their events, for"
        f" {MAX_WAIT_SECONDS:g} seconds at most."
    ),
    required=False,
)


async def await_receipts(request: HttpRequest, serving: Serving) -> int:
    """Wait until the latest snapshot holds the events that a request names. Returns its number; 0 if it names none.

    Raises Problem 400 for what is no receipt, 404 for an event that is not stored, 408 if one can't be queried in time,
    and as `get_stream` does.
    """
    texts = [text.strip() for value in request.headers.getall(HEADER, []) for text in value.split(",") if text.strip()]
    if not texts:
        return 0
    if len(texts) > MAX_RECEIPTS:
        detail = f"Name at most {MAX_RECEIPTS} receipts in {HEADER}; of one request, its last row is enough."
        raise Problem(HTTPStatus.BAD_REQUEST, detail)
    places = dict.fromkeys(parse_place(unquote(text)) for text in texts)
    streams = {place: serving.get_stream(request, place.object.split("/", 2)[1]) for place in places}
    until = time.monotonic() + MAX_WAIT_SECONDS
    for place, stream in streams.items():
        await _await_event(serving, stream, place, until)
    return serving.snapshot.number


async def _await_event(serving: Serving, stream: Stream, place: Place, until: float) -> None:
    search_at = 0.0
    while not serving.tracker.tail_holds(stream.name, place.object):
        if time.monotonic() >= search_at:
            if await find_in_tables(serving, serving.snapshot, stream, place) is not None:
                return
            await _check_landed(serving, stream, place)
            search_at = time.monotonic() + TABLES_POLL_SECONDS
        if time.monotonic() >= until:
            detail = f"{place.object} has landed and can't be queried yet, after {MAX_WAIT_SECONDS:g} s. Try again."
            raise Problem(HTTPStatus.REQUEST_TIMEOUT, detail, headers={"retry-after": "1"})
        await asyncio.sleep(POLL_SECONDS)


async def _check_landed(serving: Serving, stream: Stream, place: Place) -> None:
    """Raise Problem 404 for an event that no query will hold."""
    found = await asyncio.to_thread(find_outside_tables, serving.lake, stream, place)
    if found is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"{place.object} has no row {place.row}, or there is no such object.")
    if found.outcome != "landed":
        raise Problem(HTTPStatus.NOT_FOUND, f"{place.object}: {MEANINGS[found.outcome]} No query will hold it.")
