"""Clean a group of days in memory, as Arrow tables; see `fast_path` for how its clean rows are found."""

from collections.abc import Sequence
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.contracts.columns import ROW_MARKER, passed_through
from lakehouse.contracts.sql import quote
from lakehouse.engine.connection import describe
from lakehouse.engine.partition_writer import write_partitions
from lakehouse.engine.reader import read_files
from lakehouse.pipeline.day_groups import DayGroup
from lakehouse.pipeline.fast_path import split_rows
from lakehouse.storage.iceberg.partitions import NewFile

MIN_ROWS_TO_PRUNE_COLUMNS = 50_000
"""With fewer rows, finding out which columns a stream's SQL passes through takes longer than computing all of them."""


class InMemoryGroup(DayGroup):
    """A group that is read into Arrow tables."""

    _clean: pa.Table
    _survivors: pa.Table

    def _find_suspects(self) -> None:
        files = [*chain.from_iterable(self.files.values())]
        rows = split_rows(self.cursor, self.contract, read_files(self.connection, self.tables.bronze, files))
        self._clean = rows.clean
        self.cursor.register("clean", rows.clean)
        self.cursor.register("suspects", rows.suspects)

    def _make_survivors(self) -> None:
        latest = self.cursor.execute("from latest order by dt").to_arrow_table()
        is_whole = self.clean == "clean"
        clean = self._clean if is_whole else self.cursor.execute(f"from {self.clean}").to_arrow_table()
        self._survivors = _append(clean, latest)
        self.cursor.register("survivors", self._survivors)

    def _count_clean(self) -> dict[date, int]:
        counts: Any = pc.value_counts(self._clean.column("dt"))
        return {item["values"].as_py(): item["counts"].as_py() for item in counts}

    def _write_silver(self, days: Sequence[date], folder: Path, name: str) -> list[NewFile]:
        if not days:
            return []
        survivors = self._survivors
        if len(days) < len(self.days):
            survivors = survivors.filter(pc.field("dt").isin(list(days)))
        folder.mkdir(exist_ok=True)
        return write_partitions(self._enrich(survivors.select(self.inputs)), self.tables.silver, folder, name)

    def _enrich(self, valid: pa.Table) -> pa.Table:
        """Run the stream's silver SQL over these rows.

        DuckDB returns only the columns that the SQL computes. Those it passes through are here already, and taking them
        out of DuckDB again would cost more than all the rest.
        """
        sql = self.stream.sql("silver")
        wide = len(valid) >= MIN_ROWS_TO_PRUNE_COLUMNS
        passed = passed_through(sql, "valid", tuple(valid.column_names)) if wide else ()
        if not passed:
            self.cursor.register("valid", valid)
            return self.cursor.execute(sql).to_arrow_table()
        self.cursor.register("valid", valid.append_column(ROW_MARKER, pa.array(np.arange(len(valid)))))
        names = [name for name, _ in describe(self.cursor, sql)]
        select = ", ".join(quote(name) for name in names if name not in passed)
        computed = self.cursor.execute(f"select {select} from ({sql.strip().rstrip(';')}\n)").to_arrow_table()
        places = np.asarray(computed.column(ROW_MARKER))
        if len(places) != len(valid) or (places != np.arange(len(valid))).any():
            valid = valid.take(pa.array(places))
        columns: dict[str, Any] = {
            name: (valid if name in passed else computed).column(name) for name in names if name != ROW_MARKER
        }
        return pa.table(columns)


def _append(rows: pa.Table, more: pa.Table) -> pa.Table:
    """Append rows, cast to the first table's types."""
    return pa.concat_tables([rows, more.cast(rows.schema)]) if len(more) else rows
