"""`bench lookups`: the local copies of look-ups, beside the same documents as plain JSON: bytes, seconds and look-ups.

Rows are those of simulated events, each repeated under other ids with other amounts and averages.
"""

import random
import statistics
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa
import pyarrow.ipc as ipc

from lakehouse.bench.figures import Figure, figure, own_lake
from lakehouse.bench.query import fill
from lakehouse.contracts.sql import literal, quote
from lakehouse.engine.connection import describe
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.lookups.cache import BATCH_ROWS, write_copy
from lakehouse.serving.lookups.declaration import Lookup
from lakehouse.serving.lookups.index import BytesColumn, LookupIndex
from lakehouse.serving.lookups.publish import RefreshResult, declared_lookups, refresh_declared, refresh_entities

ENTITIES = 2_000_000
MANY = 100_000_000
"""Entities to which the bytes are extrapolated."""

MAX_GB = 4.0
"""Of features. A customer has up to ten lines and ten orders, whose random ids alone are more."""

ROWS, DAYS = 20_000, 3
"""Simulated events of each stream, and the days over which they are spread."""

SAMPLED = 20_000
"""Ids that are looked up."""

KINDS = {"iot": ("iot",), "financial": ("financial",), "customers": ("retail", "orders")}
"""The look-ups that are measured, and the streams that they need."""


def measure(entities: int = ENTITIES, kinds: Sequence[str] = tuple(KINDS)) -> Iterator[Figure]:
    """Yield the figures of each look-up, with so many entities."""
    streams = [stream for kind in kinds for stream in KINDS[kind]]
    with own_lake(streams=streams) as lake, TemporaryDirectory(prefix="lakehouse-lookups-") as folder:
        fill(lake, ROWS, DAYS)
        for name in kinds:
            lookup = declared_lookups(lake).by_name.get(name, name)
            yield from _figures(lake, lookup, name, entities, Path(folder))


def _figures(lake: Lake, lookup: Lookup | str, name: str, entities: int, folder: Path) -> Iterator[Figure]:
    rows, copy, plain = (folder / f"{name}.{suffix}" for suffix in ("parquet", "arrow", "json"))
    entity = lookup.key if isinstance(lookup, Lookup) else lake.stream(name).contract.entity
    _repeat(lake, _publish(lake, lookup), entities, entity, rows)
    seconds = _seconds(lambda: write_copy(lookup, rows, copy))
    index = LookupIndex(copy)
    plain_seconds = _seconds(lambda: _write_plain(index, plain))
    per_entity, plain_bytes = copy.stat().st_size / entities, plain.stat().st_size / entities
    yield figure(
        "lookups",
        f"{name}: {MANY:,} entities",
        per_entity * MANY / 1e9,
        "GB",
        MAX_GB if lookup == name else None,
        bytes_per_entity=round(per_entity, 1),
        json_bytes_per_entity=round(plain_bytes, 1),
    )
    yield figure(
        "lookups", f"{name}: copy of {entities:,} entities", seconds, "s", write_json_s=round(plain_seconds, 1)
    )
    ids = random.Random(1).sample([*_PlainIndex(plain).ids()], min(SAMPLED, entities))  # noqa: S311
    times, plain_times = _microseconds(index.get, ids), _microseconds(_PlainIndex(plain).get, ids)
    yield figure(
        "lookups",
        f"{name}: one document, p99",
        times[-1],
        "us",
        p50_us=round(times[0], 1),
        json_p99_us=round(plain_times[-1], 1),
        json_p50_us=round(plain_times[0], 1),
    )
    for path in (rows, copy, plain):
        path.unlink()


def _publish(lake: Lake, lookup: Lookup | str) -> RefreshResult:
    if isinstance(lookup, Lookup):
        return refresh_declared(lake, lookup)
    return refresh_entities(lake, lake.stream(lookup))


def _repeat(lake: Lake, published: RefreshResult, entities: int, entity: str | None, path: Path) -> None:
    """Write so many rows of a version: as they are, but with random ids, and other decimals and floats.

    Rows that come from one are far from each other in the order of ids.
    """
    source = path.with_suffix(".published")
    source.write_bytes(lake.objects.get(published.version.key))
    scan = f"read_parquet({literal(str(source))})"
    with duckdb.connect() as database:
        columns = ", ".join(_varied(name, kind, entity) for name, kind in describe(database, f"from {scan}"))
        database.execute(f"""copy (
            select {columns}
            from (select *, row_number() over () - 1 as _row from {scan}) as rows
            join (
              select n, hash(n) % {published.entities} as _row, 0.9 + hash(n, 1) % 1000003 / 5000015 as factor
              from range({entities}) as numbers(n)
            ) as numbers
              using (_row)
            order by id
          ) to {literal(str(path))} (format parquet)""")
    source.unlink()


def _varied(name: str, kind: str, entity: str | None) -> str:
    if name in ("id", entity):
        return f"lpad((hash(n, 2) % 1000000000000)::varchar, 12, '0') || '-' || n as {quote(name)}"
    if kind == "DOUBLE" or kind.startswith("DECIMAL"):
        return f"({quote(name)} * factor)::{kind} as {quote(name)}"
    return quote(name)


def _write_plain(index: LookupIndex, path: Path) -> None:
    """Write the documents as copies held them before they were compressed: ids and JSON texts."""
    schema = pa.schema([pa.field("id", pa.large_string()), pa.field("json", pa.large_string())])
    with ipc.new_file(str(path), schema) as target:
        ids, texts = list[str](), list[bytes]()
        for block in index.blocks():
            ids += block.ids
            texts += block.documents()
            if len(ids) >= BATCH_ROWS:
                target.write_batch(_plain_batch(ids, texts, schema))
                ids, texts = [], []
        target.write_batch(_plain_batch(ids, texts, schema))


def _plain_batch(ids: Sequence[str], texts: Sequence[bytes], schema: pa.Schema) -> pa.RecordBatch:
    columns = [pa.array(ids, pa.large_string()), pa.array([text.decode() for text in texts], pa.large_string())]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


class _PlainIndex:
    """Documents as JSON texts, found by a binary search for the id."""

    def __init__(self, path: Path) -> None:
        file = ipc.open_file(pa.memory_map(str(path)))
        batches = (file.get_batch(number) for number in range(file.num_record_batches))
        self._parts = [
            (BytesColumn(batch.column(0)), BytesColumn(batch.column(1))) for batch in batches if batch.num_rows
        ]
        self._first_ids = [ids[0] for ids, _ in self._parts]

    def get(self, key: str) -> bytes | None:
        id_ = key.encode()
        ids, documents = self._parts[bisect_right(self._first_ids, id_) - 1]
        row = bisect_left(ids, id_)
        return documents[row] if row < len(ids) and ids[row] == id_ else None

    def ids(self) -> Iterator[str]:
        for ids, _ in self._parts:
            yield from (ids[row].decode() for row in range(len(ids)))


def _seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _microseconds(get: Callable[[str], bytes | None], ids: Sequence[str]) -> tuple[float, float]:
    """Return the median and the 99th percentile of a look-up's time."""
    times = []
    for id_ in ids:
        started = time.perf_counter()
        document = get(id_)
        times.append(time.perf_counter() - started)
        if document is None:
            raise AssertionError(f"{id_} is not found")
    return statistics.median(times) * 1e6, statistics.quantiles(times, n=100)[-1] * 1e6
