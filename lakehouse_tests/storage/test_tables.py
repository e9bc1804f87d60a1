"""Tables: created once, evolved in place, and left unchanged if a change can't be made in place."""

from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
from pyiceberg.types import DateType, DecimalType, DoubleType, IcebergType, ListType, LongType, MapType, StringType

from lakehouse.errors import LakehouseError, SchemaChangeError
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.schema import TableSpec, apply_change, field_ids, iceberg_schema, iceberg_type
from lakehouse.storage.iceberg.tables import NAMESPACES, Tables
from lakehouse.storage.objects.connection import Connection

_numbers = count()


@pytest.fixture
def name() -> str:
    return f"gold.tables_{next(_numbers)}"


@pytest.fixture
def tables(connection: Connection) -> Tables:
    return Tables(connection)


def _spec(name: str, *columns: tuple[str, str], by: tuple[str, ...] = ("dt",)) -> TableSpec:
    return TableSpec(name, (("dt", "DATE"), *columns), by, {"n": "How many."})


def test_table_is_created_once_as_specified(tables: Tables, name: str) -> None:
    spec = _spec(name, ("n", "BIGINT"), ("words", "VARCHAR[]"), ("by", "MAP(VARCHAR, VARCHAR)"))
    assert tables.exists(name) is False
    assert tables.ensure([spec]) == [f"{name}: created"]
    assert tables.ensure([spec]) == []
    assert tables.exists(name) is True
    assert name in tables.names()
    table = tables.load(name)
    assert [(f.name, str(f.field_type), f.required, f.doc) for f in table.schema().fields] == [
        ("dt", "date", False, None),
        ("n", "long", False, "How many."),
        ("words", "list<string>", False, None),
        ("by", "map<string, string>", False, None),
    ]
    ids = field_ids(table.schema())
    assert list(ids) == ["dt", "n", "words", "by"]
    nested = [*ids["words"].values(), *ids["by"].values()]
    assert sorted([ids["dt"], ids["n"], *nested]) == [1, 2, 3, 4, 5, 6, 7], "ids are unique, nested ones too"
    assert [(f.name, str(f.transform)) for f in table.spec().fields] == [("dt", "identity")]
    assert table.properties["write.parquet.compression-codec"] == "zstd"
    assert {namespace for (namespace,) in tables.catalog.list_namespaces()} >= set(NAMESPACES)


def test_concurrent_creators_leave_one_table(connection: Connection, name: str) -> None:
    spec = _spec(name, ("n", "BIGINT"))
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: Tables(connection).ensure([spec]), range(3)))
    # SeaweedFS may report success to all of them, and keeps one empty table.
    assert [f"{name}: created"] in done
    tables = [Tables(connection) for _ in range(2)]
    assert [each.ensure([spec]) for each in tables] == [[], []]
    assert len({each.load(name).metadata_location for each in tables}) == 1
    with tables[0].load(name).transaction() as change:
        change.set_properties({"seen": "1"})
    assert tables[1].load(name).properties["seen"] == "1"


def test_columns_are_added_at_the_end_with_new_ids(tables: Tables, name: str) -> None:
    tables.ensure([_spec(name, ("n", "BIGINT"))])
    assert tables.ensure([_spec(name, ("word", "VARCHAR"), ("n", "BIGINT"), ("x", "DOUBLE"))]) == [
        f"{name}: added word, added x"
    ]
    assert [(f.name, f.field_id) for f in tables.load(name).schema().fields] == [
        ("dt", 1),
        ("n", 2),
        ("word", 3),
        ("x", 4),
    ]


class Killed(BaseException):
    """A crash: derived from BaseException, so that no code of ours catches it."""


