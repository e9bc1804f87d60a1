"""Engines: each runs SELECTs over tables and leaves Parquet files. What is computed and where it goes is not known here."""
