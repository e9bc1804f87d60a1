"""Recognise objects that hold something other than CSV, JSON or Parquet, by their first bytes."""

import re
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from lakehouse.errors import SourceChangedError
from lakehouse.landing.formats import format_of_name
from lakehouse.landing.readers.content import DamagedContentError, InputObject, decompressed_chunks


@dataclass(frozen=True, slots=True)
class Foreign:
    """Content that no reader reads, and what to do about it."""

    kind: str
    remedy: str

    def __str__(self) -> str:
        return f"it is {self.kind}; {self.remedy}"


ZIP, TAR, ORC, AVRO = "a zip archive", "a tar archive", "an ORC file", "an Avro file"
WORKBOOK, OLD_WORKBOOK = "an Excel or Office document", "an old Excel or Office document"

OPENED = (ZIP, TAR, ORC, AVRO, WORKBOOK, OLD_WORKBOOK)
"""Kinds of content that `load` opens before it lands."""

_UNPACK = "unpack it and load what is in it"
_EXPORT = "export it as CSV, NDJSON or Parquet"

_SIGNATURES: tuple[tuple[re.Pattern[bytes], Foreign], ...] = tuple(
    (re.compile(pattern, re.DOTALL | re.IGNORECASE if b"<" in pattern else re.DOTALL), Foreign(kind, remedy))
    for pattern, kind, remedy in (
        (rb"PK\x03\x04.{26}(\[Content_Types\]|_rels/|xl/|docProps/|mimetype)", WORKBOOK, _EXPORT),
        (rb"PK(\x03\x04|\x05\x06|\x07\x08)", ZIP, _UNPACK),
        (rb".{257}ustar", TAR, _UNPACK),
        (rb"\x1f\x8b", "compressed too many times", _UNPACK),
        (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
        (rb"Rar!\x1a\x07", "a rar archive", _UNPACK),
        (rb"\x04\x22\x4d\x18", "compressed by lz4", "unpack it with unlz4"),
        (rb"\xff\x06\x00\x00sNaPpY", "compressed by snappy", "unpack it, or compress it with gzip or zstd"),
        (rb"\x1f\x9d", "compressed by compress", "unpack it with uncompress"),
        (rb"ORC[\x00-\x1f]", ORC, _EXPORT),
        (rb"Obj\x01", AVRO, _EXPORT),
        (rb"ARROW1\x00\x00|\xff\xff\xff\xff.{2}\x00\x00", "an Arrow file", _EXPORT),
        (rb"SQLite format 3\x00", "an SQLite database", _EXPORT),
        (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", OLD_WORKBOOK, _EXPORT),
        (rb"\x89HDF\r\n\x1a\n", "an HDF5 file", _EXPORT),
        (rb"%PDF-", "a PDF", _EXPORT),
        (rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|RIFF.{4}WEBP|II\*\x00|MM\x00\*", "an image", "leave it out"),
        (rb"\x7fELF", "a program", "leave it out"),
        (rb"(\xef\xbb\xbf)?\s*<(!doctype html|html)", "an HTML page", "check where it was downloaded from"),
        (rb"(\xef\xbb\xbf)?\s*<\?xml", "an XML document", _EXPORT),
    )
)

_PARQUET = re.compile(rb"PAR1[\x00-\x08\x0e-\x1f]")
_MISNAMED = Foreign("a Parquet file", "give it a name that ends in .parquet")

START_BYTES = 512
"""How much of a file is looked at."""

_DELIMITERS = (b",", b";", b"\t", b"|")


def foreign_content(obj: InputObject) -> Foreign | None:
    """Return what an object holds, if its reader does not read it; None if it may. Looks inside compressed content.

    Raises what opening the object raises.
    """
    start = _start(obj)
    if _PARQUET.match(start) and format_of_name(obj.name) in ("csv", "json"):
        return _MISNAMED
    return next((foreign for pattern, foreign in _SIGNATURES if pattern.match(start)), None)


def looks_like_data(obj: InputObject) -> bool:
    """Return whether content starts as JSON, Parquet, or CSV with more than one column. Raises as `foreign_content` does."""
    start = _start(obj).lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    first_line = start.split(b"\n", 1)[0]
    return start.startswith((b"{", b"[", b"PAR1")) or any(delimiter in first_line for delimiter in _DELIMITERS)


def _start(obj: InputObject) -> bytes:
    start = b""
    with suppress(DamagedContentError, SourceChangedError):  # reported by the reader of the whole object
        for chunk in islice(decompressed_chunks(obj), 8):
            start += chunk[:START_BYTES]
            if len(start) >= START_BYTES:
                break
    return start[:START_BYTES]
