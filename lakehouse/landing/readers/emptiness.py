"""Tell text that soundly holds no row from text that was read as nothing, by simpler rules than the readers'."""

import re
from collections.abc import Iterator
from itertools import islice

from lakehouse.contracts.model import Contract
from lakehouse.landing.readers.content import DamagedContentError, InputObject, text_chunks
from lakehouse.landing.readers.header import DELIMITERS, MAX_HEADER_BYTES, SEPARATOR_LINE, dialect_of

_EMPTY_ARRAYS = re.compile(rb"\A(?:\[\])+")
_LINE_END = re.compile(rb"\r\n?|\n")

_OTHER_LINE_END = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\udc85]")
"""Characters that may end a line for who wrote it, such as NEL, also as its byte in Latin-1. Names of columns have none."""

_TEXT_AFTER_NAME = r"(?:\\[rn])+|[^\w,;|\t\"']+"

MAX_COMPARED_ENDS = 20


def is_header_alone(contract: Contract, obj: InputObject) -> bool:
    """Return whether a CSV object holds blanks alone, or a header of one line after the lines that its dialect skips.

    A line that the reader does not end, but whose writer may have, is no header alone.
    """
    dialect = dialect_of(contract, obj.name)
    start = b""
    for chunk in _sound_chunks(obj, dialect.encoding):
        start = start + chunk if dialect.skip else (start + chunk).lstrip()
        if len(start) > MAX_HEADER_BYTES:
            return False
    lines = _LINE_END.split(SEPARATOR_LINE.sub(b"", start, 1))
    comment = dialect.comment.encode() or b"\n"
    rest = [line for line in lines[dialect.skip :] if line.strip() and not line.startswith(comment)]
    is_whole = (
        len(lines) > dialect.skip
        and len(rest) == dialect.header
        and not any(_may_be_lines(contract, line) for line in rest)
    )
    return is_whole or not start.strip()


def _may_be_lines(contract: Contract, line: bytes) -> bool:
    r"""Return whether a line may be several, because of a character in it, or of what may be a header and a row.

    A text between them follows the name of a field, as in `id,name\n1,a\n2,b`.
    """
    text = line.decode("utf-8", "surrogateescape")
    if _OTHER_LINE_END.search(text):
        return True
    names = "|".join(re.escape(name) for field in contract.fields for name in (field.name, field.source))
    ends = re.finditer(rf"\b(?:{names})({_TEXT_AFTER_NAME})", text, re.IGNORECASE)
    return any(_may_end_header(text[: end.start(1)], text[end.end() :]) for end in islice(ends, MAX_COMPARED_ENDS))


def _may_end_header(header: str, rest: str) -> bool:
    """Return whether the rest has as many delimiters as a header before it, and so may be its rows."""
    return any(0 < header.count(delimiter) <= rest.count(delimiter) for delimiter in DELIMITERS)


def is_empty_array(obj: InputObject) -> bool:
    """Return whether a JSON object holds blanks alone, or arrays without elements."""
    rest = b""
    for chunk in _sound_chunks(obj):
        rest = _EMPTY_ARRAYS.sub(b"", rest + b"".join(chunk.split()))
        if rest not in (b"", b"["):
            return False
    return not rest


def _sound_chunks(obj: InputObject, encoding: str | None = None) -> Iterator[bytes]:
    try:
        yield from text_chunks(obj, encoding)
    except DamagedContentError:
        return  # the damage is a row of its own
