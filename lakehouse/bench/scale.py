"""`bench scale`: what the process that plans and commits does for a lake of ten years and a hundred streams.

One stream has real rows on every day. The tables of the others have the metadata of as many data files, a million in all,
and no data. Each commit holds a year, because what a reader pays for is files and manifests, not commits that have expired.
"""

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from lakehouse.auditing.audit import audit
from lakehouse.bench.figures import Figure, PeakMemory, figure, own_lake
from lakehouse.contracts.odcs import CONTRACT_FILE
from lakehouse.contracts.streams import SHIPPED, Stream
from lakehouse.landing.writer import land
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.commits import commit_files
from lakehouse.pipeline.gold import write_daily
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.refresh import days_to_refresh
from lakehouse.pipeline.silver import clean_days
from lakehouse.serving.monitoring.partition_state import stream_partitions
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import partitions_filter, stored_value
from lakehouse.storage.iceberg.snapshots import sequence_of

T = TypeVar("T")

BASE = "financial"
"""The shipped stream whose contract all streams have."""

FIRST = date(2015, 1, 1)
DAYS_OF_A_COMMIT = 365
FILE_BYTES = 64 << 20
FILE_ROWS = 2_000_000

FILES_OF_A_LARGE_DAY = 10_000
"""A terabyte of events of 100 bytes, in pieces of a million rows."""

PLAN_SECONDS = 1.0
COMMIT_SECONDS = 1.0
LARGE_COMMIT_SECONDS = 10.0
STALE_SECONDS = 1.0
AUDIT_MILLISECONDS_A_DAY = 40.0
PAGE_SECONDS = 1.0
DRIVER_MIB = 1024.0


def measure(streams: int, days: int) -> Iterator[Figure]:
    """Yield what one stream costs among `streams` with `days` days each, and the memory of the process."""
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder:
        names = _copy_streams(Path(folder), streams)
        with own_lake(streams=names, stream_folders=[Path(folder)], examples=False) as lake, PeakMemory() as memory:
            yield from _figures(lake, [FIRST + timedelta(days=n) for n in range(days)])
        yield figure("scale", "memory of the driver", memory.mib, "MiB", DRIVER_MIB)


def _figures(lake: Lake, days: Sequence[date]) -> Iterator[Figure]:
    real, *others = lake.streams.values()
    (_, seconds) = _timed(lambda: _compute(lake, real, days))
    yield figure("scale", f"silver and gold of {len(days)} days", seconds, "s")
    files, seconds = _timed(lambda: sum(_fill(lake, stream, days) for stream in others))
    yield figure("scale", "data files in metadata", files, "files", streams=len(lake.streams), seconds=round(seconds))
    newest, stream = days[-1], others[-1]
    silver = lake.tables.load(f"silver.{stream.name}")
    _, seconds = _timed(
        lambda: select_files(lake.tables.load(f"silver.{stream.name}"), partitions_filter("dt", [newest]))
    )
    yield figure("scale", "plan a day of a table", seconds, "s", PLAN_SECONDS)
    replaced = [*select_files(silver, partitions_filter("dt", [newest]))]
    _, seconds = _timed(lambda: _commit(lake, f"silver.{stream.name}", [newest], replaced))
    yield figure("scale", "commit a day of a table", seconds, "s", COMMIT_SECONDS)
    large = [days[-1] + timedelta(days=1)] * FILES_OF_A_LARGE_DAY
    _, seconds = _timed(lambda: _commit(lake, f"silver.{stream.name}", large))
    yield figure("scale", f"commit a day of {FILES_OF_A_LARGE_DAY:,} files", seconds, "s", LARGE_COMMIT_SECONDS)
    stale, seconds = _timed(lambda: [len(days_to_refresh(lake, stream)) for stream in lake.streams.values()])
    yield figure("scale", "find stale days of a stream", seconds / len(stale), "s", STALE_SECONDS)
    _, seconds = _timed(lambda: [stream_partitions(stream, lake.tables.load) for stream in lake.streams.values()])
    yield figure("scale", "state of a stream's partitions for the page", seconds / len(lake.streams), "s", PAGE_SECONDS)
    report, seconds = _timed(lambda: audit(lake, [real], read_landing=False))
    if report.wrong:
        raise AssertionError(f"the audit found {report.wrong[:3]}")
    yield figure("scale", "audit --quick of a day", seconds / len(days) * 1e3, "ms", AUDIT_MILLISECONDS_A_DAY)


