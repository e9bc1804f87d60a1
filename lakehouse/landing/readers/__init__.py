"""Read landing objects as bronze rows: CSV, JSON and Parquet into text, one row out for each row landed.

A row that can't be read is a row too, with its reason and its exact text. See `contracts` for casting and validating.
"""

from lakehouse.landing.readers.content import InputObject, local_object
from lakehouse.landing.readers.relation import bronze_batches, bronze_rows, is_empty

__all__ = ["InputObject", "bronze_batches", "bronze_rows", "is_empty", "local_object"]
