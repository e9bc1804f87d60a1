"""The contract's SQL turns each text into its exact value or a named breach, never into a near value."""
# ruff: noqa: E501  (a case is a line)

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from lakehouse.contracts.casts import field_value_sql, value_sql
from lakehouse.contracts.model import Contract, Field, FieldType
from lakehouse.contracts.sql import BRONZE_COLUMNS, clean_sql, day_sql, latest_sql, quarantine_sql, quote, raw_sql
from lakehouse.contracts.time_formats import read_time_format

ARRIVED = datetime(2025, 11, 20, 14, 15)


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as database:
        database.execute("set timezone = 'America/New_York'")
        yield database


def _value(database: duckdb.DuckDBPyConnection, kind: FieldType, text: str | None) -> Any:
    row = database.execute(f"select {value_sql(kind, 'text')} from (select ?::varchar as text)", [text]).fetchone()
    assert row is not None
    return row[0]


INTEGER, DOUBLE, BOOLEAN, TIME, LIST = (
    FieldType(kind) for kind in ("integer", "double", "boolean", "timestamp", "list")
)
MONEY, WHOLE, WIDE = FieldType("decimal", 18, 2), FieldType("decimal", 4, 0), FieldType("decimal", 38, 10)

VALUES: list[tuple[FieldType, str, Any]] = [
    (INTEGER, "0", 0),
    (INTEGER, "-0", 0),
    (INTEGER, "+7", 7),
    (INTEGER, "007", 7),
    (INTEGER, "17850.0", 17850),
    (INTEGER, "17850.", 17850),
    (INTEGER, "9223372036854775807", 2**63 - 1),
    (INTEGER, "9223372036854775807.000", 2**63 - 1),
    (INTEGER, "-9223372036854775808", -(2**63)),
    (INTEGER, "9007199254740993", 2**53 + 1),
    (INTEGER, "9007199254740993.0", 2**53 + 1),
    *[(INTEGER, text, 1) for text in ("1.0", "1.00", "1.0000", "01.000", "1.000e0")],
    (INTEGER, "0.000", 0),
    (INTEGER, "1000.000", 1000),
    (INTEGER, "1e3", 1000),
    (INTEGER, "1.0E3", 1000),
    (INTEGER, "-1200e-2", -12),
    (INTEGER, "9.223372036854775807E+18", 2**63 - 1),
    (INTEGER, "0e9999", 0),
    (DOUBLE, "1", 1.0),
    (DOUBLE, "1e00001", 10.0),
    (DOUBLE, "1e3", 1000.0),
    (DOUBLE, "-1.5E-3", -0.0015),
    (DOUBLE, ".5", 0.5),
    (DOUBLE, "5.", 5.0),
    (DOUBLE, "1.7976931348623157e308", 1.7976931348623157e308),
    (DOUBLE, "5e-324", 5e-324),
    (DOUBLE, "1e-400", 0.0),
    (MONEY, "12.5", Decimal("12.50")),
    (MONEY, "12.50000", Decimal("12.50")),
    (MONEY, "-.05", Decimal("-0.05")),
    (MONEY, "9999999999999999.99", Decimal("9999999999999999.99")),
    (MONEY, "0000000000000000000000001", Decimal("1.00")),
    (MONEY, "1.79E+3", Decimal("1790.00")),
    (MONEY, "1E+2", Decimal("100.00")),
    (MONEY, "1.25e7", Decimal("12500000.00")),
    (MONEY, "-12345e-2", Decimal("-123.45")),
    (MONEY, "50e-3", Decimal("0.05")),
    (MONEY, ".5e1", Decimal("5.00")),
    (MONEY, "0E-10", Decimal("0.00")),
    (MONEY, "1e00001", Decimal("10.00")),
    (WHOLE, "9999", Decimal(9999)),
    (WHOLE, "9999.0", Decimal(9999)),
    (WIDE, "9999999999999999999999999999.9999999999", Decimal("9999999999999999999999999999.9999999999")),
    (BOOLEAN, "true", True),
    (BOOLEAN, "False", False),
    (TIME, "2025-11-20", datetime(2025, 11, 20)),
    (TIME, "2025-11-20 14:15", datetime(2025, 11, 20, 14, 15)),
    (TIME, "2025-11-20T14:15:16", datetime(2025, 11, 20, 14, 15, 16)),
    (TIME, "2025-11-20T14:15:16Z", datetime(2025, 11, 20, 14, 15, 16)),
    (TIME, "2025-11-20T14:15:16.123456Z", datetime(2025, 11, 20, 14, 15, 16, 123456)),
    (TIME, "2025-11-20T14:15:16.000000000Z", datetime(2025, 11, 20, 14, 15, 16)),
    (TIME, "2025-11-20 14:15:16.123456000", datetime(2025, 11, 20, 14, 15, 16, 123456)),
    (TIME, "2025-11-20T14:15:16.500000000+02:00", datetime(2025, 11, 20, 12, 15, 16, 500000)),
    (TIME, "2025-11-20T14:15:16.5", datetime(2025, 11, 20, 14, 15, 16, 500000)),
    (TIME, "2025-11-20T14:15:16+02:00", datetime(2025, 11, 20, 12, 15, 16)),
    (TIME, "2025-11-20T14:15:16+0200", datetime(2025, 11, 20, 12, 15, 16)),
    (TIME, "2025-11-20T14:15:16-05", datetime(2025, 11, 20, 19, 15, 16)),
    (TIME, "2025-11-20T23:30:00-05:30", datetime(2025, 11, 21, 5)),
    (TIME, "2024-02-29T00:00:00Z", datetime(2024, 2, 29)),
    *[
        (TIME, text, datetime(2025, 11, 20, 14, 15, 16))
        for text in (
            "2025-11-20 14:15:16 UTC",
            "2025-11-20T14:15:16UTC",
            "2025-11-20 14:15:16.000000 GMT",
            "2025-11-20t14:15:16z",
            "2025-11-20T14:15:16,0Z",
            "2025-11-20 14:15:16,000000000",
            "20251120T141516Z",
            "20251120T141516",
            "20251120T194516+0530",
            "20251120 141516.000Z",
            "2025-11-20T19:45:16+05:30",
            "2025-11-20 19:45:16 +0530",
            "2025-11-20 19:45:16.000 +05:30",
            "2025-11-20 08:15:16 -06",
        )
    ],
    (TIME, "2025-11-20T14:15:16,123Z", datetime(2025, 11, 20, 14, 15, 16, 123000)),
    (TIME, "20251120T141516,123456000 UTC", datetime(2025, 11, 20, 14, 15, 16, 123456)),
    (TIME, "20251120T1415Z", datetime(2025, 11, 20, 14, 15)),
    (TIME, "2025-11-20 14:15 UTC", datetime(2025, 11, 20, 14, 15)),
    (TIME, "9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59)),
    (TIME, "0001-01-01T00:00:00Z", datetime(1, 1, 1)),
    # Clocks in New York skipped this hour. The database must not use the zone of the machine.
    (TIME, "2025-03-09T02:30:00", datetime(2025, 3, 9, 2, 30)),
    (TIME, "2025-03-09T02:30:00+00:00", datetime(2025, 3, 9, 2, 30)),
    (LIST, "[]", []),
    (LIST, '["a", "b\\"c", ""]', ["a", 'b"c', ""]),
    (LIST, '["1"]', ["1"]),
]

BREACHES: list[tuple[FieldType, str]] = [
    *[
        (INTEGER, text)
        for text in (
            "17850.5", "17850.01", "1e-1", "12.34e1", "1e", "1e19", "1e400", "0x10", "1_000", "1,000", " 1", "1 ", "--1", ".", ".0", "one", "NaN", "٣",
            "9223372036854775808", "-9223372036854775809", "99999999999999999999999999999999999999999999", "true", "\n1",
            "1.000", "-12.000", "+999.000",
        )
    ],
    *[
        (DOUBLE, text)
        for text in ("NaN", "nan", "inf", "-Infinity", "1e400", "-1e400", "1.7976931348623159e308", "e3", ".", "1e", "1e99999", "1,5", " 1", "0x1p3", "1d")
    ],
    *[
        (MONEY, text)
        for text in ("12.505", "0.001", "10000000000000000", "1e16", "1e-3", "1e-9999", "12,50", "NaN", "inf", "", " 1", "1.", "€1")
        if text not in ("", "1.")
    ],
    *[(WHOLE, text) for text in ("1.5", "10000", "1.05")],
    *[(WIDE, text) for text in ("1.00000000001", "10000000000000000000000000000")],
    *[(BOOLEAN, text) for text in ("1", "0", "t", "yes", "true ", "truee")],
    *[
        (TIME, text)
        for text in (
            "2025-11-20T24:00:00Z", "2025-11-20T23:60:00Z", "2025-11-20T23:59:60Z", "2025-02-29", "2025-13-01", "2025-11-31",
            "2025-11-20T14:15:16.1234567Z", "2025-11-20T14:15:16.Z", "2025-11-20T14Z", "2025-11-20T14:15:16 CET", "25-11-20",
            "20251120", "20251120T14", "20251120T246060Z", "20251320T000000Z", "20251120T1415:16Z", "2025-11-20 14:15:16  UTC",
            "2025-11-20T14:15:16,1234567Z", "2025-11-20T14:15:16Z+01:00", "20251120141516", "1763648116123",
            "20/11/2025", "1763648116", "0000-01-01T00:00:00Z", "10000-01-01", "-0001-01-01", "now",
            "infinity", "epoch", "2025-11-20T14:15:16+99:00", "2025-11-20T14:15:16+2", "2025-11-20Z", "2025-11-20 14:15:16  ",
            "2025-11-20 (BC)", "2025-W47-4",
        )
    ],
    *[
        (LIST, text)
        for text in ("[1]", '["a", null]', "[[]]", '[{"a": 1}]', '{"a": 1}', '"a"', "a", "[a]", "['a']", "[true]", "null", '["a"')
    ],
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "value"), [pytest.param(k, t, v, id=f"{k} {t}") for k, t, v in VALUES])
def test_text_is_cast_to_its_exact_value(
    database: duckdb.DuckDBPyConnection, kind: FieldType, text: str, value: Any
) -> None:
    cast = _value(database, kind, text)
    assert (type(cast), cast) == (type(value), value)


