"""Bronze rows of many objects as one stream of batches, and as a DuckDB relation. How a format is read is elsewhere."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from io import BytesIO
from itertools import groupby

import duckdb
import pyarrow as pa

from lakehouse.contracts.model import Contract
from lakehouse.landing.readers.blocks import csv_tasks
from lakehouse.landing.readers.content import stored
from lakehouse.landing.readers.events import Batches
from lakehouse.landing.readers.formats import Format, format_of
from lakehouse.landing.readers.lines import batch, lines, together
from lakehouse.landing.readers.parquet import parquet_tasks
from lakehouse.landing.readers.prefetch import ahead
from lakehouse.landing.readers.rows import Columns, Task, numbered, schema
from lakehouse.landing.readers.source import Source

SMALL_OBJECT = 1 << 20
"""Objects up to so many bytes are fetched before their turn."""

FETCHES = 16
"""How many small objects are fetched at a time: what takes time there is waiting."""


def bronze_rows(
    connection: duckdb.DuckDBPyConnection, contract: Contract, sources: Sequence[Source]
) -> duckdb.DuckDBPyRelation:
    """The sources' rows as a lazy relation, read anew each time it is executed, in memory that does not grow with them.

    Columns, in order: each field of the contract as text; `_extra`, a JSON object of unknown fields; `_raw` and
    `_defect`, the exact text of a row that could not be read and why; `_object`, `_row` (from 1) and `_arrived_at`.
    Executing it raises what opening and reading the sources raises, as a duckdb.Error that names it.
    """
    return connection.from_arrow(_Rows(contract, sources))


def bronze_batches(contract: Contract, sources: Iterable[Source]) -> Iterator[pa.RecordBatch]:
    """The sources' rows as Arrow batches, in the order of the sources and of the rows in them."""
    threads = os.cpu_count() or 1
    with (
        ThreadPoolExecutor(FETCHES, thread_name_prefix="fetch") as fetching,
        ThreadPoolExecutor(threads, thread_name_prefix="read") as reading,
    ):
        fetched = ahead(fetching, _fetched, sources, FETCHES)
        for form, group in groupby(fetched, format_of):
            yield from _READERS[form](contract, group, reading, threads + 1)


def _fetched(source: Source) -> Source:
    if source.size > SMALL_OBJECT:
        return source
    content = b"".join(stored(source))
    return replace(source, open=lambda: BytesIO(content))


def _json(contract: Contract, sources: Iterable[Source], pool: Executor, depth: int) -> Iterator[pa.RecordBatch]:
    parse, shape = Batches(contract).columns, schema(contract)
    parts = (part for source in sources for part in lines(source))
    return ahead(pool, partial(batch, parse, shape), together(parts), depth)


def _csv(contract: Contract, sources: Iterable[Source], pool: Executor, depth: int) -> Iterator[pa.RecordBatch]:
    return _by_task(contract, sources, csv_tasks, pool, depth)


def _parquet(contract: Contract, sources: Iterable[Source], pool: Executor, depth: int) -> Iterator[pa.RecordBatch]:
    return _by_task(contract, sources, parquet_tasks, pool, depth)


def _by_task(
    contract: Contract,
    sources: Iterable[Source],
    tasks: Callable[[Contract, Source], Iterator[Task]],
    pool: Executor,
    depth: int,
) -> Iterator[pa.RecordBatch]:
    work = ((source, task) for source in sources for task in tasks(contract, source))
    done = ahead(pool, _run, work, depth)
    for source, results in groupby(done, lambda result: result[0]):
        yield from numbered(source, schema(contract), (columns for _, found in results for columns in found))


def _run(work: tuple[Source, Task]) -> tuple[Source, list[Columns]]:
    source, task = work
    return source, list(task())


_READERS: dict[Format, Callable[[Contract, Iterable[Source], Executor, int], Iterator[pa.RecordBatch]]] = {
    "csv": _csv,
    "json": _json,
    "parquet": _parquet,
}


class _Rows:
    """What DuckDB scans: each scan asks for a stream of its own."""

    def __init__(self, contract: Contract, sources: Sequence[Source]) -> None:
        self._contract = contract
        self._sources = tuple(sources)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        batches = bronze_batches(self._contract, self._sources)
        return pa.RecordBatchReader.from_batches(schema(self._contract), batches).__arrow_c_stream__(requested_schema)  # type: ignore[no-untyped-call]
