"""Which format an answer has, by what the request accepts, and the answer in it."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.openapi.datastructures import ResponseSpec
from litestar.response import Stream

from lakehouse.http.problems import Problem
from lakehouse.serving.query.rendering import Column, Format, Statistics

MEDIA_TYPES: Mapping[Format, str] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
    "arrow": "application/vnd.apache.arrow.stream",
}
STATISTICS = "lakehouse-statistics"
"""The header that has the statistics as JSON, whatever the format."""

PIECE = 1 << 18


class Rows(msgspec.Struct):
    """An answer as JSON."""

    columns: list[Column]
    rows: list[dict[str, Any]]
    """Each row by its columns' names. Decimals are strings, and so are integers beyond 2^53; times are ISO 8601 with a Z."""
    statistics: Statistics


ANSWERS = ResponseSpec(Rows, description="The rows; also as NDJSON, CSV or an Arrow stream", generate_examples=False)


def chosen(request: Request[Any, Any, Any]) -> Format:
    """The format that the request likes best; JSON where it likes all. Raises Problem 406 for none that there is.

    Not by Litestar's `Accept.best_match` (2.x), because that takes a type of quality 0, which RFC 9110 calls not
    acceptable, and prefers `text/csv` in `*/*, text/csv`, which has always been answered with JSON.
    """
    accept = request.headers.get("accept") or "*/*"
    ranked = sorted((_quality(part) for part in accept.split(",")), key=lambda found: -found[1])
    for wanted, quality in ranked:
        for form, media in MEDIA_TYPES.items():
            kind = media.partition("/")[0]
            if quality > 0 and wanted in (media, f"{kind}/*", "*/*"):
                return form
    raise Problem(
        HTTPStatus.NOT_ACCEPTABLE, f"There is no {accept} here; Accept one of {', '.join(MEDIA_TYPES.values())}."
    )


def response(form: Format, statistics: Statistics, body: bytes, path: str | None = None) -> Response[Any]:
    """The answer; of what lies in a file nothing is left when it has been sent."""
    headers = {STATISTICS: msgspec.json.encode(statistics).decode(), "cache-control": "no-store"}
    media = MEDIA_TYPES[form]
    if path is None:
        return Response(body, status_code=HTTPStatus.OK, media_type=media, headers=headers)
    file = os.open(path, os.O_RDONLY)
    headers["content-length"] = str(os.fstat(file).st_size)
    os.unlink(path)
    return Stream(_pieces(file), status_code=HTTPStatus.OK, media_type=media, headers=headers)


async def _pieces(file: int) -> AsyncIterator[bytes]:
    try:
        while piece := await asyncio.to_thread(os.read, file, PIECE):
            yield piece
    finally:
        os.close(file)


def _quality(part: str) -> tuple[str, float]:
    media, *options = (text.strip().lower() for text in part.split(";"))
    for option in options:
        if option.startswith("q="):
            try:
                return media, float(option[2:])
            except ValueError:
                return media, 0.0
    return media, 1.0