@pytest.mark.parametrize(("kind", "text"), [pytest.param(k, t, id=f"{k} {t!r}") for k, t in BREACHES])
def test_invalid_text_is_cast_to_null(database: duckdb.DuckDBPyConnection, kind: FieldType, text: str) -> None:
    assert _value(database, kind, text) is None


EPOCHS: list[tuple[str, datetime | None]] = [
    ("1763648116", datetime(2025, 11, 20, 14, 15, 16)),
    ("1763648116.0", datetime(2025, 11, 20, 14, 15, 16)),
    ("1763648116.25", datetime(2025, 11, 20, 14, 15, 16, 250000)),
    ("1763648116.123456000", datetime(2025, 11, 20, 14, 15, 16, 123456)),
    ("1.763648116e9", datetime(2025, 11, 20, 14, 15, 16)),
    ("1763648116123", datetime(2025, 11, 20, 14, 15, 16, 123000)),
    ("1.763648116123E12", datetime(2025, 11, 20, 14, 15, 16, 123000)),
    ("1763648116123.456", datetime(2025, 11, 20, 14, 15, 16, 123456)),
    ("1763648116123456", datetime(2025, 11, 20, 14, 15, 16, 123456)),
    ("1763648116123456000", datetime(2025, 11, 20, 14, 15, 16, 123456)),
    ("1763648116123456789", None),
    ("1763648116.1234567", None),
    ("-1763648116", None),
    ("0176364811", None),
    ("176364811", None),
    ("17636481161", None),
    ("20251120141516", None),
]