def _copy_streams(folder: Path, number: int) -> list[str]:
    """Write contracts of streams of one kind, without SQL of their own; returns their names."""
    text = (SHIPPED / BASE / CONTRACT_FILE).read_text(encoding="utf-8")
    names = [f"s{n:03}" for n in range(number)]
    for name in names:
        (folder / name).mkdir()
        renamed = re.sub(rf"^( *- |)name: {BASE}$", rf"\g<1>name: {name}", text, flags=re.MULTILINE)
        (folder / name / CONTRACT_FILE).write_text(renamed, encoding="utf-8")
    return names


def _compute(lake: Lake, stream: Stream, days: Sequence[date]) -> None:
    """Land an event for each day, and compute all of them."""
    landed = datetime.now(UTC)
    events = (
        json.dumps(
            {
                "event_id": str(number),
                "event_time": f"{day}T12:00:00Z",
                "account_id": "a",
                "amount": "12.50",
                "currency": "EUR",
                "type": "payment",
                "status": "settled",
            }
        ).encode()
        for number, day in enumerate(days)
    )
    land(lake.objects, stream.name, b"\n".join(events) + b"\n", now=landed)
    ingest_days(lake, stream, [landed.date()])
    clean_days(lake, stream, days)
    write_daily(lake, stream, days)


def _fill(lake: Lake, stream: Stream, days: Sequence[date]) -> int:
    """Commit the metadata of a data file a day to the stream's large tables; returns how many."""
    files = 0
    for start in range(0, len(days), DAYS_OF_A_COMMIT):
        part = days[start : start + DAYS_OF_A_COMMIT]
        for name in (f"bronze.{stream.name}", f"silver.{stream.name}", f"gold.{stream.name}_daily"):
            files += _commit(lake, name, part)
    return files


def _commit(lake: Lake, name: str, days: Sequence[date], removed: Sequence[DataFile] = ()) -> int:
    table = lake.tables.load(name)
    added = [_data_file(table, day) for day in days]
    ledger = {str(day): {"rows": FILE_ROWS, "landed": FILE_ROWS, "silver": FILE_ROWS} for day in days}
    layer, _, stream = name.partition(".")
    sources = {} if layer == "bronze" else _sources(lake, layer, lake.stream(stream.removesuffix("_daily")))
    commit_files(lake, table, added, partitions_filter("dt", days), removed=removed, ledger=ledger, sources=sources)
    return len(added)


def _sources(lake: Lake, layer: str, stream: Stream) -> dict[str, int]:
    source = "bronze" if layer == "silver" else "silver"
    table = lake.tables.load(f"{source}.{stream.name}")
    definition = stream.definition_of("silver" if layer == "silver" else "gold")
    return {f"{source}.{stream.name}": sequence_of(table), **definition.sources}


def _data_file(table: Table, day: date) -> DataFile:
    """Describe a file that is not there, with the metadata that a real one has."""
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=f"{table.location()}/data/dt={day}/{time.time_ns():x}.parquet",
        file_format=FileFormat.PARQUET,
        partition=Record(*(stored_value(day) for _ in table.spec().fields)),
        record_count=FILE_ROWS,
        file_size_in_bytes=FILE_BYTES,
        column_sizes={field.field_id: FILE_BYTES // 20 for field in table.schema().fields},
        value_counts={field.field_id: FILE_ROWS for field in table.schema().fields},
        null_value_counts={field.field_id: 0 for field in table.schema().fields},
        nan_value_counts={},
        lower_bounds={field.field_id: b"lower" for field in table.schema().fields},
        upper_bounds={field.field_id: b"upper" for field in table.schema().fields},
        split_offsets=[4],
        spec_id=table.spec().spec_id,
        sort_order_id=None,
        equality_ids=None,
        key_metadata=None,
    )


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started
