"""What a Kinesis record holds, as lines for landing: one event, several lines, or records packed into one."""

import codecs
import json
from collections.abc import Iterable
from typing import Any

from lakehouse.sources.kinesis.aggregated import user_records


def as_lines(records: Iterable[dict[str, Any]]) -> bytes:
    """The data of records as GetRecords gives them, as lines, each with its end; what is in them is kept as it is.

    One event spread over several lines becomes one line with the same values.
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
    """Whether the bytes are one JSON object or array; strict JSON has no line end within a text."""
    if data.lstrip()[:1] not in (b"{", b"["):
        return False
    try:
        json.loads(data.decode("latin-1"))
    except (ValueError, RecursionError):
        return False
    return True
