"""LakehouseCatalog: what it adds to the wrapped catalog, and that tables keep using it."""

from itertools import count
from pathlib import Path

import pytest
from pyiceberg.table import Table

from lakehouse.errors import StorageUnavailableError
from lakehouse.storage.iceberg.catalog import LakehouseCatalog, qualified_name
from lakehouse.storage.iceberg.change_marks import ChangeMarks
from lakehouse.storage.iceberg.schema import TableSpec
from lakehouse.storage.iceberg.tables import Tables
from lakehouse.storage.objects.connection import Connection

_numbers = count()


@pytest.fixture
def name() -> str:
    return f"gold.catalog_{next(_numbers)}"


@pytest.fixture
def marks(tmp_path: Path) -> ChangeMarks:
    return ChangeMarks(tmp_path)


def _create(tables: Tables, name: str) -> Table:
    tables.ensure([TableSpec(name, (("dt", "DATE"),), ("dt",))])
    return tables.load(name)


def _set_property(table: Table, value: str) -> None:
    with table.transaction() as transaction:
        transaction.set_properties({"note": value})


def test_creation_and_each_commit_are_marked(connection: Connection, name: str, marks: ChangeMarks) -> None:
    table = _create(Tables(connection, marks=marks), name)
    assert qualified_name(table) == name
    assert marks.poll() == {name}
    _set_property(table, "first")
    assert marks.poll() == {name}
    _set_property(table.refresh(), "second")
    assert marks.poll() == {name}


def test_failed_commit_is_marked_too(connection: Connection, name: str, marks: ChangeMarks) -> None:
    tables = Tables(connection, marks=marks)
    table = _create(tables, name)
    marks.poll()
    transaction = table.transaction()
    transaction.set_properties({"note": "late"})
    tables.catalog.drop_table(name)
    with pytest.raises(StorageUnavailableError):
        transaction.commit_transaction()
    assert marks.poll() == {name}


@pytest.mark.parametrize("metadata_only", [False, True])
def test_loaded_and_refreshed_tables_use_our_catalog(connection: Connection, name: str, metadata_only: bool) -> None:
    _create(Tables(connection), name)
    tables = Tables(connection, metadata_only=metadata_only)
    table = tables.load(name)
    files = type(table.io)
    for loaded in (table, table.refresh()):
        assert isinstance(loaded.catalog, LakehouseCatalog)
        assert loaded.catalog is tables.catalog
        assert type(loaded.io) is files


def test_unused_methods_are_not_implemented(connection: Connection, name: str) -> None:
    with pytest.raises(NotImplementedError):
        Tables(connection).catalog.rename_table(name, f"{name}_renamed")
