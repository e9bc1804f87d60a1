"""Local Parquet files on their way into a table. Kept apart from `commit`, which takes seconds to import."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

Value = str | date | int
"""A partition value."""


@dataclass(frozen=True, slots=True)
class NewFile:
    """A local Parquet file of one partition, not yet in the table."""

    path: Path
    partition: tuple[Value, ...]
