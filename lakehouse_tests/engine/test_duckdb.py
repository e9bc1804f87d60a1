"""A SELECT's rows become Parquet files with a table's columns and partitions, and read back unchanged."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.table import Table

from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.contracts.sql import quote
from lakehouse.engine import stream_writer as streaming
from lakehouse.engine.connection import DuckDB, bind, columns_of, copy_to_files, extension_path, scan_sql, secret_sql
from lakehouse.engine.stream_writer import write_stream
from lakehouse.pipeline.commits import replace_days
from lakehouse.pipeline.lake import Lake
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.partitions import NewFile
from lakehouse.storage.iceberg.schema import TableSpec

DAY = date(2023, 1, 1)
COLUMNS = (
    ("dt", "DATE"), ("n", "BIGINT"), ("x", "DOUBLE"), ("price", "DECIMAL(18,3)"), ("word", "VARCHAR"),
    ("at", "TIMESTAMP"), ("yes", "BOOLEAN"), ("words", "VARCHAR[]"), ("by", "MAP(VARCHAR, VARCHAR)"),
)  # fmt: skip
ROWS = """
    select
      date '2023-01-01' + (range % 3)::integer as dt,
      range as n,
      range / 7 as x,
      (range / 8)::decimal(18, 3) as price,
      case when range % 5 > 0 then 'é''"' || range end as word,
      timestamp '2023-01-01 00:00:00.000001' + to_seconds(range) as at,
      range % 2 = 0 as yes,
      [range::varchar, null] as words,
      map(['k'], [range::varchar]) as by
    from range(100)
