"""Turn Kinesis records into lines for landing: a record holds one event, several lines, or records packed into one."""

import codecs
import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

AGGREGATION_MAGIC = b"\xf3\x89\x9a\xc2"
_DIGEST_BYTES = 16

# Field numbers of the messages AggregatedRecord and Record.
_RECORDS_FIELD, _DATA_FIELD = 3, 3

# Wire types, https://protobuf.dev/programming-guides/encoding/
_VARINT, _BYTES = 0, 2
_FIXED_SIZES = {1: 8, 5: 4}


def as_lines(records: Iterable[dict[str, Any]]) -> bytes:
    """Write the data of records from GetRecords as lines, each with its line end. Their content stays as it is.

    One event that spans several lines becomes one line with the same values.
    """
    return b"".join(_line(data) for record in records for data in user_records(record["Data"]))


def _line(data: bytes) -> bytes:
    data = data.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n")
    if not data.strip():
        return b""
    if b"\n" in data and _is_one_value(data):
        data = data.replace(b"\r", b" ").replace(b"\n", b" ")
    return data + b"\n"


def _is_one_value(data: bytes) -> bool:
    """Return whether the bytes are one JSON object or array. Its line ends are then blanks, because JSON escapes them in texts."""
    if data.lstrip()[:1] not in (b"{", b"["):
        return False
    try:
        json.loads(data.decode("latin-1"))
    except (ValueError, RecursionError):
        return False
    return True


def user_records(data: bytes) -> list[bytes]:
    """Unpack a record that the Kinesis Producer Library aggregated; any other record is returned as it is.

    The format is a magic number, a protobuf message and its MD5, see
    https://github.com/awslabs/amazon-kinesis-producer/blob/master/aggregation-format.md. AWS's own Python package for
    it has been unmaintained since 2022 and changes `sys.path` on import.

    Records that belong to another shard since a split are returned too. AWS's library drops such a record whole and
    trusts that the producer sends it again, which only one producer does. A record sent again counts once by its key.
    """
    body = data[len(AGGREGATION_MAGIC) : -_DIGEST_BYTES]
    if not data.startswith(AGGREGATION_MAGIC) or len(data) < len(AGGREGATION_MAGIC) + _DIGEST_BYTES:
        return [data]
    if hashlib.md5(body, usedforsecurity=False).digest() != data[-_DIGEST_BYTES:]:
        return [data]
    try:
        return [_record_data(record) for number, record in _fields(body) if number == _RECORDS_FIELD]
    except (IndexError, ValueError):
        return [data]


def _record_data(record: bytes) -> bytes:
    for number, value in _fields(record):
        if number == _DATA_FIELD:
            return value
    raise ValueError("a record without data")


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number and content of each length-delimited field, skipping others. Raises IndexError or ValueError."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire_type = tag & 7
        if wire_type == _BYTES:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise IndexError("a field ends beyond its message")
            yield tag >> 3, message[at : at + size]
            at += size
        elif wire_type == _VARINT:
            _, at = _varint(message, at)
        elif wire_type in _FIXED_SIZES:
            at += _FIXED_SIZES[wire_type]
        else:
            raise ValueError(f"there is no wire type {wire_type}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
