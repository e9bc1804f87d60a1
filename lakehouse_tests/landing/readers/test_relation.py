import csv
import gc
import io
import threading
import tracemalloc
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.landing.readers import InputObject, bronze_batches, bronze_rows, local_object, relation
from lakehouse_tests.landing.readers.samples import ARRIVED, THREE, object_of

LATER = datetime(2025, 11, 20, 16, 15, 0, 250, tzinfo=timezone(timedelta(hours=1)))


@pytest.fixture
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 2}) as connection:
        yield connection


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def test_all_formats_make_one_relation_with_row_origins(database: duckdb.DuckDBPyConnection) -> None:
    sources = [
        object_of(b'{"id":"1"}\n\n{"id":"2","x":1}\n', "a.json"),
        object_of(b"ID,price\n3,1\n4\n", "b.csv", LATER),
        object_of(b"", "empty.json"),
        object_of(b'{"id":"5"}', "c.json"),
        object_of(parquet(pa.table({"id": ["6", "7"]})), "d.parquet"),
        object_of(b"ID\n8\n", "e.csv"),
        object_of(b"ID\n9\n", "f.csv", datetime(2025, 11, 20, 17)),
    ]
    rows = bronze_rows(database, THREE, sources)
    assert dict(zip(rows.columns, map(str, rows.types), strict=True)) == {
        "id": "VARCHAR",
        "name": "VARCHAR",
        "price": "VARCHAR",
        "_extra": "VARCHAR",
        "_raw": "VARCHAR",
        "_defect": "VARCHAR",
        "_object": "VARCHAR",
        "_row": "BIGINT",
        "_arrived_at": "TIMESTAMP",
    }
    first, later, last = (datetime(2025, 11, 20, *t) for t in ((14, 15), (15, 15, 0, 250), (17,)))
    assert rows.order("_object, _row").fetchall() == [
        ("1", None, None, None, None, None, "a.json", 1, first),
        ("2", None, None, '{"x":1}', None, None, "a.json", 2, first),
        ("3", None, "1", None, None, None, "b.csv", 1, later),
        (None, None, None, None, "4", "1 fields where the header has 2", "b.csv", 2, later),
        ("5", None, None, None, None, None, "c.json", 1, first),
        ("6", None, None, None, None, None, "d.parquet", 1, first),
        ("7", None, None, None, None, None, "d.parquet", 2, first),
        ("8", None, None, None, None, None, "e.csv", 1, first),
        ("9", None, None, None, None, None, "f.csv", 1, last),
    ]


def test_no_objects_make_no_rows(database: duckdb.DuckDBPyConnection) -> None:
    assert bronze_rows(database, THREE, []).fetchall() == []
    assert bronze_rows(database, THREE, [object_of(b"", "a.csv"), object_of(b"", "b.json")]).fetchall() == []


def test_relation_can_be_executed_again_and_queried(database: duckdb.DuckDBPyConnection) -> None:
    rows = bronze_rows(database, THREE, [object_of(b"ID\n1\n2\n", "a.csv")])
    gc.collect()
    assert rows.aggregate("count(*)").fetchall() == [(2,)]
    assert rows.filter("id = '2'").project("_row").fetchall() == [(2,)]
    assert database.sql("select max(id) from rows").fetchall() == [("2",)]


def test_rows_of_large_object_are_numbered_throughout(tmp_path: Path, database: duckdb.DuckDBPyConnection) -> None:
    path = tmp_path / "large.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["price", "ID", "name"])
        writer.writerows((i / 4, i, f'a "{i}",\nb') for i in range(1, 400_001))
    assert path.stat().st_size > 3 * (4 << 20)
    rows = bronze_rows(database, THREE, [local_object(path)])
    assert rows.aggregate(
        "count(*), count(distinct _row), count_if(id = _row::varchar), count_if(price::double = _row / 4)"
    ).fetchall() == [(400_000,) * 4]
    assert rows.filter("_row = 123456").project("id, name").fetchall() == [("123456", 'a "123456",\nb')]


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.parquet", "a"])
@pytest.mark.parametrize("small_object_bytes", [0, 1 << 20])
def test_errors_of_opening_and_reading_are_raised(
    name: str, small_object_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise ConnectionError("the server is gone")

    def unopened() -> Broken:
        raise PermissionError("not yours")

    monkeypatch.setattr(relation, "SMALL_OBJECT_BYTES", small_object_bytes)
    with pytest.raises(ConnectionError, match="the server is gone"):
        list(bronze_batches(THREE, [object_of(b"", "first.csv"), InputObject(name, ARRIVED, 10, Broken)]))
    with pytest.raises(PermissionError, match="not yours"):
        list(bronze_batches(THREE, [InputObject(name, ARRIVED, 10, unopened)]))


def test_query_error_names_its_cause(database: duckdb.DuckDBPyConnection) -> None:
    rows = bronze_rows(database, THREE, [InputObject("a.csv", ARRIVED, 99, lambda: io.BytesIO(b"ID\n1\n"))])
    with pytest.raises(duckdb.Error, match=r"SourceChangedError: a.csv: 99 bytes were listed and 5 read"):
        rows.fetchall()


def test_no_thread_outlives_abandoned_batches() -> None:
    batches = bronze_batches(THREE, [object_of(b"ID\n" + b"1\n" * 10, f"{i}.csv") for i in range(100)])
    next(batches)
    del batches
    gc.collect()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("fetch", "read"))]


def test_memory_does_not_grow_with_object_size() -> None:
    """Read a line of 128 MiB, and 64 MiB of events without line ends."""

    class Repeated(io.RawIOBase):
        def __init__(self, piece: bytes, times: int) -> None:
            self._piece, self._times = piece, times

        def read(self, size: int = -1, /) -> bytes:
            self._times -= 1
            return self._piece if self._times >= 0 else b""

    piece = b"x" * (1 << 20)
    event = b'{"id":"' + b"x" * 1014 + b'"} '
    assert len(event) == 1024
    cases = [("a.csv", piece, 128, 1), ("a.json", piece, 128, 1), ("b.json", event * 1024, 64, 64 * 1024)]
    for name, part, times, rows in cases:
        obj = InputObject(name, ARRIVED, len(part) * times, partial(Repeated, part, times))
        tracemalloc.start()
        try:
            assert sum(batch.num_rows for batch in bronze_batches(THREE, [obj])) == rows
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 200 << 20, (name, peak >> 20)
