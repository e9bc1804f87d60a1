"""Bronze rows of many objects as one stream of batches, and as a DuckDB relation. See `csv_blocks`, `json_lines` and
`parquet` for how each format is read.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from io import BytesIO
from itertools import chain, groupby
from typing import TypeVar

import duckdb
import pyarrow as pa

from lakehouse.contracts.dialect import Dialect
from lakehouse.contracts.model import Contract
from lakehouse.landing.formats import Format, format_of_name
from lakehouse.landing.partition_folders import partition_columns
from lakehouse.landing.readers.content import DamagedContentError, InputObject, stored_chunks, text_chunks
from lakehouse.landing.readers.csv_blocks import csv_tasks
from lakehouse.landing.readers.defects import NO_ROWS, Defect
from lakehouse.landing.readers.emptiness import is_empty_array, is_header_alone
from lakehouse.landing.readers.envelope import opener_of
from lakehouse.landing.readers.file_values import has_values_of_its_own, write_plainly
from lakehouse.landing.readers.folder_columns import add_folder_columns
from lakehouse.landing.readers.header import dialect_of
from lakehouse.landing.readers.json_batch import BatchParser
from lakehouse.landing.readers.json_lines import batch_of, blocks_of_objects, group_blocks, line_blocks
from lakehouse.landing.readers.parquet import PARQUET_MAGIC, has_no_rows, parquet_tasks
from lakehouse.landing.readers.rows import Columns, Task, bronze_schema, columns_of, number_rows
from lakehouse.landing.readers.signatures import OPENED, Foreign, foreign_content
from lakehouse.landing.readers.time_columns import join_time_columns, with_time_columns

SMALL_OBJECT_BYTES = 1 << 20
"""Objects up to this size are fetched ahead of their turn."""

FETCH_BYTES = 16 << 10
"""Objects that are together no larger than this are fetched one after the other."""

MAX_FETCHES = 16
"""How many small objects are fetched at a time. Fetching them is mostly waiting."""

T = TypeVar("T")
R = TypeVar("R")


def bronze_rows(
    connection: duckdb.DuckDBPyConnection, contract: Contract, objects: Sequence[InputObject]
) -> duckdb.DuckDBPyRelation:
    """Make a lazy relation of the objects' rows. Each execution reads them again, in bounded memory.

    The columns are, in order: each field of the contract as text; `_extra`, a JSON object of unknown fields; `_raw` and
    `_defect`, the exact text of a row that could not be read and the reason; `_object`, `_row` (from 1) and
    `_arrived_at`. Executing it raises what opening and reading the objects raises, as a duckdb.Error that names it.
    """
    return connection.from_arrow(_ArrowStream(contract, objects))


def bronze_batches(contract: Contract, objects: Iterable[InputObject]) -> Iterator[pa.RecordBatch]:
    """Read the objects' rows as Arrow batches, in the order of the objects and of the rows in them."""
    threads = os.cpu_count() or 1
    with (
        ThreadPoolExecutor(MAX_FETCHES, thread_name_prefix="fetch") as fetching,
        ThreadPoolExecutor(threads, thread_name_prefix="read") as reading,
    ):
        fetched = chain.from_iterable(prefetch(fetching, _fetch, _to_fetch(objects), MAX_FETCHES))
        for (content, columns, dialect), group in groupby(fetched, partial(_how_to_read, contract)):
            if isinstance(content, Foreign):
                yield from _refuse(contract, content, group)
                continue
            batches = _READERS[content](replace(contract, dialect=dialect), group, reading, threads + 1)
            if columns:
                batches = add_folder_columns(contract, columns, batches)
            yield from (
                write_plainly(contract, dialect, batches) if has_values_of_its_own(contract, dialect) else batches
            )


def _how_to_read(contract: Contract, obj: InputObject) -> tuple[Format | Foreign, tuple[tuple[str, str], ...], Dialect]:
    # Files are recognised before they land, but anything may be dropped under `incoming/`.
    foreign = foreign_content(obj) if obj.name.startswith("incoming/") else None
    return foreign or format_of(obj), partition_columns(obj.name), dialect_of(contract, obj.name)


def _refuse(contract: Contract, foreign: Foreign, objects: Iterable[InputObject]) -> Iterator[pa.RecordBatch]:
    """Make one defect of each object."""
    remedy = f"load it with `lakehouse load`, or {foreign.remedy}" if foreign.kind in OPENED else foreign.remedy
    defect = columns_of([Defect(f"the file is {foreign.kind}; {remedy}", None)], len(contract.fields))
    for obj in objects:
        yield from number_rows(obj, bronze_schema(contract), [defect])


def prefetch(pool: Executor, work: Callable[[T], R], items: Iterable[T], depth: int) -> Iterator[R]:
    """Run `map(work, items)` on a pool, with at most `depth` results running or waiting.

    Results come in the order of the items. An error is raised when its item's turn comes.
    """
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def format_of(obj: InputObject) -> Format:
    """Return an object's format from its name, or from its first bytes if the name has no known suffix."""
    if file_format := format_of_name(obj.name):
        return file_format
    start = _first_bytes(text_chunks(obj))
    if start.startswith(PARQUET_MAGIC):
        return "parquet"
    return "json" if start.lstrip()[:1] in (b"{", b"[") else "csv"


