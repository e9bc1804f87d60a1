"""A request's body as lines for a landing object, one event on each, in whatever form it came. It is not judged here."""

import codecs
from collections.abc import Sequence

import msgspec

from lakehouse.landing.readers.content import GZIP_MAGIC, ZSTD_MAGIC
from lakehouse.landing.readers.json_brackets import split_objects

BLANKS = b" \t\r\n"
MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, GZIP_MAGIC, ZSTD_MAGIC)
"""By which readers take an object, from its first byte on, for something other than plain UTF-8."""
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_RAW = msgspec.json.Decoder(msgspec.Raw)


class MalformedBodyError(Exception):
    """The body is not what it says it is, so that no event can be told from another."""


def as_lines(body: bytes, *, lines_only: bool) -> bytes:
    """The body's events, one a line, each ending in a newline, as far as that is sure without a look at each line.

    With `lines_only` the body is NDJSON; else it is a JSON array, one JSON object, or NDJSON all the same. Raises
    MalformedBodyError for an array that is no JSON.
    """
    start = body[:64].lstrip(BLANKS)[:1]
    if not lines_only and start == b"[":
        return _elements(body)
    if not lines_only and start == b"{" and b"\n" in body.rstrip(BLANKS) and (whole := _one_object(body)):
        return whole
    return body if body.endswith(b"\n") else body + b"\n"


def _elements(body: bytes) -> bytes:
    try:
        found = _RAWS.decode(body)
    except RecursionError:
        raise MalformedBodyError("the array is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise MalformedBodyError(f"the array is no JSON: {problem}") from None
    if b"\n" not in body and b"\r" not in body:
        return b"\n".join(found) + b"\n" if found else b""
    return b"".join(_on_one_line(bytes(raw)) for raw in found)


def _one_object(body: bytes) -> bytes | None:
    try:
        return _on_one_line(bytes(_RAW.decode(body)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _on_one_line(value: bytes) -> bytes:
    # JSON has no line end within a text, so that those there are stand between tokens.
    return value.strip(BLANKS).replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"


def rows(lines: bytes) -> list[bytes]:
    """The lines that bronze makes a row of each, without their ends: no blank ones, and one object on each."""
    found: list[bytes] = []
    for line in lines.split(b"\n"):
        row = line.removesuffix(b"\r")
        if row.strip(BLANKS):
            found += split_objects(row)
    return found


def starts_as_text(row: bytes) -> bool:
    """Whether a landing object that begins with this row is taken for plain UTF-8; objects of our name go by line."""
    return not row.startswith(MARKS)


def landing_order(found: Sequence[bytes]) -> list[int]:
    """The places of the rows in the order they are to land in: as they came, but for one that opens well put first."""
    first = next((place for place, row in enumerate(found) if starts_as_text(row)), 0)
    return [first, *range(first), *range(first + 1, len(found))]
