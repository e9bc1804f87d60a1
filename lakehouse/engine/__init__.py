"""Run a SELECT with DuckDB and write its rows as Parquet files."""
