"""Tables are made once, grow in place, and refuse what they can't follow, leaving all as it was."""

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


def test_a_table_is_made_once_as_it_was_specified(tables: Tables, name: str) -> None:
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
    assert sorted([ids["dt"], ids["n"], *nested]) == [1, 2, 3, 4, 5, 6, 7], "each has an id of its own, nested ones too"
    assert [(f.name, str(f.transform)) for f in table.spec().fields] == [("dt", "identity")]
    assert table.properties["write.parquet.compression-codec"] == "zstd"
    assert {namespace for (namespace,) in tables.catalog.list_namespaces()} >= set(NAMESPACES)


def test_makers_who_meet_make_one_table(connection: Connection, name: str) -> None:
    spec = _spec(name, ("n", "BIGINT"))
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: Tables(connection).ensure([spec]), range(3)))
    # SeaweedFS lets makers of the same moment all succeed; what is left is one empty table.
    assert [f"{name}: created"] in done
    tables = [Tables(connection) for _ in range(2)]
    assert [one.ensure([spec]) for one in tables] == [[], []]
    assert len({one.load(name).metadata_location for one in tables}) == 1
    with tables[0].load(name).transaction() as change:
        change.set_properties({"seen": "1"})
    assert tables[1].load(name).properties["seen"] == "1"


def test_columns_are_added_at_the_end_and_keep_their_ids(tables: Tables, name: str) -> None:
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
    """As a signal ends a process: nothing of ours catches it."""


def test_what_was_broken_off_between_two_tables_is_finished_by_the_next(
    connection: Connection, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{name}_{letter}" for letter in "abc"]
    narrow = [_spec(one, ("n", "BIGINT")) for one in names]
    wide = [_spec(one, ("n", "BIGINT"), ("x", "DOUBLE")) for one in names]
    tables = Tables(connection)
    make, evolve = tables.catalog.create_table, apply_change

    def make_but_the_second(identifier: str, *arguments: Any, **more: Any) -> Any:
        if identifier == names[1]:
            raise Killed
        return make(identifier, *arguments, **more)

    def evolve_but_the_second(table: Any, change: Any) -> None:
        if qualified_name(table) == names[1]:
            raise Killed
        evolve(table, change)

    monkeypatch.setattr(tables.catalog, "create_table", make_but_the_second)
    with pytest.raises(Killed):
        tables.ensure(narrow)
    assert Tables(connection).ensure(narrow) == [f"{one}: created" for one in names[1:]]
    monkeypatch.setattr("lakehouse.storage.iceberg.tables.apply_change", evolve_but_the_second)
    with pytest.raises(Killed):
        Tables(connection).ensure(wide)
    monkeypatch.undo()
    assert Tables(connection).ensure(wide) == [f"{one}: added x" for one in names[1:]]
    assert Tables(connection).ensure(wide) == []


def test_a_change_that_one_table_refuses_changes_none(tables: Tables, name: str) -> None:
    other = f"{name}_other"
    before = [_spec(name, ("n", "BIGINT")), _spec(other, ("n", "BIGINT"))]
    tables.ensure(before)
    with pytest.raises(SchemaChangeError, match=other):
        tables.ensure([_spec(name, ("n", "BIGINT"), ("x", "DOUBLE")), _spec(other, ("n", "VARCHAR"))])
    assert tables.ensure(before) == [], "who takes the change back has what was there"


def test_a_decimal_gains_digits_in_place(tables: Tables, name: str) -> None:
    tables.ensure([_spec(name, ("n", "DECIMAL(9,2)"))])
    assert tables.ensure([_spec(name, ("n", "DECIMAL(18,2)"))]) == [f"{name}: widened n to decimal(18, 2)"]
    assert tables.load(name).schema().find_field("n").field_type == DecimalType(18, 2)


@pytest.mark.parametrize(
    ("columns", "by", "said"),
    [
        ([("m", "BIGINT")], ("dt",), "column n is gone from its contract or SQL"),
        ([("n", "VARCHAR")], ("dt",), r"n: decimal\(18, 2\) can't become string in place"),
        ([("n", "DECIMAL(9,2)")], ("dt",), r"n: decimal\(18, 2\) can't become decimal\(9, 2\) in place"),
        ([("n", "DECIMAL(20,4)")], ("dt",), r"n: decimal\(18, 2\) can't become decimal\(20, 4\) in place"),
        ([("n", "DECIMAL(18,2)")], (), r"is partitioned by \('dt',\), not by \(\); make a new table"),
    ],
)
def test_any_other_change_is_refused(
    tables: Tables, name: str, columns: list[tuple[str, str]], by: tuple[str, ...], said: str
) -> None:
    tables.ensure([_spec(name, ("n", "DECIMAL(18,2)"))])
    before = tables.load(name).metadata_location
    with pytest.raises(SchemaChangeError, match=f"^{name}.*{said}"):
        tables.ensure([_spec(name, *columns, by=by)])
    assert tables.load(name).metadata_location == before


def test_a_missing_table_is_said_with_what_makes_it(tables: Tables) -> None:
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
def test_a_sql_type_has_its_iceberg_type(sql_type: str, expected: IcebergType) -> None:
    assert iceberg_type(sql_type) == expected


@pytest.mark.parametrize("sql_type", ["interval", "struct(a integer)", "hugeint", "bigint[]", "time", "float"])
def test_a_type_that_is_not_kept_is_refused_with_those_that_are(sql_type: str) -> None:
    with pytest.raises(
        LakehouseError, match=r"gold\.x\.c: type .* can't be stored in a table; cast to one of varchar, bigint"
    ):
        iceberg_schema(TableSpec("gold.x", (("c", sql_type),), ()))


def test_nested_types_have_ids_of_their_own() -> None:
    schema = iceberg_schema(TableSpec("gold.x", (("a", "VARCHAR[]"), ("b", "MAP(VARCHAR, VARCHAR)")), ()))
    assert isinstance(schema.find_field("a").field_type, ListType)
    assert isinstance(schema.find_field("b").field_type, MapType)
    assert sorted(schema._lazy_id_to_field) == [1, 2, 3, 4, 5]
