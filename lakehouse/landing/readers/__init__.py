"""Landing objects read as bronze rows: CSV, NDJSON and Parquet into text, one row out for each row landed.

What cannot be read is a row too, with its reason and its exact text. Casting and validating belong to `contracts`.
"""

from lakehouse.landing.readers.relation import bronze_batches, bronze_rows
from lakehouse.landing.readers.source import Source, local_source

__all__ = ["Source", "bronze_batches", "bronze_rows", "local_source"]
