"""Records that the Kinesis Producer Library has packed into one: a magic number, a protobuf message and its MD5.

https://github.com/awslabs/amazon-kinesis-producer/blob/master/aggregation-format.md

AWS's own Python package for it is unkept since 2022 and changes `sys.path` when it is imported.
"""

import hashlib
from collections.abc import Iterator

MAGIC = b"\xf3\x89\x9a\xc2"
_DIGEST = 16
_RECORDS, _DATA = 3, 3
_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}


def user_records(data: bytes) -> list[bytes]:
    """The records that were packed into this one; the record itself when none were.

    All of them are given, those too that belong to another shard since it was split: AWS's library drops such a record
    whole, trusting that its producer sends it again, which only one producer does. Sent again it counts once by its key.
    """
    body = data[len(MAGIC) : -_DIGEST]
    if not data.startswith(MAGIC) or len(data) < len(MAGIC) + _DIGEST:
        return [data]
    if hashlib.md5(body, usedforsecurity=False).digest() != data[-_DIGEST:]:
        return [data]
    try:
        return [_data(record) for number, record in _fields(body) if number == _RECORDS]
    except (IndexError, ValueError):
        return [data]


def _data(record: bytes) -> bytes:
    for number, value in _fields(record):
        if number == _DATA:
            return value
    raise ValueError("a record without data")


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of each field that has bytes; others are stepped over. Raises IndexError or ValueError.

    https://protobuf.dev/programming-guides/encoding/
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _BYTES:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise IndexError("a field ends beyond its message")
            yield tag >> 3, message[at : at + size]
            at += size
        elif kind == _VARINT:
            _, at = _varint(message, at)
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise ValueError(f"there is no wire type {kind}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
