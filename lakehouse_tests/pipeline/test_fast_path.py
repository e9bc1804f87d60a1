"""Clean rows are exactly those that the contract's SQL accepts row by row, however their texts are stored."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lakehouse.contracts.model import Contract, Field, FieldType
from lakehouse.contracts.sql import BRONZE_COLUMNS, clean_sql, quote
from lakehouse.pipeline.fast_path import split_rows
from lakehouse_tests.nightly import more_at_night

ARRIVED = datetime(2025, 11, 20, 14, 15)
DAY = ARRIVED.date()
CONTRACT = Contract(
    stream="trips",
    version="1",
    description="",
    owner="",
    event_time="at",
    history_start=date(2020, 1, 1),
    fields=(
        Field("id", FieldType("string"), "id", required=True, key=True, max_length=4),
        Field("at", FieldType("timestamp"), "at", required=True),
        Field("leg", FieldType("integer"), "leg", key=True, minimum=Decimal(1)),
        Field("share", FieldType("double"), "share", key=True),
        Field("fare", FieldType("decimal", 18, 2), "fare", exclusive_minimum=Decimal(0)),
        Field("paid", FieldType("boolean"), "paid"),
        Field("stops", FieldType("list"), "stops"),
        Field("kind", FieldType("string"), "kind", enum=("day", "night")),
    ),
)
NAMES = [field.name for field in CONTRACT.fields]
TEXTS = {
    "id": ("a", "b", "", None, "abcde", "é"),
    "at": ("2025-11-20T10:00:00Z", "2025-11-20", "2025-11-21T14:15:00Z", "2025-11-21T14:20:00Z", "soon", "", None),
    "leg": ("1", "1.0", "2", "0", "1.5", "", None),
    "share": ("0", "-0", "0.0", "1e3", "1000", "NaN", None),
    "fare": ("1.5", "1.50", "0", "1.555", "", None),
    "paid": ("true", "TRUE", "1", None),
    "stops": ('["x"]', "[ ]", "[1]", "[", "", None),
    "kind": ("day", "night", "noon", "", None),
}

Row = tuple[str | None, ...]

# Mostly the first text, so that some rows are valid in all fields.
FIELDS = st.tuples(
    *(
        st.one_of(st.sampled_from(TEXTS[name][:2]), st.sampled_from(TEXTS[name][:2]), st.sampled_from(TEXTS[name]))
        | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
        for name in NAMES
    )
)
DEFECTS = st.sampled_from((None, None, None, "not JSON"))
ROWS = st.lists(st.tuples(FIELDS, DEFECTS, st.integers(0, 10)), min_size=1, max_size=12)


def bronze(rows: Sequence[tuple[Row, str | None, int]], *, numbered: bool) -> pa.Table:
    """Build the rows as bronze holds them, in two pieces, each with its own dictionaries if `numbered`."""
    texts = pa.dictionary(pa.int32(), pa.string()) if numbered else pa.string()
    schema = pa.schema(
        [(name, texts) for name in (*NAMES, *BRONZE_COLUMNS[:4])]
        + [("_row", pa.int64()), ("_arrived_at", pa.timestamp("us")), ("dt", pa.date32())]
    )
    full = [
        (*fields, None, None, defect, "o", n, ARRIVED + timedelta(minutes=minutes), DAY)
        for n, (fields, defect, minutes) in enumerate(rows)
    ]
    half = len(full) // 2
    pieces = [
        pa.Table.from_arrays(
            [pa.array(column, kind.type) for column, kind in zip(zip(*part, strict=True), schema, strict=True)],
            schema=schema,
        )
        for part in (full[:half], full[half:])
        if part
    ]
    return pa.concat_tables(pieces)


def by_row(table: pa.Table) -> dict[int, dict[str, Any]]:
    return {row["_row"]: row for row in table.to_pylist()}


@pytest.fixture(scope="module")
def database() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": 1})


GOOD: Row = ("a", "2025-11-20T10:00:00Z", "1", "0", "1.5", "true", '["x"]', "day")


@settings(max_examples=more_at_night(30, 500), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
@example(rows=[(GOOD, None, 0)])
@example(rows=[(GOOD, None, 0), (("a", "2025-11-20", "1.0", "-0", None, None, None, None), None, 0)])
@example(rows=[(("a", "2025-11-21T14:20:00Z", *GOOD[2:]), None, 9), (GOOD, None, 0)])
@pytest.mark.parametrize("numbered", [True, False], ids=["dictionaries", "plain texts"])
def test_clean_rows_are_valid_and_have_unique_keys(
    database: duckdb.DuckDBPyConnection, numbered: bool, rows: list[tuple[Row, str | None, int]]
) -> None:
    table = bronze(rows, numbered=numbered)
    database.register("bronze", table)
    cleaned = by_row(database.execute(clean_sql(CONTRACT)).to_arrow_table())
    split = split_rows(database, CONTRACT, table)

    assert by_row(split.clean).keys() | by_row(split.suspects).keys() == cleaned.keys()
    assert len(split.clean) + len(split.suspects) == len(rows)
    assert by_row(split.suspects) == {n: row for n, row in by_row(table).items() if n in by_row(split.suspects)}
    for n, row in by_row(split.clean).items():
        assert row | {"_valid": True} == cleaned[n]
    keys = ", ".join(map(quote, CONTRACT.key))
    places = database.execute(
        f"select dense_rank() over (order by {keys}), _row from ({clean_sql(CONTRACT)})"
    ).fetchall()
    key_of = {n: key for key, n in places}
    sharing = Counter(key_of.values())
    assert all(sharing[key_of[n]] == 1 for n in by_row(split.clean))
    # And few are suspected that need not be: whose time is only too late for who arrived before it.
    soonest = min(minutes for _, _, minutes in rows)
    for n, row in cleaned.items():
        late = row["at"] is not None and row["at"] > ARRIVED + timedelta(days=1, minutes=soonest)
        assert n in by_row(split.clean) or not row["_valid"] or late or sharing[key_of[n]] > 1


def test_rows_get_their_own_value_if_duckdb_reorders_texts() -> None:
    kinds = ("day", "night", "dawn", "dusk", "noon", "late")
    contract = replace(
        CONTRACT, fields=(*CONTRACT.fields[:-1], replace(CONTRACT.fields[-1], required=True, enum=kinds))
    )
    whole = ("2025-11-20", "1", "0", "1.5", "true", '["x"]')
    parts = [
        bronze(
            [((f"{part}{n}", *whole, None if n == part else kind), None, 0) for n, kind in enumerate(kinds)],
            numbered=True,
        )
        for part in range(6)
    ]
    with duckdb.connect(config={"threads": 4}) as database:
        for _ in range(more_at_night(30, 300)):
            sifted = split_rows(database.cursor(), contract, pa.concat_tables(parts))
            assert sifted.suspects.column("id").to_pylist() == [f"{n}{n}" for n in range(6)]
