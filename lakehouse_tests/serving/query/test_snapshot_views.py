"""The cache of files that DuckDB keeps between queries is bounded."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.engine.connection import DuckDB
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.query.snapshot_views import CACHE_SETTINGS_SQL, trim_file_cache

CACHED = "select coalesce(sum(nr_bytes), 0)::bigint from duckdb_external_file_cache()"


def test_file_cache_is_emptied_beyond_its_limit(shared_lake: Lake, tmp_path: Path) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"x": range(100_000)}), file, compression="none", use_dictionary=False)
    shared_lake.objects.put("cached.parquet", file.getvalue())
    engine = DuckDB(shared_lake.connection, scratch=tmp_path)
    database = engine.database
    read = f"select sum(x)::bigint from read_parquet('s3://{shared_lake.connection.bucket}/cached.parquet')"
    try:
        for statement in CACHE_SETTINGS_SQL:
            database.execute(statement)
        assert database.execute(read).fetchone() == (4_999_950_000,)
        ((cached,),) = database.execute(CACHED).fetchall()
        assert cached > 500_000
        trim_file_cache(database, cached)
        assert database.execute(CACHED).fetchone() == (cached,)
        trim_file_cache(database, cached - 1)
        assert database.execute(CACHED).fetchone() == (0,)
        assert database.execute(read).fetchone() == (4_999_950_000,)
        assert database.execute(CACHED).fetchone() == (cached,)
    finally:
        engine.close()
