"""Read a fake Kinesis stream into landing, as a new process does, and check what has landed."""

import json
from collections import defaultdict
from collections.abc import Iterable
from itertools import count
from threading import Event

from lakehouse.sources.kinesis.reader import KinesisReader
from lakehouse.sources.kinesis.stream_reader import StreamReader
from lakehouse.storage.objects.store import Objects
from lakehouse_tests.sources.kinesis.fake import FakeKinesis

_numbers = count()


def new_stream() -> str:
    """Name a stream that no other test lands in."""
    return f"kinesis{next(_numbers)}"


def read(objects: Objects, stream: str, kinesis: FakeKinesis) -> list[StreamReader]:
    """Read to the newest record, as a new process does."""
    readers = [StreamReader(kinesis, objects, stream, "s")]
    KinesisReader(readers, 0.005).run(Event(), once=True)
    return readers


def event(key: str, number: int, size: int = 0) -> bytes:
    return json.dumps({"key": key, "number": number, "pad": "x" * size}).encode()


def numbers(lines: Iterable[bytes]) -> dict[str, list[int]]:
    """Collect the numbers of each partition key's events, in their order."""
    by_key: dict[str, list[int]] = defaultdict(list)
    for line in lines:
        event = json.loads(line)
        by_key[event["key"]].append(event["number"])
    return dict(by_key)