@pytest.mark.parametrize(("text", "value"), EPOCHS)
def test_event_time_is_read_as_epoch_if_its_digits_tell_the_unit(
    database: duckdb.DuckDBPyConnection, text: str, value: datetime | None
) -> None:
    def event_time(contract: Contract) -> Any:
        sql = field_value_sql(contract, contract.field("at"), "text")
        row = database.execute(f"select {sql} from (select ?::varchar as text)", [text]).fetchone()
        return row and row[0]

    assert event_time(CONTRACT) == value
    # In a history that starts earlier, another unit could give a time of it as well.
    assert event_time(replace(CONTRACT, history_start=date(2001, 9, 9))) is None


FORMATS: list[tuple[str, list[str], str | None, datetime | None]] = [
    ("20/11/2026 10:00", ["dd/MM/yyyy HH:mm"], None, datetime(2026, 11, 20, 10)),
    ("20/11/26 10:00", ["dd/MM/yyyy HH:mm"], None, None),
    ("20/13/2026 10:00", ["dd/MM/yyyy HH:mm"], None, None),
    ("1/2/26", ["dd/MM/yyyy HH:mm", "d/M/yy"], None, datetime(2026, 2, 1)),
    ("20.11.2026 um 10", ["dd.MM.yyyy 'um' HH"], None, datetime(2026, 11, 20, 10)),
    ("Fri, 02 Jan 2026 10:00:00 +0100", ["EEE, dd MMM yyyy HH:mm:ss XX"], None, datetime(2026, 1, 2, 9)),
    ("11/20/2026 1:05 PM", ["%m/%d/%Y %-I:%M %p"], "America/New_York", datetime(2026, 11, 20, 18, 5)),
    ("2026-11-20T10:00:00", ["dd/MM/yyyy"], "Europe/Berlin", datetime(2026, 11, 20, 9)),
    ("2026-11-20T10:00:00Z", [], "Europe/Berlin", datetime(2026, 11, 20, 10)),
    ("2026-11-20 10:00:00 +0500", [], "Europe/Berlin", datetime(2026, 11, 20, 5)),
    ("2026-11-20 10:00+05:00", [], None, datetime(2026, 11, 20, 5)),
    ("2026-07-01", [], "Europe/Berlin", datetime(2026, 6, 30, 22)),
    ("2026-03-29 02:30", [], "Europe/Berlin", None),
    ("2026-10-25 02:30", [], "Europe/Berlin", None),
    ("2026-10-25 02:30 UTC", [], "Europe/Berlin", datetime(2026, 10, 25, 2, 30)),
    ("1763648116123", ["epoch ms"], None, datetime(2025, 11, 20, 14, 15, 16, 123000)),
    ("-1000", ["epoch ms"], None, datetime(1969, 12, 31, 23, 59, 59)),
    ("1.763648116E9", ["epoch s"], "Europe/Berlin", datetime(2025, 11, 20, 14, 15, 16)),
    ("1763648116.1234567", ["epoch s"], None, None),
    ("99999999999999999", ["epoch s"], None, None),
    ("1763648116000000123", ["epoch ns"], None, None),
]


