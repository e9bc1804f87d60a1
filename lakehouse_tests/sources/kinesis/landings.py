"""Reading a fake Kinesis stream into landing as a new process does, and what has landed of it."""

import json
from collections import defaultdict
from collections.abc import Iterable
from itertools import count
from threading import Event

from lakehouse.sources.kinesis.reading import Reading
from lakehouse.sources.kinesis.shards import StreamReader
from lakehouse.storage.objects.store import Objects
from lakehouse_tests.sources.kinesis.fake import FakeKinesis

_numbers = count()


def new_stream() -> str:
    """The name of a stream that no other test lands in."""
    return f"kinesis{next(_numbers)}"


def read(objects: Objects, stream: str, kinesis: FakeKinesis) -> list[StreamReader]:
    """Read all there is, as a new process does."""
    readers = [StreamReader(kinesis, objects, stream, "s")]
    Reading(readers, 0.005).run(Event(), once=True)
    return readers


def event(key: str, number: int, size: int = 0) -> bytes:
    return json.dumps({"key": key, "number": number, "pad": "x" * size}).encode()


def numbers(lines: Iterable[bytes]) -> dict[str, list[int]]:
    """The numbers of each partition key's events, in their order."""
    found: dict[str, list[int]] = defaultdict(list)
    for line in lines:
        one = json.loads(line)
        found[one["key"]].append(one["number"])
    return dict(found)