def is_empty(contract: Contract, obj: InputObject) -> bool:
    """Return whether the object soundly holds no row: blanks, a header alone, `[]`, or a Parquet file of 0 rows."""
    return _IS_EMPTY[format_of(obj)](contract, obj)


def _first_bytes(chunks: Iterator[bytes]) -> bytes:
    start = b""
    try:
        for chunk in chunks:
            start += chunk
            if len(start.lstrip()) >= len(PARQUET_MAGIC):
                break
    except DamagedContentError:
        pass  # the reader of the format meets the damage again and makes a defect of it
    return start


def _to_fetch(objects: Iterable[InputObject]) -> Iterator[list[InputObject]]:
    """Group very small objects that one thread fetches in turn, because handing over each takes its time."""
    group: list[InputObject] = []
    size = 0
    for obj in objects:
        if group and size + obj.size > FETCH_BYTES:
            yield group
            group, size = [], 0
        group.append(obj)
        size += obj.size
    if group:
        yield group


def _fetch(objects: Sequence[InputObject]) -> list[InputObject]:
    return [obj if obj.size > SMALL_OBJECT_BYTES else _fetch_one(obj) for obj in objects]


def _fetch_one(obj: InputObject) -> InputObject:
    content = b"".join(stored_chunks(obj))
    return InputObject(obj.name, obj.arrived_at, obj.size, partial(BytesIO, content))


def _read_json(
    contract: Contract, objects: Iterable[InputObject], pool: Executor, depth: int
) -> Iterator[pa.RecordBatch]:
    parse, schema = BatchParser(contract).parse, bronze_schema(contract)
    blocks = blocks_of_objects(objects, opener_of(contract))
    return prefetch(pool, partial(batch_of, parse, schema), group_blocks(blocks), depth)


def _read_csv(
    contract: Contract, objects: Iterable[InputObject], pool: Executor, depth: int
) -> Iterator[pa.RecordBatch]:
    return _run_tasks(contract, objects, "csv", csv_tasks, pool, depth)


def _read_parquet(
    contract: Contract, objects: Iterable[InputObject], pool: Executor, depth: int
) -> Iterator[pa.RecordBatch]:
    return _run_tasks(contract, objects, "parquet", parquet_tasks, pool, depth)


def _run_tasks(
    contract: Contract,
    objects: Iterable[InputObject],
    file_format: Format,
    tasks_of: Callable[[Contract, InputObject], Iterator[Task]],
    pool: Executor,
    depth: int,
) -> Iterator[pa.RecordBatch]:
    schema = bronze_schema(contract)
    # The last task has no rows. It makes a group of every object, also of one that has no rows at all.
    layout = with_time_columns(contract)
    tasks = ((obj, task) for obj in objects for task in chain(tasks_of(layout, obj), (tuple,)))
    results = prefetch(pool, partial(_run_task, contract), tasks, depth)
    for obj, group in groupby(results, lambda result: result[0]):
        parts = (columns for _, parts in group for columns in parts)
        yield from number_rows(obj, schema, _some_row(contract, obj, file_format, parts))


def _some_row(contract: Contract, obj: InputObject, file_format: Format, parts: Iterable[Columns]) -> Iterator[Columns]:
    """Pass on the object's rows. If there are none though the object is not empty, one row says so as a defect."""
    has_rows = False
    for columns in parts:
        has_rows = has_rows or columns.count > 0
        yield columns
    if not has_rows and obj.size and not _IS_EMPTY[file_format](contract, obj):
        yield columns_of([Defect(NO_ROWS, None)], len(contract.fields))


def _run_task(contract: Contract, task_of_object: tuple[InputObject, Task]) -> tuple[InputObject, list[Columns]]:
    obj, task = task_of_object
    return obj, [join_time_columns(contract, columns) for columns in task()]


def _has_no_events(contract: Contract, obj: InputObject) -> bool:
    opener = opener_of(replace(contract, dialect=dialect_of(contract, obj.name)))
    return is_empty_array(obj) or (opener is not None and next(line_blocks(obj, opener), None) is None)


_READERS: dict[Format, Callable[[Contract, Iterable[InputObject], Executor, int], Iterator[pa.RecordBatch]]] = {
    "csv": _read_csv,
    "json": _read_json,
    "parquet": _read_parquet,
}


_IS_EMPTY: dict[Format, Callable[[Contract, InputObject], bool]] = {
    "csv": is_header_alone,
    "json": lambda contract, obj: _has_no_events(contract, obj),
    "parquet": lambda _, obj: has_no_rows(obj),
}


class _ArrowStream:
    """A relation's data for DuckDB. Each scan asks for a stream of its own."""

    def __init__(self, contract: Contract, objects: Sequence[InputObject]) -> None:
        self._contract = contract
        self._objects = tuple(objects)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        schema, batches = bronze_schema(self._contract), bronze_batches(self._contract, self._objects)
        return pa.RecordBatchReader.from_batches(schema, batches).__arrow_c_stream__(requested_schema)  # type: ignore[no-untyped-call]
