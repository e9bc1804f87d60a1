"""The slow half of the edge's validation: lines that could not be proved valid, judged as bronze and silver will.

The readers and the contract's own SQL are asked, so that verdicts and reasons are the quarantine's to the letter.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import duckdb
import pyarrow as pa

from lakehouse.contracts.model import Contract
from lakehouse.contracts.sql import day_sql, quarantine_sql
from lakehouse.landing.readers.defects import (
    KEPT_BYTES_OF_LONG_ROW,
    MAX_ROW_BYTES,
    Defect,
    too_long_row,
    unreadable_text,
)
from lakehouse.landing.readers.json_batch import BatchParser
from lakehouse.landing.readers.rows import Columns, bronze_schema, naive_utc

MEMORY = "512MB"


class SqlValidator:
    """Judges the lines of one contract. For one thread at a time."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._batches = BatchParser(contract)
        self._shape = bronze_schema(contract)
        self._database = duckdb.connect(config={"threads": 1, "memory_limit": MEMORY})
        self._database.execute("set timezone = 'UTC'")
        bronze = f"(select *, {day_sql(contract, 'landed')} as dt from landed)"
        self._sql = f"with bronze as {bronze} select _row, reasons from ({quarantine_sql(contract)})"

    def reasons(self, lines: Sequence[bytes], arrived_at: datetime) -> Mapping[int, list[str]]:
        """Why these lines, without their line ends, break the contract, by their place; valid ones are not there.

        `arrived_at` is when they arrive, aware.
        """
        if not lines:
            return {}
        defects = {place: defect for place, line in enumerate(lines) if (defect := _defect(line))}
        text = pa.array(["" if place in defects else line.decode() for place, line in enumerate(lines)], pa.string())
        self._database.register("landed", self._landed(self._batches.parse(text, defects), arrived_at))
        try:
            return dict(self._database.execute(self._sql).fetchall())
        finally:
            self._database.unregister("landed")

    def _landed(self, columns: Columns, arrived_at: datetime) -> pa.Table:
        count = columns.count
        name = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([""]))
        row = pa.array(range(count), pa.int64())
        arrived = pa.repeat(pa.scalar(naive_utc(arrived_at), pa.timestamp("us")), count)
        return pa.Table.from_arrays([*columns.arrays, name, row, arrived], schema=self._shape)


def _defect(line: bytes) -> Defect | None:
    return too_long_row(line[:KEPT_BYTES_OF_LONG_ROW]) if len(line) > MAX_ROW_BYTES else unreadable_text(line)
