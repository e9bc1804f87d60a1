"""Workbooks, Avro and ORC files, and tables at their current snapshot, have the rows that their makers see."""

import json
import shutil
import sys
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.orc
import pytest
from deltalake import DeltaTable, write_deltalake
from openpyxl import Workbook
from pyiceberg.catalog.sql import SqlCatalog

from lakehouse.contracts.odcs import load_contract
from lakehouse.landing.readers import bronze_batches, local_object
from lakehouse.landing.selection import select_files
from lakehouse_tests.pipeline.own import SHIPPED

AT = datetime(2025, 11, 20, 14, 15, 0, 123456, tzinfo=UTC)
EVENTS = [
    {"event_id": f"e{n}", "event_time": AT, "account_id": "17850", "amount": Decimal(f"{n}.50"), "currency": "EUR"}
    for n in range(1, 4)
]
_TYPES: list[Any] = [
    pa.field("event_id", pa.string()),
    pa.field("event_time", pa.timestamp("us", "UTC")),
    pa.field("account_id", pa.string()),
    pa.field("amount", pa.decimal128(18, 2)),
    pa.field("currency", pa.string()),
]
COLUMNS = pa.schema(_TYPES)
ROWS = pa.Table.from_pylist(EVENTS, COLUMNS)


def _avro(path: Path) -> Path:
    string: Mapping[str, str] = {"type": "string"}
    types: Mapping[str, Any] = {
        "event_time": {"type": "long", "logicalType": "timestamp-micros"},
        "amount": {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 2},
    }
    fields = [{"name": name, "type": ["null", types.get(name, string)]} for name in COLUMNS.names]
    with path.with_suffix(".avro").open("wb") as file:
        fastavro.writer(file, {"type": "record", "name": "event", "fields": fields}, EVENTS, codec="deflate")
    return path.with_suffix(".avro")


def _orc(path: Path) -> Path:
    pyarrow.orc.write_table(ROWS, path.with_suffix(".orc"))
    return path.with_suffix(".orc")


def _workbook(path: Path) -> Path:
    workbook = Workbook()
    sheet = workbook.active
    assert sheet is not None
    sheet.append(COLUMNS.names)
    for event in EVENTS:
        sheet.append([event[name] if name != "event_time" else AT.replace(tzinfo=None) for name in COLUMNS.names])
    workbook.create_sheet("empty")
    workbook.save(path.with_suffix(".xlsx"))
    return path.with_suffix(".xlsx")


def _delta(path: Path) -> Path:
    write_deltalake(path, pa.concat_tables([ROWS, ROWS.slice(0, 1).set_column(0, "event_id", pa.array(["deleted"]))]))
    DeltaTable(path).delete("event_id = 'deleted'")
    return path


def _iceberg(path: Path) -> Path:
    """Make a table that has deleted a row and renamed a column, and copy its folder."""
    place = path.with_name("warehouse")
    place.mkdir()
    catalog = SqlCatalog("c", uri=f"sqlite:///{place}/c.db", warehouse=f"file://{place}")
    catalog.create_namespace("n")
    named_before = ROWS.rename_columns(["id_before", *COLUMNS.names[1:]])
    table = catalog.create_table("n.t", named_before.schema)
    table.append(
        pa.concat_tables([named_before, named_before.slice(0, 1).set_column(0, "id_before", pa.array(["deleted"]))])
    )
    table.delete("id_before == 'deleted'")
    with table.update_schema() as change:
        change.rename_column("id_before", "event_id")
    catalog.close()
    shutil.copytree(Path(table.location().removeprefix("file://")), path)
    shutil.rmtree(place)
    return path


@pytest.mark.parametrize("make", [_avro, _orc, _workbook, _delta, _iceberg])
def test_opened_rows_are_those_of_the_maker(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / "events")
    selected = select_files([path], tmp_path / "scratch")
    assert (selected.refused, selected.left_out, len(selected.files)) == ([], [], 1)
    assert selected.display(selected.files[0]).startswith(f"{path}/")
    rows = pa.Table.from_batches(
        bronze_batches(load_contract(SHIPPED / "financial"), [local_object(file) for file in selected.files])
    )
    assert rows["_defect"].null_count == len(EVENTS), rows["_defect"]
    ordered = rows.sort_by("event_id")
    assert ordered["event_id"].to_pylist() == [event["event_id"] for event in EVENTS]
    assert ordered["account_id"].to_pylist() == ["17850"] * len(EVENTS)
    assert [Decimal(str(text)) for text in ordered["amount"].to_pylist()] == [event["amount"] for event in EVENTS]
    times = [datetime.fromisoformat(str(text)) for text in ordered["event_time"].to_pylist()]
    assert {at.replace(tzinfo=UTC, microsecond=0) for at in times} == {AT.replace(microsecond=0)}


def _zip(path: Path) -> Path:
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        archive.writestr(f"{path.name}.csv", "event_id,currency\n1,EUR\n")
    return path.with_suffix(".zip")


@pytest.mark.parametrize("padding", [b"", b"\0\0\n"], ids=["nothing between", "padding"])
@pytest.mark.parametrize("make", [_avro, _orc, _workbook, _zip])
def test_files_one_behind_the_other_are_refused(tmp_path: Path, make: Callable[[Path], Path], padding: bytes) -> None:
    # The library of each format but Avro reads the last file alone.
    first, last = make(tmp_path / "first").read_bytes(), make(tmp_path / "last")
    last.write_bytes(first + padding + last.read_bytes())
    selected = select_files([last], tmp_path / "scratch")
    assert (selected.files, len(selected.refused)) == ([], 1)


def test_zip_archive_with_more_than_padding_behind_it_is_refused(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a")
    with zipfile.ZipFile(archive, "a") as content:
        content.comment = b"its own comment"
    archive.write_bytes(archive.read_bytes() + b"\r\n\0")
    assert len(select_files([archive], tmp_path / "padded").files) == 1
    archive.write_bytes(archive.read_bytes() + b"event_id\n2\n")
    assert "something follows its end" in select_files([archive], tmp_path / "followed").refused[0].reason


def test_workbook_cells_are_written_as_they_are_shown(tmp_path: Path) -> None:
    workbook = Workbook()
    sheet = workbook.active
    assert sheet is not None
    sheet.append([22633, 0.1, True, date(2025, 1, 2), None, "a,b", 1e300])
    workbook.save(tmp_path / "a.xlsx")
    (file,) = select_files([tmp_path / "a.xlsx"], tmp_path / "scratch").files
    cells = file.read_text().strip().replace('"a,b"', "text").split(",")
    assert cells[:6] == ["22633", "0.1", "true", "2025-01-02", "", "text"]
    assert float(cells[6]) == 1e300


def test_file_whose_library_is_missing_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _avro(tmp_path / "events")
    monkeypatch.setitem(sys.modules, "fastavro", None)
    (refused,) = select_files([path], tmp_path / "scratch").refused
    assert "it is an Avro file" in refused.reason
    assert "pip install 'lakehouse[formats]'" in refused.reason


def test_delta_table_with_mapped_columns_is_refused(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "events", ROWS)
    log = tmp_path / "events" / "_delta_log" / f"{0:020}.json"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if "metaData" in line:
            line["metaData"]["configuration"]["delta.columnMapping.mode"] = "name"
    log.write_text("\n".join(map(json.dumps, lines)))
    selected = select_files([tmp_path / "events"], tmp_path / "scratch")
    assert selected.files == []
    assert "it is a Delta table" in selected.refused[0].reason