@pytest.mark.parametrize(("text", "formats", "zone", "value"), FORMATS)
def test_time_is_read_in_declared_format_and_zone(
    database: duckdb.DuckDBPyConnection, text: str, formats: list[str], zone: str | None, value: datetime | None
) -> None:
    field = Field("seen", TIME, "seen", format=tuple(map(read_time_format, formats)), default_timezone=zone)
    sql = field_value_sql(CONTRACT, field, "text")
    assert database.execute(f"select {sql} from (select ?::varchar as text)", [text]).fetchall() == [(value,)]


CONTRACT = Contract(
    stream="trips",
    version="1",
    description="",
    owner="",
    event_time="at",
    history_start=date(2020, 1, 1),
    fields=(
        Field("id", FieldType("string"), "id", required=True, key=True),
        Field("at", TIME, "At", required=True),
        Field("leg", INTEGER, "leg", key=True, minimum=Decimal(1), maximum=Decimal(9)),
        Field("fare", MONEY, "fare", exclusive_minimum=Decimal(0), exclusive_maximum=Decimal(500)),
        Field("share", DOUBLE, "share"),
        Field("paid", BOOLEAN, "paid"),
        Field("stops", LIST, "stops"),
        Field("kind", FieldType("string"), "kind", enum=("day", "night")),
        Field("plate", FieldType("string"), "plate", pattern="^[A-Z]+$", min_length=2, max_length=4),
    ),
)
GOOD = {"id": "t1", "at": "2025-11-20T10:00:00Z"}