"""

_numbers = count()


@pytest.fixture
def table(shared_lake: Lake) -> Table:
    name = f"gold.duckdb_{next(_numbers)}"
    shared_lake.tables.ensure([TableSpec(name, COLUMNS, ("dt",))])
    return shared_lake.tables.load(name)


@pytest.fixture
def cursor(shared_lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    with shared_lake.engine.cursor() as cursor:
        yield cursor


def _rows_of(files: list[NewFile]) -> dict[date | int | str, int]:
    counts: dict[date | int | str, int] = {}
    for file in files:
        (day,) = file.partition
        counts[day] = counts.get(day, 0) + pq.read_metadata(file.path).num_rows
    return counts


def test_every_type_is_read_back_as_written(shared_lake: Lake, table: Table, cursor: duckdb.DuckDBPyConnection) -> None:
    name = qualified_name(table)
    replace_days(shared_lake, name, ROWS, [DAY + timedelta(days=n) for n in range(3)])
    columns = ", ".join(quote(column) for column, _ in COLUMNS)
    now = scan_sql(shared_lake.tables.load(name))
    assert (
        cursor.execute(f"select {columns} from {now} order by n").fetchall()
        == cursor.execute(f"select {columns} from ({ROWS}) order by n").fetchall()
    )
    assert cursor.execute(f"select max(price) from {now} where dt = date '2023-01-01'").fetchone() == (
        Decimal("12.375"),
    )


def test_table_without_snapshots_is_empty_and_typed(table: Table, cursor: duckdb.DuckDBPyConnection) -> None:
    result = cursor.execute(f"select * from {scan_sql(table)}")
    assert [(c[0], str(c[1]).upper().replace(", ", ",")) for c in result.description or []] == [
        (name, sql_type.replace(", ", ",")) for name, sql_type in COLUMNS
    ]
    assert result.fetchall() == []
    assert [name for name, _ in columns_of(table)] == [name for name, _ in COLUMNS]


def test_each_partition_has_its_own_files(table: Table, cursor: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    files = copy_to_files(cursor, ROWS, table, tmp_path, name="part")
    assert _rows_of(files) == {DAY: 34, DAY + timedelta(days=1): 33, DAY + timedelta(days=2): 33}
    for file in files:
        schema = pq.read_schema(file.path)
        assert [field.name for field in schema] == [name for name, _ in COLUMNS]
        assert (schema.field("n").metadata or {})[b"PARQUET:field_id"] == b"2"


def test_partition_is_one_file_or_none_if_empty(
    table: Table, cursor: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    day = f"select * from ({ROWS}) where dt = date '2023-01-01'"
    assert _rows_of(copy_to_files(cursor, day, table, tmp_path, name="one", partition=(DAY,))) == {DAY: 34}
    assert copy_to_files(cursor, f"{day} and false", table, tmp_path, name="none", partition=(DAY,)) == []
    assert copy_to_files(cursor, f"{day} and false", table, tmp_path, name="nones") == []


def test_batches_are_written_whole_whatever_their_chunks(
    shared_lake: Lake, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "CHUNK_ROWS", 7)
    with shared_lake.engine.cursor() as cursor:
        whole = cursor.execute(ROWS).to_arrow_table()
    files = write_stream(shared_lake.engine, iter(whole.to_batches(max_chunksize=3)), "from chunk", table, tmp_path)
    assert _rows_of(files) == {DAY: 34, DAY + timedelta(days=1): 33, DAY + timedelta(days=2): 33}
    assert len(files) == 3, "scattered files of a partition are merged"
    numbers = pa.concat_tables([pq.read_table(file.path, columns=["n"], partitioning=None) for file in files])
    assert set(numbers["n"].to_pylist()) == set(range(100))
    assert numbers.num_rows == 100
    assert sorted(tmp_path.rglob("*.parquet")) == sorted(file.path for file in files)


def test_no_batches_write_no_files(shared_lake: Lake, table: Table, tmp_path: Path) -> None:
    assert write_stream(shared_lake.engine, iter(()), "from chunk", table, tmp_path) == []


def test_failure_while_reading_batches_is_raised(shared_lake: Lake, table: Table, tmp_path: Path) -> None:
    def breaks() -> Iterator[pa.RecordBatch]:
        with shared_lake.engine.cursor() as cursor:
            yield from cursor.execute(ROWS).to_arrow_table().to_batches()
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        write_stream(shared_lake.engine, breaks(), "from chunk", table, tmp_path)


def test_scratch_folder_is_deleted_even_after_a_failure(shared_lake: Lake) -> None:
    folders: list[Path] = []

    def fail() -> None:
        with shared_lake.engine.scratch() as folder:
            folders.append(folder)
            (folder / "x").write_text("x")
            raise KeyError("why")

    with pytest.raises(KeyError, match="why"):
        fail()
    assert [folder.exists() for folder in folders] == [False]


def test_engine_keeps_to_memory_threads_and_utc(shared_lake: Lake, tmp_path: Path) -> None:
    engine = DuckDB(shared_lake.connection, memory_limit_mb=256, spill_mb=100, threads=1, scratch=tmp_path)
    try:
        asked = "select current_setting('memory_limit'), current_setting('threads'), current_setting('TimeZone')"
        assert engine.database.execute(asked).fetchone() == ("256.0 MiB", 1, "UTC")
        asked = "select current_setting('max_temp_directory_size'), current_setting('temp_directory')"
        assert engine.database.execute(asked).fetchone() == ("100.0 MiB", str(engine.spill))
        assert engine.threads == 1
        assert engine.database.execute("select current_setting('allow_unsigned_extensions')").fetchone() == (False,)
    finally:
        engine.close()


def test_inputs_are_bound_by_name(cursor: duckdb.DuckDBPyConnection) -> None:
    sql = "-- a comment first\nselect a.n + b.n as n from a, b; "
    assert cursor.execute(bind(sql, {"a": "select 1 as n", "b": "select 2 as n"})).fetchall() == [(3,)]


def test_missing_extension_is_named_with_its_package() -> None:
    with pytest.raises(FileNotFoundError, match=rf"pip install duckdb-extension-nothing=={duckdb.__version__}"):
        extension_path("nothing")


def test_keys_with_quotes_are_quoted(shared_lake: Lake) -> None:
    quoted = secret_sql(replace(shared_lake.connection, secret_access_key="it's"))
    assert "secret 'it''s'" in quoted
    chain = secret_sql(replace(shared_lake.connection, access_key_id=None, secret_access_key=None))
    assert "provider credential_chain" in chain


def test_spilling_ends_at_its_limit_and_leaves_nothing(shared_lake: Lake, tmp_path: Path) -> None:
    engine = DuckDB(shared_lake.connection, memory_limit_mb=64, spill_mb=20, threads=1, scratch=tmp_path)
    try:
        with pytest.raises(duckdb.OutOfMemoryException, match="max_temp_directory_size"):
            engine.database.execute(
                "create temp table t as select hash(range) as h, range::varchar as s from range(30_000_000)"
            )
        assert sum(path.stat().st_size for path in engine.spill.glob("*")) <= 20 << 20
    finally:
        engine.close()
    assert not engine.spill.exists()


def test_database_in_memory_writes_nothing_to_disk() -> None:
    with open_in_memory() as database:
        assert database.execute("select current_setting('temp_directory')").fetchone() == ("",)


def test_cursors_have_the_settings_of_their_database(shared_lake: Lake, cursor: duckdb.DuckDBPyConnection) -> None:
    expected = {
        "TimeZone": "UTC",
        "http_retries": "5",
        "http_retry_backoff": "2.0",
        "http_timeout": str(shared_lake.connection.silence_seconds),
    }
    names = ", ".join(f"current_setting('{name}')::varchar" for name in expected)
    assert cursor.execute(f"select {names}").fetchone() == tuple(expected.values())


def test_times_with_offsets_are_utc_whatever_the_machine_says(
    shared_lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    engine = DuckDB(shared_lake.connection, scratch=tmp_path)
    try:
        value = engine.cursor().execute("select '2023-01-01 12:00:00+02:00'::timestamptz::timestamp").fetchone()
    finally:
        engine.close()
    assert value == (datetime(2023, 1, 1, 10),)
