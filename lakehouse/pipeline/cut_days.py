"""Clean days that are too large for one worker: cut each into pieces by key, and clean these apart.

A first round of tasks reads bronze, and shuffles its rows by key. A second one cleans each piece as if it were a day. Where
the stream's SQL reads rows of several keys together, the second round only finds the rows that go to silver, and shuffles
them by the columns that the SQL needs whole; a third one runs the SQL.

A day stays whole if its SQL can't be cut, or if the quality gate may block some of it, because the gate judges whole days.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lakehouse.contracts.cutting import Cut, find_cut
from lakehouse.contracts.model import Contract
from lakehouse.contracts.sql import quote, verdict_sql
from lakehouse.engine.connection import DuckDB, bind, copy_to_files, read_sql
from lakehouse.engine.partition_writer import write_partitions
from lakehouse.engine.reader import Stored, read_chunks
from lakehouse.engine.shuffle import PieceFile, Pieces, PieceWriter, gather, shuffle_folder
from lakehouse.engine.workers import Workers
from lakehouse.pipeline.cleaning import Cleaned, Group, clean_group, upload_files
from lakehouse.pipeline.day_groups import GroupFiles, count_rows
from lakehouse.pipeline.enrichment import enrich
from lakehouse.pipeline.fast_path import check_rows
from lakehouse.pipeline.ledger import Ledger
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects, object_key

log = logging.getLogger(__name__)

PIECE_ROWS = 1_000_000
PIECE_BYTES = 32 << 20
"""Rows, and bytes of bronze files, of a piece."""

CHUNK_ROWS = 500_000
"""Rows that a task holds in memory while it cuts."""


def pieces_of(workers: Workers, group: Group) -> int:
    """Return into how many pieces to cut the day of a group: 1 to leave it whole."""
    if not group.is_large or len(group.files) > 1:
        return 1
    files = [file for of_day in group.files.values() for file in of_day]
    rows, size = sum(file.record_count for file in files), sum(file.file_size_in_bytes for file in files)
    pieces = workers.pieces(max(-(-rows // PIECE_ROWS), -(-size // PIECE_BYTES)))
    if pieces > 1 and find_cut(group.stream.contract, group.stream.sql("silver")) is None:
        log.warning(
            "%s has %d rows on %s, which stay whole because its silver.sql can't be cut: see docs/spark.md.",
            group.stream.name,
            rows,
            *group.files,
        )
        return 1
    return pieces


def clean_in_pieces(workers: Workers, connection: Connection, group: Group, pieces: int) -> Iterator[Cleaned]:
    """Clean the day of a group in pieces; gives what became of each."""
    cut = find_cut(group.stream.contract, group.stream.sql("silver"))
    assert cut is not None  # because `pieces_of` says so
    (day,) = group.files
    with shuffle_folder(connection, group.tables.bronze) as folder:
        by = cut.columns if cut.within_key else group.stream.contract.key
        parts = workers.split(group.files[day], _size)
        cuts = [_Part(group, day, part, by, pieces, f"{folder}/rows-{number}") for number, part in enumerate(parts)]
        counted = [*workers.spread(_cut_part, cuts)]
        landed, valid = sum(part.rows for part in counted), sum(part.valid for part in counted)
        if 0 < valid < landed * group.stream.contract.quality_threshold:
            yield from workers.spread(clean_group, [group])
            return
        groups = [
            replace(group, files={day: files}, piece=True) for files in gather(part.pieces for part in counted).values()
        ]
        if cut.within_key:
            yield from workers.spread(clean_group, groups)
            return
        first = [_Piece(piece, cut, pieces, f"{folder}/valid-{number}") for number, piece in enumerate(groups)]
        survivors = list[Pieces]()
        for cleaned, of_piece in workers.spread(_clean_piece, first):
            survivors.append(of_piece)
            yield cleaned
        last = [_Survivors(group, day, files) for files in gather(survivors).values()]
        yield from workers.spread(_enrich_piece, last)


@dataclass(frozen=True, slots=True)
class _Part:
    """Some bronze files of a day, to cut into pieces."""

    group: Group
    day: date
    files: Sequence[Stored]
    by: tuple[str, ...]
    pieces: int
    url: str


@dataclass(frozen=True, slots=True)
class _CutRows:
    """The pieces of some rows, and how many of these are valid."""

    pieces: Pieces
    rows: int
    valid: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece of a day by key, whose valid rows are to be cut once more."""

    group: Group
    cut: Cut
    pieces: int
    url: str


