"""Content negotiation for query results: choose a format by the Accept header, and respond in it."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Response
from litestar.openapi.datastructures import ResponseSpec
from litestar.response import Stream

from lakehouse.http.problems import Problem
from lakehouse.serving.api.state import HttpRequest
from lakehouse.serving.query.rendering import Column, Format, Statistics

MEDIA_TYPES: Mapping[Format, str] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
    "csv-escaped": "text/csv; escape=formulas",
    "arrow": "application/vnd.apache.arrow.stream",
}
STATISTICS_HEADER = "lakehouse-statistics"
"""Holds the statistics as JSON, whatever the format."""

CHUNK_BYTES = 1 << 18


class QueryResult(msgspec.Struct):
    """A query result as JSON."""

    columns: list[Column]
    rows: list[dict[str, Any]]
    """Rows by column name. Decimals and integers beyond 2^53 are strings; times are ISO 8601 with a Z."""
    statistics: Statistics


RESULT_RESPONSE = ResponseSpec(
    QueryResult, description="The rows, as JSON, NDJSON, CSV or an Arrow stream", generate_examples=False
)


def select_format(request: HttpRequest) -> Format:
    """Select the format that the request accepts with the highest quality. Of equals the first, and JSON for `*/*`.

    Raises Problem 406 if it accepts none. Litestar's `Accept.best_match` (2.x) does not fit: it selects types of quality 0,
    which RFC 9110 calls not acceptable, and CSV for `*/*, text/csv`, which has always been answered with JSON.
    """
    accept = request.headers.get("accept") or "*/*"
    ranges = sorted((_media_range(part) for part in accept.split(",")), key=lambda media_range: -media_range[1])
    for accepted, quality in ranges:
        for form, media_type in MEDIA_TYPES.items():
            kind = media_type.partition("/")[0]
            if quality > 0 and accepted in (media_type, f"{kind}/*", "*/*"):
                return form
    raise Problem(
        HTTPStatus.NOT_ACCEPTABLE,
        f"Results are not available as {accept}. Set Accept to one of {', '.join(MEDIA_TYPES.values())}.",
    )


def result_response(form: Format, statistics: Statistics, body: bytes, path: str | None = None) -> Response[Any]:
    """Respond with `body`, or with the file at `path`, which is deleted."""
    headers = {STATISTICS_HEADER: msgspec.json.encode(statistics).decode(), "cache-control": "no-store"}
    media_type = MEDIA_TYPES[form]
    if path is None:
        return Response(body, status_code=HTTPStatus.OK, media_type=media_type, headers=headers)
    descriptor = os.open(path, os.O_RDONLY)
    headers["content-length"] = str(os.fstat(descriptor).st_size)
    os.unlink(path)
    return Stream(_chunks(descriptor), status_code=HTTPStatus.OK, media_type=media_type, headers=headers)


async def _chunks(descriptor: int) -> AsyncIterator[bytes]:
    try:
        while chunk := await asyncio.to_thread(os.read, descriptor, CHUNK_BYTES):
            yield chunk
    finally:
        os.close(descriptor)


def _media_range(part: str) -> tuple[str, float]:
    """Parse one media range of an Accept header into its type, with `escape=formulas` if it says so, and its quality."""
    media_type, *parameters = (text.strip().lower() for text in part.split(";"))
    if media_type == "text/csv" and "escape=formulas" in parameters:
        media_type += "; escape=formulas"
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return media_type, float(parameter[2:])
            except ValueError:
                return media_type, 0.0
    return media_type, 1.0
