"""Find where rows of a landing object begin and end, in bytes, if it holds JSON that is not compressed."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO

from lakehouse.contracts.model import Contract
from lakehouse.errors import ObjectNotFoundError
from lakehouse.landing.keys import LandingObject
from lakehouse.landing.readers import InputObject
from lakehouse.landing.readers.content import stored_chunks
from lakehouse.landing.readers.envelope import opener_of
from lakehouse.landing.readers.header import dialect_of
from lakehouse.landing.readers.json_lines import line_blocks
from lakehouse.landing.readers.relation import format_of
from lakehouse.landing.shared import find_section, open_landing
from lakehouse.storage.objects.store import Objects

MAX_BYTES = 64 << 20
"""Of larger objects, only the start is read for the positions of rows."""

_BLANKS = " \t\r\n"
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ", b"PK", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")
"""Starts of contents whose text is not the bytes that are stored: compressed ones, and those with a byte order mark."""


@dataclass(frozen=True, slots=True)
class Position:
    """The bytes of a row: how many there are before it, and how many it has."""

    first_byte: int
    bytes: int


def find_landing(objects: Objects, key: str, stream: str) -> LandingObject | None:
    """Find a landing object by its key, alone or as a section of a shared one. None if it is gone."""
    if (info := objects.head(key)) is not None:
        return LandingObject(key, stream, info.modified, info.size)
    return find_section(objects, key)


def find_positions(
    objects: Objects, contract: Contract, obj: LandingObject, rows: Collection[int]
) -> dict[int, Position]:
    """Find the positions of rows of a landing object, by number from 1. Those that are not known are left out.

    Raises StorageUnavailableError.
    """
    if opener_of(replace(contract, dialect=dialect_of(contract, obj.key))) is not None:
        return {}
    try:
        content = _start(objects, obj)
    except ObjectNotFoundError:
        return {}
    source = InputObject(obj.key, obj.arrived_at, len(content), partial(BytesIO, content))
    if content.startswith(_COMPRESSED) or format_of(source) != "json":
        return {}
    found = dict(_search(content, source, rows))
    if len(content) < obj.size:  # the last row may be cut off
        found = {row: at for row, at in found.items() if at.first_byte + at.bytes < len(content)}
    return found


def _start(objects: Objects, obj: LandingObject) -> bytes:
    """Read an object, or the start of a large one."""
    if obj.size > MAX_BYTES and obj.shared_key is None:
        return objects.read_range(obj.key, 0, MAX_BYTES)
    stored = InputObject(obj.key, obj.arrived_at, obj.size, partial(open_landing, objects, obj))
    return b"".join(stored_chunks(stored))


def _search(content: bytes, source: InputObject, rows: Collection[int]) -> Iterator[tuple[int, Position]]:
    """Look for the text of each row after the row before it, because that is where a reader found it."""
    at, last = 0, max(rows, default=0)
    for block in line_blocks(source):
        for index, text in enumerate(block.text.to_pylist()):
            number = block.first_row + index
            row = str(text).strip(_BLANKS).encode()
            start = -1 if index in block.defects else content.find(row, at)
            if number > last or start < 0:
                return  # after a row that can't be read, a text may be found inside of it
            at = start + len(row)
            if number in rows:
                yield number, Position(start, len(row))
