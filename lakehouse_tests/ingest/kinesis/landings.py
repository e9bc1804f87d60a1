"""Reading a fake Kinesis stream into landing as a new process does, and what has landed of it."""

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import count
from threading import Event

import pyarrow as pa

from lakehouse.ingest.kinesis.reading import Reading
from lakehouse.ingest.kinesis.shards import StreamReader
from lakehouse.ingest.landing import list_day
from lakehouse.ingest.names import hour_of
from lakehouse.ingest.readers.formats import is_by_line
from lakehouse.storage.objects import Objects
from lakehouse_tests.ingest.kinesis.fake import FakeKinesis

_numbers = count()


def new_stream() -> str:
    """The name of a stream that no other test lands in."""
    return f"kinesis{next(_numbers)}"


def read(objects: Objects, stream: str, kinesis: FakeKinesis) -> list[StreamReader]:
    """Read all there is, as a new process does."""
    readers = [StreamReader(kinesis, objects, stream, "s")]
    Reading(readers, 0.005).run(Event(), once=True)
    return readers


def landed(objects: Objects, stream: str) -> list[bytes]:
    """Every line that has landed, by arrival."""
    today = datetime.now(UTC).date()
    found = [*list_day(objects, stream, today - timedelta(days=1)), *list_day(objects, stream, today)]
    lines = []
    for one in sorted(found, key=lambda one: one.arrived_at):
        assert is_by_line(one.key)
        assert hour_of(one.key) == one.arrived_at.replace(minute=0, second=0, microsecond=0)
        content = objects.get(one.key)
        if one.key.endswith(".zst"):
            content = pa.CompressedInputStream(pa.BufferReader(content), "zstd").read()
        lines += content.splitlines()
    return lines


def event(key: str, number: int, size: int = 0) -> bytes:
    return json.dumps({"key": key, "number": number, "pad": "x" * size}).encode()


def numbers(lines: Iterable[bytes]) -> dict[str, list[int]]:
    """The numbers of each partition key's events, in their order."""
    found: dict[str, list[int]] = defaultdict(list)
    for line in lines:
        one = json.loads(line)
        found[one["key"]].append(one["number"])
    return dict(found)
