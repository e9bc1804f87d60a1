"""The slow half of validation at ingest: the reasons why lines that could not be proven valid break the contract.

It runs the landing readers and the contract's own SQL, so that verdicts and reasons are exactly those of quarantine.
See `contracts.validator` for the fast half.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import pyarrow as pa

from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.contracts.model import Contract
from lakehouse.contracts.sql import day_sql, quarantine_sql
from lakehouse.contracts.times import naive_utc
from lakehouse.landing.readers.defects import (
    KEPT_BYTES_OF_LONG_ROW,
    MAX_ROW_BYTES,
    Defect,
    too_long_row,
    unreadable_text,
)
from lakehouse.landing.readers.json_batch import BatchParser
from lakehouse.landing.readers.rows import Columns, bronze_schema

MEMORY_LIMIT = "512MB"


class SqlValidator:
    """Validates lines against one contract. Not thread-safe."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self._parser = BatchParser(contract)
        self._schema = bronze_schema(contract)
        self._database = open_in_memory(memory_limit=MEMORY_LIMIT)
        self._database.execute("set timezone = 'UTC'")
        bronze = f"(select *, {day_sql(contract, 'landed')} as dt from landed)"
        self._sql = f"with bronze as {bronze} select _row, reasons from ({quarantine_sql(contract)})"

    def reasons(self, lines: Sequence[bytes], arrived_at: datetime) -> Mapping[int, list[str]]:
        """Return why lines break the contract, by their index; valid lines are left out.

        Lines come without their line ends. `arrived_at` is aware.
        """
        if not lines:
            return {}
        defects = {index: defect for index, line in enumerate(lines) if (defect := _defect(line))}
        text = pa.array(["" if index in defects else line.decode() for index, line in enumerate(lines)], pa.string())
        self._database.register("landed", self._landed(self._parser.parse(text, defects), arrived_at))
        try:
            return dict(self._database.execute(self._sql).fetchall())
        finally:
            self._database.unregister("landed")

    def _landed(self, columns: Columns, arrived_at: datetime) -> pa.Table:
        count = columns.count
        name = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([""]))
        row = pa.array(range(count), pa.int64())
        arrived = pa.repeat(pa.scalar(naive_utc(arrived_at), pa.timestamp("us")), count)
        return pa.Table.from_arrays([*columns.arrays, name, row, arrived], schema=self._schema)


def _defect(line: bytes) -> Defect | None:
    return too_long_row(line[:KEPT_BYTES_OF_LONG_ROW]) if len(line) > MAX_ROW_BYTES else unreadable_text(line)
