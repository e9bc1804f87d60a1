"""What has landed of a stream."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa

from lakehouse.landing.formats import is_ndjson
from lakehouse.landing.keys import hour_of
from lakehouse.landing.listing import list_day
from lakehouse.storage.objects.store import Objects


def landed(objects: Objects, stream: str) -> list[bytes]:
    """Every line that has landed, by arrival."""
    today = datetime.now(UTC).date()
    found = [*list_day(objects, stream, today - timedelta(days=1)), *list_day(objects, stream, today)]
    lines = []
    for one in sorted(found, key=lambda one: one.arrived_at):
        assert is_ndjson(one.key)
        assert hour_of(one.key) == one.arrived_at.replace(minute=0, second=0, microsecond=0)
        content = objects.get(one.key)
        if one.key.endswith(".zst"):
            content = pa.CompressedInputStream(pa.BufferReader(content), "zstd").read()
        lines += content.splitlines()
    return lines
