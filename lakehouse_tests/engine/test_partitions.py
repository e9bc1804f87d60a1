"""Rows are read back as they were written, plain or dictionary-encoded, with the requested column bounds."""

from collections.abc import Mapping
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.table import Table

from lakehouse.engine.partition_writer import write_partitions
from lakehouse.engine.reader import DICTIONARY, read_files
from lakehouse.pipeline.lake import Lake
from lakehouse.storage.iceberg.commit import commit, upload
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import partitions_filter
from lakehouse.storage.iceberg.schema import TableSpec

DAYS = (date(2023, 1, 1), date(2023, 1, 2))
_numbers = count()


def made(lake: Lake, properties: Mapping[str, str] | None = None) -> Table:
    name = f"gold.partitions_{next(_numbers)}"
    columns = (("dt", "DATE"), ("word", "VARCHAR"), ("words", "VARCHAR[]"), ("_row", "BIGINT"))
    lake.tables.ensure([TableSpec(name, columns, ("dt",), properties=properties or {})])
    return lake.tables.load(name)


def some_rows(distinct: int, kind: pa.DataType, first: int, number: int = 300) -> pa.Table:
    """Make rows of two days, every seventh without a text."""
    numbers = range(first, first + number)
    return pa.table(
        {
            "dt": pa.array([DAYS[n // 100 % 2] for n in numbers]),
            "word": pa.array([None if n % 7 == 0 else f"é{n % distinct}" for n in numbers], kind),
            "words": pa.array([[f"{n}"] for n in numbers]),
            "_row": pa.array(numbers),
        }
    )


def by_row(rows: pa.Table) -> list[dict[str, Any]]:
    return sorted(rows.to_pylist(), key=lambda row: int(row["_row"]))


@pytest.mark.parametrize("distinct", [3, 250], ids=["few texts", "many texts"])
@pytest.mark.parametrize("kind", [pa.string(), DICTIONARY], ids=["plain", "numbered"])
def test_texts_are_read_back_plain_or_dictionary(
    shared_lake: Lake, tmp_path: Path, distinct: int, kind: pa.DataType
) -> None:
    table = made(shared_lake)
    rows = pa.concat_tables([some_rows(distinct, kind, 0), some_rows(distinct + 1, kind, 300)])
    files = write_partitions(rows, table, tmp_path, "w")
    assert sorted(file.partition for file in files) == [(day,) for day in DAYS]
    written = pa.concat_tables([pq.read_table(file.path) for file in files])
    assert by_row(written) == by_row(rows)

    added = upload(shared_lake.connection, table, files)
    commit(table, added, touched=partitions_filter("dt", DAYS), properties={})
    read = read_files(shared_lake.connection, table, select_files(table, partitions_filter("dt", DAYS)))
    assert by_row(read) == by_row(rows)
    assert read.column("word").type == (DICTIONARY if distinct == 3 else pa.string())


def test_bounds_cover_all_columns_or_those_the_table_names(shared_lake: Lake, tmp_path: Path) -> None:
    none = {"write.metadata.metrics.default": "none", "write.metadata.metrics.column._row": "full"}
    (tmp_path / "all").mkdir()
    (tmp_path / "some").mkdir()
    rows = some_rows(3, DICTIONARY, 0)
    assert bounded(write_partitions(rows, made(shared_lake), tmp_path / "all", "w")[0].path) == {
        "dt", "word", "words.list.element", "_row",
    }  # fmt: skip
    assert bounded(write_partitions(rows, made(shared_lake, none), tmp_path / "some", "w")[0].path) == {"_row"}


def bounded(path: Path) -> set[str]:
    group = pq.read_metadata(path).row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    return {column.path_in_schema for column in columns if column.is_stats_set}
