"""Clean a group of days in memory, as Arrow tables; see `fast_path` for how its clean rows are found."""

from collections.abc import Sequence
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.engine.partition_writer import write_partitions
from lakehouse.engine.reader import read_files
from lakehouse.pipeline.day_groups import DayGroup
from lakehouse.pipeline.enrichment import enrich
from lakehouse.pipeline.fast_path import split_rows
from lakehouse.storage.iceberg.partitions import NewFile


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
        rows = enrich(self.cursor, self.stream.sql("silver"), survivors.select(self.inputs), self.passed)
        return write_partitions(rows, self.tables.silver, folder, name)


def _append(rows: pa.Table, more: pa.Table) -> pa.Table:
    """Append rows, cast to the first table's types."""
    return pa.concat_tables([rows, more.cast(rows.schema)]) if len(more) else rows