def test_crash_between_two_tables_is_completed_by_next_call(
    connection: Connection, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{name}_{letter}" for letter in "abc"]
    narrow = [_spec(table_name, ("n", "BIGINT")) for table_name in names]
    wide = [_spec(table_name, ("n", "BIGINT"), ("x", "DOUBLE")) for table_name in names]
    tables = Tables(connection)
    create, evolve = tables.catalog.create_table, apply_change

    def create_or_crash(identifier: str, *arguments: Any, **options: Any) -> Any:
        if identifier == names[1]:
            raise Killed
        return create(identifier, *arguments, **options)

    def evolve_or_crash(table: Any, change: Any) -> None:
        if qualified_name(table) == names[1]:
            raise Killed
        evolve(table, change)

    monkeypatch.setattr(tables.catalog, "create_table", create_or_crash)
    with pytest.raises(Killed):
        tables.ensure(narrow)
    assert Tables(connection).ensure(narrow) == [f"{table_name}: created" for table_name in names[1:]]
    monkeypatch.setattr("lakehouse.storage.iceberg.tables.apply_change", evolve_or_crash)
    with pytest.raises(Killed):
        Tables(connection).ensure(wide)
    monkeypatch.undo()
    assert Tables(connection).ensure(wide) == [f"{table_name}: added x" for table_name in names[1:]]
    assert Tables(connection).ensure(wide) == []


def test_impossible_change_of_one_table_changes_none(tables: Tables, name: str) -> None:
    other = f"{name}_other"
    before = [_spec(name, ("n", "BIGINT")), _spec(other, ("n", "BIGINT"))]
    tables.ensure(before)
    with pytest.raises(SchemaChangeError, match=other):
        tables.ensure([_spec(name, ("n", "BIGINT"), ("x", "DOUBLE")), _spec(other, ("n", "VARCHAR"))])
    assert tables.ensure(before) == [], "reverting the change finds the tables as they were"


def test_decimal_gains_digits_in_place(tables: Tables, name: str) -> None:
    tables.ensure([_spec(name, ("n", "DECIMAL(9,2)"))])
    assert tables.ensure([_spec(name, ("n", "DECIMAL(18,2)"))]) == [f"{name}: widened n to decimal(18, 2)"]
    assert tables.load(name).schema().find_field("n").field_type == DecimalType(18, 2)


@pytest.mark.parametrize(
    ("columns", "by", "message"),
    [
        ([("m", "BIGINT")], ("dt",), "column n is gone from its contract or SQL"),
        ([("n", "VARCHAR")], ("dt",), r"n: decimal\(18, 2\) can't become string in place"),
        ([("n", "DECIMAL(9,2)")], ("dt",), r"n: decimal\(18, 2\) can't become decimal\(9, 2\) in place"),
        ([("n", "DECIMAL(20,4)")], ("dt",), r"n: decimal\(18, 2\) can't become decimal\(20, 4\) in place"),
        ([("n", "DECIMAL(18,2)")], (), r"is partitioned by \('dt',\), not by \(\); make a new table"),
    ],
)
def test_other_schema_change_raises_and_changes_nothing(
    tables: Tables, name: str, columns: list[tuple[str, str]], by: tuple[str, ...], message: str
) -> None:
    tables.ensure([_spec(name, ("n", "DECIMAL(18,2)"))])
    before = tables.load(name).metadata_location
    with pytest.raises(SchemaChangeError, match=f"^{name}.*{message}"):
        tables.ensure([_spec(name, *columns, by=by)])
    assert tables.load(name).metadata_location == before


def test_missing_table_names_the_command_that_creates_it(tables: Tables) -> None:
    with pytest.raises(
        LakehouseError, match=r"There is no table gold\.never; `lakehouse bootstrap` creates missing tables"
    ):
        tables.load("gold.never")


@pytest.mark.parametrize(
    ("sql_type", "expected"),
    [
        ("varchar", StringType()),
        ("INTEGER", LongType()),
        ("double", DoubleType()),
        ("date", DateType()),
        ("DECIMAL(18, 3)", DecimalType(18, 3)),
    ],
)
def test_sql_type_converts_to_iceberg_type(sql_type: str, expected: IcebergType) -> None:
    assert iceberg_type(sql_type) == expected


@pytest.mark.parametrize("sql_type", ["interval", "struct(a integer)", "hugeint", "bigint[]", "time", "float"])
def test_unsupported_type_lists_the_supported_ones(sql_type: str) -> None:
    with pytest.raises(
        LakehouseError, match=r"gold\.x\.c: type .* can't be stored in a table; cast to one of varchar, bigint"
    ):
        iceberg_schema(TableSpec("gold.x", (("c", sql_type),), ()))


def test_nested_types_have_unique_ids() -> None:
    schema = iceberg_schema(TableSpec("gold.x", (("a", "VARCHAR[]"), ("b", "MAP(VARCHAR, VARCHAR)")), ()))
    assert isinstance(schema.find_field("a").field_type, ListType)
    assert isinstance(schema.find_field("b").field_type, MapType)
    assert sorted(schema._lazy_id_to_field) == [1, 2, 3, 4, 5]
