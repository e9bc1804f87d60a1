"""Compute a share of partitions on the other engine too, and compare the rows. The ledgers keep the outcome.

What the other engine computes is deleted. Nothing that it does, or fails to do, changes what is committed.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from hashlib import blake2b
from typing import Literal, TypeAlias

import duckdb
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakehouse.contracts.sql import quote
from lakehouse.engine.connection import columns_of, read_sql
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.lake import Lake
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.commit import discard

log = logging.getLogger(__name__)

OUTCOME = "other_engine"
"""The count in a day's ledger that holds the outcome of the comparison."""

Outcome = Literal["same", "differs", "failed"]

Written: TypeAlias = tuple[Table, Sequence[DataFile]]
"""A table, and the data files that were written to it."""

TOLERANCE = 1e-9
"""Relative difference of sums of floating-point numbers, whose last digits depend on the order of rows."""


@dataclass(frozen=True, slots=True)
class _Print:
    """The number of a day's rows, the sum of their hashes, and the sum of each column of floating-point numbers."""

    rows: int = 0
    hashes: int = 0
    sums: tuple[float, ...] = ()

    def matches(self, other: "_Print") -> bool:
        """Return whether the rows are the same, but for the last digits of sums."""
        return (self.rows, self.hashes, len(self.sums)) == (other.rows, other.hashes, len(other.sums)) and all(
            math.isclose(ours, theirs, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
            or (math.isnan(ours) and math.isnan(theirs))
            for ours, theirs in zip(self.sums, other.sums, strict=True)
        )


NO_ROWS = _Print()


def shadowed(lake: Lake, table: Table, days: Iterable[date]) -> list[date]:
    """Select the share of days to compute twice. The choice changes with each commit of the table."""
    share = lake.settings.shadow_share
    if not share:
        return []
    snapshot = table.current_snapshot()
    version = f"{table.metadata.table_uuid}/{snapshot.snapshot_id if snapshot else 0}"
    return [day for day in days if _fraction(f"{version}/{day}") < share]


def compare(
    lake: Lake, days: Sequence[date], ours: Sequence[Written], compute: Callable[[], Sequence[Written]], by: str = "dt"
) -> dict[date, Outcome]:
    """Compare what was written to tables with what `compute` uploads for them, by day, and delete that."""
    if not days:
        return {}
    theirs: Sequence[Written] = []
    try:
        theirs = compute()
        outcomes: dict[date, Outcome] = dict.fromkeys(days, "same")
        for own, other in zip(ours, theirs, strict=True):
            for day in _differing(lake, days, own, other, by):
                outcomes[day] = "differs"
    except (LakehouseError, OSError, duckdb.Error) as error:
        log.warning("The other engine did not compute %d days, so nothing was compared: %s", len(days), error)
        return dict.fromkeys(days, "failed")
    else:
        return outcomes
    finally:
        for _, files in theirs:
            with suppress(LakehouseError):  # if storage is down, they stay until orphans are removed
                discard(lake.connection, files)


def counted(outcomes: Mapping[date, Outcome], day: date) -> dict[str, Outcome]:
    """Return the count of a day's ledger, if the day was compared."""
    return {OUTCOME: outcomes[day]} if day in outcomes else {}


def _differing(lake: Lake, days: Sequence[date], ours: Written, theirs: Written, by: str) -> list[date]:
    table, files = ours
    own, other = _prints(lake, table, files, by), _prints(lake, table, theirs[1], by)
    differing = [day for day in days if not own.get(day, NO_ROWS).matches(other.get(day, NO_ROWS))]
    for day in differing:
        log.error("The engines differ on %s in %s: %s and %s", day, qualified_name(table), own.get(day), other.get(day))
    return differing


def _prints(lake: Lake, table: Table, files: Sequence[DataFile], by: str) -> dict[date, _Print]:
    if not files:
        return {}
    columns = columns_of(table)
    exact = ", ".join(quote(name) for name, kind in columns if kind != "double")
    sums = "".join(f", coalesce(sum({quote(name)}), 0)" for name, kind in columns if kind == "double")
    select = f"""select {quote(by)}, count(*), sum(hash({exact})::hugeint){sums}
        from {read_sql(file.file_path for file in files)}
        group by {quote(by)}"""
    with lake.engine.cursor() as cursor:
        rows = cursor.execute(select).fetchall()
    return {row[0]: _Print(row[1], int(row[2]), tuple(row[3:])) for row in rows}


def _fraction(text: str) -> float:
    """Map a text to a number between 0 and 1, evenly."""
    return int.from_bytes(blake2b(text.encode(), digest_size=6).digest()) / (1 << 48)