@dataclass(frozen=True, slots=True)
class _Survivors:
    """A piece of the rows that a day's silver is computed from."""

    group: Group
    day: date
    files: Sequence[PieceFile]


def _cut_part(engine: DuckDB, part: _Part) -> _CutRows:
    """Cut bronze rows into pieces, and count the valid ones."""
    bronze, contract = part.group.tables.bronze, part.group.stream.contract
    rows = valid = 0
    with engine.scratch() as folder, engine.cursor() as cursor, PieceWriter(folder / "pieces") as writer:
        for chunk in read_chunks(engine.connection, bronze, part.files, CHUNK_ROWS, folder):
            numbers, valid_rows = _number_pieces(cursor, contract, chunk, part.by, part.pieces)
            writer.write(chunk, numbers)
            rows += len(chunk)
            valid += valid_rows
        return _CutRows(writer.upload(engine.connection, part.url), rows, valid)


def _number_pieces(
    cursor: duckdb.DuckDBPyConnection, contract: Contract, rows: pa.Table, by: Sequence[str], pieces: int
) -> tuple[NDArray[np.int64], int]:
    """Return the piece of each bronze row, and how many are valid.

    Valid rows with equal values in `by` are in one piece, and so are rejected rows with the same raw text, because only
    such rows are compared with each other.
    """
    checked = check_rows(cursor, contract, rows, by)
    hashes = checked.hashes.copy()
    suspects = np.flatnonzero(~checked.sound)
    valid = len(rows) - len(suspects)
    if len(suspects):
        places: Any = pa.array(suspects)
        cursor.register("suspects", rows.take(places).append_column("_number", places))
        verdicts = cursor.execute(verdict_sql(contract, "suspects")).to_arrow_table()
        cursor.unregister("suspects")
        rejected = ~np.asarray(verdicts.column("_valid"))
        hashes[np.asarray(verdicts.column("_number"))[rejected]] = np.asarray(verdicts.column("raw_hash"))[rejected]
        valid += int((~rejected).sum())
    return (hashes % np.uint64(pieces)).astype(np.int64), valid


def _clean_piece(engine: DuckDB, piece: _Piece) -> tuple[Cleaned, Pieces]:
    """Upload the quarantine of a piece, and cut the rows that go to silver."""
    group = piece.group
    with engine.scratch() as folder:
        with engine.cursor() as cursor:
            days = group.on(engine, cursor)
            split = days.split()
            files = GroupFiles(quarantine=days.write_quarantine(split, folder))
            files.ledgers = days.ledgers(split, files.quarantine, {})
            hashed = f"hash({', '.join(map(quote, piece.cut.columns))}) % {piece.pieces}"
            select = f"select {', '.join(map(quote, days.inputs))}, ({hashed})::bigint as _piece from survivors"
            with PieceWriter(folder / "pieces") as writer:
                for batch in cursor.execute(select).to_arrow_reader(CHUNK_ROWS):
                    chunk = pa.Table.from_batches([batch])
                    writer.write(chunk.drop_columns("_piece"), np.asarray(chunk.column("_piece")))
                survivors = writer.upload(engine.connection, piece.url)
        return upload_files(engine, group, files), survivors


def _enrich_piece(engine: DuckDB, piece: _Survivors) -> Cleaned:
    """Run the stream's SQL over a piece, and upload its rows."""
    table, sql = piece.group.tables.silver, piece.group.stream.sql("silver")
    whole = replace(piece.group, files={piece.day: piece.files})
    with engine.scratch() as folder, engine.cursor() as cursor:
        if whole.is_large:
            select = bind(sql, {"valid": f"from {read_sql(file.file_path for file in piece.files)}"})
            silver = copy_to_files(cursor, select, table, folder, name="piece", partition=(piece.day,))
        else:
            rows = enrich(cursor, sql, _read_rows(engine.connection, piece.files), piece.group.passed)
            silver = write_partitions(rows, table, folder, "piece")
        files = GroupFiles(silver=silver)
        files.ledgers = {day: Ledger(silver=rows) for day, rows in count_rows(silver).items()}
        return upload_files(engine, whole, files)


def _read_rows(connection: Connection, files: Sequence[PieceFile]) -> pa.Table:
    objects = Objects.from_url(connection, files[0].file_path)
    contents: list[Any] = [pa.py_buffer(objects.get(object_key(file.file_path))) for file in files]
    return pa.concat_tables(pq.ParquetFile(content).read(use_threads=False) for content in contents)


def _size(file: Stored) -> int:
    return file.file_size_in_bytes
