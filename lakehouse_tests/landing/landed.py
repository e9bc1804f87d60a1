"""Read what has landed of a stream."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa

from lakehouse.landing.formats import is_ndjson
from lakehouse.landing.keys import hour_of
from lakehouse.landing.listing import list_day
from lakehouse.storage.objects.store import Objects


def landed(objects: Objects, stream: str) -> list[bytes]:
    """Read every landed line of today and yesterday, by arrival time."""
    today = datetime.now(UTC).date()
    landings = [*list_day(objects, stream, today - timedelta(days=1)), *list_day(objects, stream, today)]
    lines = []
    for landing in sorted(landings, key=lambda landing: landing.arrived_at):
        assert is_ndjson(landing.key)
        assert hour_of(landing.key) == landing.arrived_at.replace(minute=0, second=0, microsecond=0)
        content = objects.get(landing.key)
        if landing.key.endswith(".zst"):
            content = pa.CompressedInputStream(pa.BufferReader(content), "zstd").read()
        lines += content.splitlines()
    return lines
