"""Turn a request's body into lines for a landing object, one event each. Nothing is validated here: see `batch`."""

import codecs
import re
from collections.abc import Sequence

import msgspec

from lakehouse.landing.readers.content import BZIP2_MAGIC, GZIP_MAGIC, XZ_MAGIC, ZSTD_MAGIC
from lakehouse.landing.readers.json_brackets import split_objects

WHITESPACE = b" \t\r\n"

FORMAT_MARKS = (
    *(codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
    *(GZIP_MAGIC, ZSTD_MAGIC, BZIP2_MAGIC, XZ_MAGIC),
)
"""First bytes by which readers take an object for something other than plain UTF-8."""

_BETWEEN_OBJECTS = re.compile(rb"\}[ \t\r]*\n[ \t\r\n]*\{")
"""Between two objects of a sequence. Within a string or an object that is JSON, no line end stands there."""

_RAW_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_RAW = msgspec.json.Decoder(msgspec.Raw)


class MalformedBodyError(Exception):
    """The body can't be split into events."""


def as_lines(body: bytes, *, lines_only: bool) -> bytes:
    """Return the body's events, one a line, each ending in a newline; NDJSON is passed on without a look at its lines.

    With `lines_only` the body is NDJSON, else a JSON array, objects that each may span lines, or NDJSON. Raises
    MalformedBodyError for an array that is not valid JSON.
    """
    start = body[:64].lstrip(WHITESPACE)[:1]
    if not lines_only and start == b"[":
        return _array_lines(body)
    if not lines_only and start == b"{" and b"\n" in body.rstrip(WHITESPACE) and (lines := _object_lines(body)):
        return lines
    return body if body.endswith(b"\n") else body + b"\n"


def _array_lines(body: bytes) -> bytes:
    try:
        elements = _RAW_ARRAY.decode(body)
    except RecursionError:
        raise MalformedBodyError("the array is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBodyError(f"the array is not valid JSON: {error}") from None
    if b"\n" not in body and b"\r" not in body:
        return b"\n".join(elements) + b"\n" if elements else b""
    return b"".join(_on_one_line(bytes(element)) for element in elements)


def _object_lines(body: bytes) -> bytes | None:
    """Write objects that span lines on one line each. None if the body is NDJSON, or anything else."""
    if _is_json(body[: body.find(b"\n")]):
        return None
    elements, breaks = _BETWEEN_OBJECTS.subn(b"},{", body)
    try:
        objects = _RAW_ARRAY.decode(b"[%b]" % elements)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    # In an object, the commas would have made JSON of what was none.
    return b"".join(_on_one_line(bytes(text)) for text in objects) if len(objects) == breaks + 1 else None


def _is_json(line: bytes) -> bool:
    try:
        _RAW.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _on_one_line(value: bytes) -> bytes:
    # A JSON string has no line break in it, so every line break stands between tokens.
    return value.strip(WHITESPACE).replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"


def split_rows(lines: bytes) -> list[bytes]:
    """Split lines into the rows that bronze makes of them, without line ends: blank lines dropped, one object each."""
    rows: list[bytes] = []
    for line in lines.split(b"\n"):
        row = line.removesuffix(b"\r")
        if row.strip(WHITESPACE):
            rows += split_objects(row)
    return rows


def starts_as_text(row: bytes) -> bool:
    """Return whether readers take a landing object that starts with this row for plain UTF-8."""
    return not row.startswith(FORMAT_MARKS)


def landing_order(rows: Sequence[bytes]) -> list[int]:
    """Return the indexes of the rows in the order in which they land: the first that starts as text, then the others."""
    first = next((index for index, row in enumerate(rows) if starts_as_text(row)), 0)
    return [first, *range(first), *range(first + 1, len(rows))]
