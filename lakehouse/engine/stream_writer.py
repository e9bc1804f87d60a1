"""Write Arrow batches as Parquet files of a table's partitions, in bounded memory.

Batches are gathered to chunks. Two chunks are computed and written at a time.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import Table

from lakehouse.engine.connection import DuckDB
from lakehouse.engine.partition_writer import merge_files, write_partitions
from lakehouse.storage.iceberg.partitions import NewFile, PartitionValue

CHUNK_ROWS = 500_000
CHUNK_BYTES = 96 << 20
MERGE_FROM = 4
MERGE_BELOW = 100_000
"""Files of a partition are merged if there are at least `MERGE_FROM`, of fewer than `MERGE_BELOW` rows on average: its rows
are scattered over the batches."""

Make = Callable[[duckdb.DuckDBPyConnection, pa.Table], pa.Table]
"""A function that computes a table's rows from a chunk."""


def write_stream(
    engine: DuckDB, batches: Iterable[pa.RecordBatch], select: str, table: Table, folder: Path
) -> list[NewFile]:
    """Write the rows that `select` computes from the batches, which it reads as the table `chunk`.

    It must give the table's columns, and compute each row from one row.
    """
    return write_chunks(engine, batches, partial(_selected, select), table, folder)


def write_chunks(
    engine: DuckDB, batches: Iterable[pa.RecordBatch], make: Make, table: Table, folder: Path
) -> list[NewFile]:
    """Write the rows that `make` computes from the batches. It must compute each row from one row."""
    with ThreadPoolExecutor(max(1, min(2, engine.threads)), thread_name_prefix="write") as pool:
        files: list[NewFile] = []
        running: set[Future[list[NewFile]]] = set()
        for number, chunk in enumerate(_chunks(batches)):
            if len(running) > 1:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                files += [file for future in done for file in future.result()]
            running.add(pool.submit(_write, engine, chunk, make, table, folder, f"c{number}"))
        files += [file for future in running for file in future.result()]
        return _merge(files, folder, pool)


def _chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        if rows >= CHUNK_ROWS or size >= CHUNK_BYTES:
            yield pa.Table.from_batches(held)
            held, rows, size = [], 0, 0
    if held:
        yield pa.Table.from_batches(held)


def _write(engine: DuckDB, chunk: pa.Table, make: Make, table: Table, folder: Path, name: str) -> list[NewFile]:
    with engine.cursor() as cursor:
        return write_partitions(make(cursor, chunk), table, folder, name)


def _selected(select: str, cursor: duckdb.DuckDBPyConnection, chunk: pa.Table) -> pa.Table:
    cursor.register("chunk", chunk)
    return cursor.execute(select).to_arrow_table()


def _merge(files: Sequence[NewFile], folder: Path, pool: ThreadPoolExecutor) -> list[NewFile]:
    by_partition: dict[tuple[PartitionValue, ...], list[NewFile]] = defaultdict(list)
    for file in files:
        by_partition[file.partition].append(file)

    def merge_partition(numbered: tuple[int, list[NewFile]]) -> list[NewFile]:
        number, parts = numbered
        if len(parts) < MERGE_FROM or sum(map(_rows, parts)) >= MERGE_BELOW * len(parts):
            return parts
        merged = merge_files(parts, folder / f"m{number}.parquet")
        for part in parts:
            part.path.unlink()
        return [merged]

    return [file for part in pool.map(merge_partition, enumerate(by_partition.values())) for file in part]


def _rows(file: NewFile) -> int:
    return pq.read_metadata(file.path).num_rows
