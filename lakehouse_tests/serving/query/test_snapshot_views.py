"""Queries read the views of their snapshot, and the cache of files that DuckDB keeps between them is bounded."""

import io
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.engine.connection import DuckDB, setup_sql
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.query.sandbox import lockdown_sql
from lakehouse.serving.query.snapshot_views import (
    CACHE_SETTINGS_SQL,
    CACHE_SHARE,
    SnapshotViews,
    cached_bytes,
    trim_file_cache,
)
from lakehouse.serving.query.worker import Worker
from lakehouse.serving.query.worker_messages import QueryRequest, Setup


def _cached_file(lake: Lake) -> str:
    """Store a file of 100,000 numbers. Returns its URL."""
    file = io.BytesIO()
    pq.write_table(pa.table({"x": range(100_000)}), file, compression="none", use_dictionary=False)
    lake.objects.put("cached.parquet", file.getvalue())
    return f"s3://{lake.connection.bucket}/cached.parquet"


def test_cursor_reads_snapshots_in_any_order_and_few_stay() -> None:
    with duckdb.connect() as database:
        views, cursor = SnapshotViews(database), database.cursor()
        for number in (5, 3, 5, 4, 3, 6, 6, 2, 1):
            assert cursor.execute("select json_valid('{}')").fetchall() == [(True,)]
            with views.catalog(number, {"serving.number": f"select {number} as number"}) as catalog:
                cursor.execute(f"use {catalog}")
                assert cursor.execute("from serving.number").fetchall() == [(number,)]
        catalogs = [name for (name,) in cursor.execute("select database_name from duckdb_databases()").fetchall()]
    assert {name for name in catalogs if name.startswith("snapshot_")} == {"snapshot_6", "snapshot_1"}


def test_worker_replaces_a_database_that_keeps_too_much(shared_lake: Lake, tmp_path: Path) -> None:
    url, memory_mb = _cached_file(shared_lake), 2
    statements = [*setup_sql(shared_lake.connection, 256, 1, tmp_path, 0), *CACHE_SETTINGS_SQL]
    worker = Worker(Setup([*statements, *lockdown_sql([url.removesuffix("cached.parquet")])], memory_mb, str(tmp_path)))
    views = {"silver.numbers": f"from read_parquet('{url}')"}
    request = QueryRequest("select sum(x)::bigint as x from silver.numbers", [], "json", 10, 1 << 20, 1, views, {}, [])
    first = worker.run(request)
    assert b"4999950000" in first.body
    kept = cached_bytes(worker._cursor)
    worker.trim()
    assert cached_bytes(worker._cursor) == kept > (memory_mb << 20) // CACHE_SHARE
    worker._trim_due = 0.0
    worker.trim()
    assert cached_bytes(worker._cursor) == 0
    assert b"4999950000" in worker.run(request).body


def test_file_cache_is_emptied_beyond_its_limit(shared_lake: Lake, tmp_path: Path) -> None:
    url = _cached_file(shared_lake)
    engine = DuckDB(shared_lake.connection, scratch=tmp_path)
    database = engine.database
    read = f"select sum(x)::bigint from read_parquet('{url}')"
    try:
        for statement in CACHE_SETTINGS_SQL:
            database.execute(statement)
        assert database.execute(read).fetchone() == (4_999_950_000,)
        cached = cached_bytes(database)
        assert cached > 500_000
        trim_file_cache(database, cached)
        assert cached_bytes(database) == cached
        trim_file_cache(database, cached - 1)
        assert cached_bytes(database) == 0
        assert database.execute(read).fetchone() == (4_999_950_000,)
        assert cached_bytes(database) == cached
    finally:
        engine.close()