Clean = Callable[..., tuple[list[dict[str, Any]], list[dict[str, Any]]]]


@pytest.fixture
def clean(database: duckdb.DuckDBPyConnection) -> Clean:
    """Run the contract's SQL over rows of texts. Return all rows typed, and the rows of quarantine."""

    def clean(*rows: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        names = [*(f.name for f in CONTRACT.fields), *BRONZE_COLUMNS]
        full = [{"_object": "o", "_row": n, "_arrived_at": ARRIVED, **row} for n, row in enumerate(rows)]
        types = {"_row": "bigint", "_arrived_at": "timestamp"}
        columns = ", ".join(f"{quote(name)} {types.get(name, 'varchar')}" for name in names)
        database.execute(f"create or replace temp table chunk ({columns})")
        marks = ", ".join("?" * len(names))
        database.executemany(f"insert into chunk values ({marks})", [[row.get(n) for n in names] for row in full])
        database.execute(
            f"create or replace temp view bronze as select *, {day_sql(CONTRACT, 'chunk')} as dt from chunk"
        )
        return (
            _dicts(database.execute(f"{clean_sql(CONTRACT)} order by _row")),
            _dicts(database.execute(f"{quarantine_sql(CONTRACT)} order by _row")),
        )

    return clean


def _dicts(result: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    names = [column[0] for column in result.description or []]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def test_valid_row_is_typed_and_not_quarantined(clean: Clean) -> None:
    rows, broken = clean(
        GOOD
        | {"leg": "2.0", "fare": "1.5", "share": "1e1", "paid": "TRUE", "stops": '["x"]', "kind": "day", "plate": "AB"}
    )
    assert broken == []
    assert rows == [
        {
            "id": "t1", "at": datetime(2025, 11, 20, 10), "leg": 2, "fare": Decimal("1.50"), "share": 10.0, "paid": True,
            "stops": ["x"], "kind": "day", "plate": "AB", "dt": date(2025, 11, 20), "_arrived_at": ARRIVED, "_object": "o",
            "_row": 0, "_valid": True,
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "reasons"),
    [
        ({"id": None}, ["id is missing"]),
        ({"id": ""}, ["id is missing"]),
        ({"at": None}, ["at is missing"]),
        ({"at": "soon"}, ["at is not a time such as 2025-11-20T14:15:00Z (ISO 8601, at most 6 decimals of a second)"]),
        ({"at": "2019-12-31T23:59:59Z"}, ["at lies before 2020-01-01, where the history starts"]),
        ({"at": "9999-12-31T00:00:00Z"}, ["at lies more than a day after arrival"]),
        ({"at": "2025-11-21T14:15:00.000001Z"}, ["at lies more than a day after arrival"]),
        ({"leg": "17850.5"}, ["leg is not an integer of 64 bits"]),
        (
            {"leg": "1.000"},
            [
                "leg is not an integer of 64 bits: its point may mark thousands, so write 1 as 1 and 1000 as 1000, or declare the decimal mark"
            ],
        ),
        (
            {"at": "20/11/2025 10:00"},
            [
                "at is not a time such as 2025-11-20T14:15:00Z (ISO 8601, at most 6 decimals of a second): "
                "declare its `format` in the contract"
            ],
        ),
        ({"leg": "0"}, ["leg is below 1"]),
        ({"leg": "10"}, ["leg is above 9"]),
        ({"fare": "0"}, ["fare is not above 0"]),
        ({"fare": "500.00"}, ["fare is not below 500"]),
        ({"fare": "1.005"}, ["fare is not a decimal of at most 18 digits, 2 after the point"]),
        ({"share": "NaN"}, ["share is not a finite number"]),
        ({"paid": "1"}, ["paid is not true or false"]),
        ({"stops": "[1]"}, ["stops is not a list of texts"]),
        ({"kind": "Day"}, ["kind is none of day, night"]),
        ({"plate": "A"}, ["plate is shorter than 2"]),
        ({"plate": "ABCDE"}, ["plate is longer than 4 characters"]),
        ({"plate": "ab"}, ["plate does not match ^[A-Z]+$"]),
        ({"id": "x" * ((1 << 20) + 1)}, ["id is longer than 1048576 bytes"]),
        (
            {"id": "", "at": "soon", "leg": "0", "fare": "-1", "kind": "noon", "plate": "abcde"},
            [
                "id is missing",
                "at is not a time such as 2025-11-20T14:15:00Z (ISO 8601, at most 6 decimals of a second)",
                "leg is below 1",
                "fare is not above 0",
                "kind is none of day, night",
                "plate does not match ^[A-Z]+$",
                "plate is longer than 4 characters",
            ],
        ),
        ({"_defect": "not JSON", "_raw": "{", "id": None, "at": None}, ["not JSON"]),
    ],
    ids=lambda value: " & ".join(value) if isinstance(value, list) else "",
)
def test_breach_gives_every_reason(clean: Clean, fields: Mapping[str, Any], reasons: list[str]) -> None:
    rows, broken = clean(GOOD | dict(fields))
    assert [row["_valid"] for row in rows] == [False]
    assert [row["reasons"] for row in broken] == [reasons]


@pytest.mark.parametrize(
    "fields",
    [
        {"at": "2020-01-01"},
        {"at": "2025-11-21T14:15:00Z"},
        {"leg": "1"},
        {"leg": "9"},
        {"leg": ""},
        {"fare": "0.01"},
        {"fare": "499.99"},
        {"fare": ""},
        {"kind": ""},
        {"plate": ""},
        {"plate": "ABCD"},
        {"id": "x" * (1 << 20)},
    ],
    ids=lambda fields: "".join(f"{name} {text[:30]}" for name, text in fields.items()),
)
def test_value_on_a_bound_is_valid(clean: Clean, fields: Mapping[str, Any]) -> None:
    rows, broken = clean(GOOD | dict(fields))
    assert ([row["_valid"] for row in rows], broken) == ([True], [])


def test_empty_optional_value_is_null_unless_string(clean: Clean) -> None:
    (row,), _ = clean(GOOD | {"leg": "", "fare": "", "paid": "", "stops": "", "kind": ""})
    assert [row[name] for name in ("leg", "fare", "paid", "stops", "kind")] == [None, None, None, None, ""]


@pytest.mark.parametrize(
    ("at", "day"),
    [
        ("2024-02-29T23:59:59Z", date(2024, 2, 29)),
        ("2024-02-29T23:59:59-05:00", date(2024, 3, 1)),
        ("2024-03-01T00:30:00+01:00", date(2024, 2, 29)),
        ("2025-11-21T14:15:00Z", date(2025, 11, 21)),
        ("2025-11-21T14:15:01Z", ARRIVED.date()),
        ("2019-12-31T23:59:59Z", ARRIVED.date()),
        ("0000-01-01T00:00:00Z", ARRIVED.date()),
        ("9999-12-31T23:59:59Z", ARRIVED.date()),
        ("soon", ARRIVED.date()),
        (None, ARRIVED.date()),
    ],
)
def test_dt_is_event_date_or_arrival_date_of_a_breach(clean: Clean, at: str | None, day: date) -> None:
    assert [row["dt"] for row in clean(GOOD | {"at": at})[0]] == [day]


def test_raw_text_of_a_breach_is_what_arrived(clean: Clean) -> None:
    _, broken = clean(
        GOOD | {"fare": "-1", "_extra": '{"colour": "red", "size": 1.10}'},
        {"_raw": '{"id": ', "_defect": "not JSON"},
        {"id": "", "at": "2025-11-20"},
    )
    assert [json.loads(row["raw"]) for row in (broken[0], broken[2])] == [
        {"id": "t1", "At": "2025-11-20T10:00:00Z", "fare": "-1", "colour": "red", "size": 1.1},
        {"id": "", "At": "2025-11-20"},
    ]
    assert broken[1]["raw"] == '{"id": '
    assert [(row["_object"], row["_row"], row["_arrived_at"]) for row in broken] == [
        ("o", n, ARRIVED) for n in range(3)
    ]


@pytest.mark.parametrize("event_id", ["a", None])
@pytest.mark.parametrize(
    "number",
    [
        "12345678901234567890.10",
        "0.1000000000000000055511151231257827",
        "-18446744073709551617",
        "1e-400",
        "1E400",
        "2.5",
    ],
)
def test_raw_text_keeps_every_digit_of_unknown_columns(
    database: duckdb.DuckDBPyConnection, number: str, event_id: str | None
) -> None:
    contract = Contract("t", "1.0.0", "", "", (Field("{id}", FieldType("string"), "{id}"),), "{id}")
    row = f"select ?::varchar as {quote('{id}')}, ?::varchar as _extra, null::varchar as _raw"
    (raw,) = database.execute(
        f"select {raw_sql(contract)} from ({row})", [event_id, json.dumps({"x": 0, "y": [0]}).replace("0", number)]
    ).fetchall()[0]
    expected = {"x": Decimal(number), "y": [Decimal(number)]} | ({"{id}": event_id} if event_id else {})
    assert json.loads(raw, parse_float=Decimal, parse_int=Decimal) == expected


def test_latest_arrival_of_a_key_stays_and_nulls_are_equal(clean: Clean, database: duckdb.DuckDBPyConnection) -> None:
    later = ARRIVED.replace(minute=59)
    clean(
        GOOD | {"leg": "1", "kind": "day", "_arrived_at": later, "_object": "a", "_row": 0},
        GOOD | {"leg": "1", "kind": "night", "_object": "z", "_row": 9},
        GOOD | {"leg": None, "kind": "day", "_object": "a", "_row": 1},
        GOOD | {"leg": "", "kind": "night", "_object": "a", "_row": 2},
        GOOD | {"leg": "1", "kind": "day", "at": "2025-11-19", "_object": "a", "_row": 3},
        {"id": "t1", "at": "2025-11-20", "leg": "2", "kind": "day", "_object": "a", "_row": 5},
        {"id": "t1", "at": "2025-11-20", "leg": "2", "kind": "night", "_object": "b", "_row": 4},
    )  # fmt: skip
    kept = database.execute(
        f"select dt, leg, kind from ({latest_sql(CONTRACT.key, f'({clean_sql(CONTRACT)})')}) order by all nulls last"
    ).fetchall()
    day = date(2025, 11, 20)
    assert kept == [(date(2025, 11, 19), 1, "day"), (day, 1, "day"), (day, 2, "night"), (day, None, "night")]


def test_arrival_is_compared_in_utc(clean: Clean) -> None:
    arrived = datetime(2025, 11, 20, 23, 30, tzinfo=UTC).replace(tzinfo=None)
    rows, broken = clean(GOOD | {"at": "2025-11-22T01:30:00+02:00", "_arrived_at": arrived})
    assert (rows[0]["_valid"], rows[0]["dt"], broken) == (True, date(2025, 11, 21), [])
