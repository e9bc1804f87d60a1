"""Times and decimals as the options of a file say, in every format: they mean what the contract would read with them."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.contracts.dialect import encode_options, read_dialect
from lakehouse.contracts.model import Contract, Field, FieldType
from lakehouse.contracts.sql import clean_sql, day_sql, quote
from lakehouse.contracts.validator import Validator
from lakehouse.landing.readers import InputObject, bronze_rows
from lakehouse.landing.readers.columns import read_columns
from lakehouse_tests.landing.readers.samples import ARRIVED, object_of, rows_of
from lakehouse_tests.landing.readers.test_properties import MANY

EVENT = Contract(
    "readings",
    "1.0.0",
    "",
    "",
    (
        Field("id", FieldType("string"), "ID", required=True, key=True),
        Field("at", FieldType("timestamp"), "at", required=True),
        Field("price", FieldType("decimal", 9, 2), "price"),
    ),
    "at",
)

Event = tuple[str, str | None, str | None]


def as_csv(events: Sequence[Event]) -> tuple[bytes, str]:
    lines = (",".join(f'"{text}"' if text else "" for text in event) for event in events)
    return ("ID,at,price\n" + "\n".join(lines) + "\n").encode(), "x.csv"


def as_ndjson(events: Sequence[Event]) -> tuple[bytes, str]:
    lines = (json.dumps(dict(zip(("ID", "at", "price"), event, strict=True))) for event in events)
    return "\n".join(lines).encode(), "x.ndjson"


def as_parquet(events: Sequence[Event]) -> tuple[bytes, str]:
    sink = io.BytesIO()
    columns = zip(*events, strict=True)
    pq.write_table(pa.table(dict(zip(("ID", "at", "price"), map(list, columns), strict=True))), sink)
    return sink.getvalue(), "x.parquet"


Write = Callable[[Sequence[Event]], tuple[bytes, str]]
FORMATS = pytest.mark.parametrize("write", [as_csv, as_ndjson, as_parquet])


def valid_rows(contract: Contract, obj: InputObject) -> list[tuple[Any, ...]]:
    """Read an object and return the values of its valid rows, typed."""
    with duckdb.connect(config={"threads": 1}) as database:
        database.execute("set timezone = 'UTC'")
        bronze_rows(database, contract, [obj]).create_view("landed")
        bronze = f"(select *, {day_sql(contract, 'landed')} as dt from landed)"
        names = ", ".join(quote(field.name) for field in contract.fields)
        return database.execute(
            f"with bronze as {bronze} select {names} from ({clean_sql(contract)}) where _valid order by _row"
        ).fetchall()


def read_as(options: dict[str, Any], data: bytes, name: str) -> InputObject:
    return object_of(data, f"incoming/readings/read-as~{encode_options(options)}/{name}")


CASES: dict[str, tuple[dict[str, Any], str, datetime | None]] = {
    "a format": ({"timeFormat": ["dd/MM/yyyy HH:mm"]}, "02/10/2025 14:15", datetime(2025, 10, 2, 14, 15)),
    "ISO besides a format": ({"timeFormat": ["dd/MM/yyyy"]}, "2025-10-02T14:15Z", datetime(2025, 10, 2, 14, 15)),
    "another format": ({"timeFormat": ["dd/MM/yyyy"]}, "10/13/2025", None),
    "strptime": ({"timeFormat": ["%d.%m.%y %I:%M %p"]}, "02.10.25 02:15 PM", datetime(2025, 10, 2, 14, 15)),
    "an epoch": ({"timeFormat": ["epoch ms"]}, "1759414500123", datetime(2025, 10, 2, 14, 15, 0, 123000)),
    "a zone": ({"timeZone": "Europe/Berlin"}, "2025-10-02 14:15", datetime(2025, 10, 2, 12, 15)),
    "a zone of its own": ({"timeZone": "Europe/Berlin"}, "2025-10-02 14:15+01:00", datetime(2025, 10, 2, 13, 15)),
    "a zone for a format": (
        {"timeZone": "Asia/Kolkata", "timeFormat": "d.M.yyyy H:mm"},
        "2.10.2025 4:15",
        datetime(2025, 10, 1, 22, 45),
    ),
    "a time that clocks skip": ({"timeZone": "Europe/Berlin"}, "2025-03-30 02:30", None),
    "a time that clocks show twice": ({"timeZone": "Europe/Berlin"}, "2025-10-26 02:30", None),
    "half an hour that clocks show twice": ({"timeZone": "Australia/Lord_Howe"}, "2025-04-06 01:45", None),
    "two hours that clocks show twice": ({"timeZone": "Antarctica/Troll"}, "2025-10-26 01:30", None),
    "two hours that clocks skip": ({"timeZone": "Antarctica/Troll"}, "2025-03-30 02:30", None),
    "a time right after clocks are set": (
        {"timeZone": "Australia/Lord_Howe"},
        "2025-04-06 02:00",
        datetime(2025, 4, 5, 15, 30),
    ),
    "nanoseconds": (
        {"truncateTimes": True},
        "2025-10-02T14:15:00.123456789Z",
        datetime(2025, 10, 2, 14, 15, 0, 123456),
    ),
    "nanoseconds of the epoch": (
        {"truncateTimes": True, "timeFormat": "epoch ns"},
        "1759414500123456789",
        datetime(2025, 10, 2, 14, 15, 0, 123456),
    ),
    "fractions of milliseconds": (
        {"truncateTimes": True, "timeFormat": "epoch ms"},
        "1759414500123.4569",
        datetime(2025, 10, 2, 14, 15, 0, 123456),
    ),
    "nanoseconds in a format": (
        {"truncateTimes": True, "timeFormat": "dd/MM/yyyy HH:mm:ss.SSSSSS"},
        "02/10/2025 14:15:00.123456789",
        datetime(2025, 10, 2, 14, 15, 0, 123456),
    ),
    "nanoseconds that are not cut": ({"timeZone": "UTC"}, "2025-10-02T14:15:00.123456789Z", None),
}


@FORMATS
@pytest.mark.parametrize("case", CASES)
def test_time_is_read_as_the_options_say(case: str, write: Write) -> None:
    options, text, value = CASES[case]
    data, name = write([("a", text, None), ("b", "2025-11-01T00:00:00Z", "1.5")])
    sound = ("b", datetime(2025, 11, 1), Decimal("1.50"))
    expected = [sound] if value is None else [("a", value, None), sound]
    assert valid_rows(EVENT, read_as(options, data, name)) == expected
    assert valid_rows(EVENT.written_in(read_dialect(options)), object_of(data, name)) == expected


def test_time_that_is_none_is_a_defect_with_its_text() -> None:
    data, name = as_csv([("a", "2025-03-30 02:30", "1.5")])
    (defect,) = rows_of(EVENT, read_as({"timeZone": "Europe/Berlin"}, data, name))
    assert defect[:2] == ("!", "at is not a time in ISO 8601")
    assert json.loads(defect[2]) == {"ID": "a", "at": "2025-03-30 02:30", "price": "1.5"}


@FORMATS
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.005", "1.01"),
        ("-1.005", "-1.01"),
        ("1.00499999999999999999999999999999999999999999", "1.00"),
        ("1.5", "1.50"),
        ("12345e-3", "12.35"),
        ("9999999.994", "9999999.99"),
        ("9999999.995", None),
        ("0.001", "0.00"),
    ],
)
def test_decimal_is_rounded_where_asked(text: str, value: str | None, write: Write) -> None:
    data, name = write([("a", "2025-10-02T00:00:00Z", text)])
    expected = [] if value is None else [("a", datetime(2025, 10, 2), Decimal(value))]
    assert valid_rows(EVENT, read_as({"roundDecimals": True}, data, name)) == expected
    assert valid_rows(EVENT.written_in(read_dialect({"roundDecimals": True})), object_of(data, name)) == expected


def test_local_time_that_clocks_may_skip_is_not_proven() -> None:
    declared = EVENT.written_in(read_dialect({"timeZone": "Europe/Berlin"}))
    lines = [f'{{"ID":"a","at":"2025-03-30T02:30:00{zone}"}}\n'.encode() for zone in ("", "Z")]
    assert [Validator(declared).proven(line, ARRIVED) for line in lines] == [0, 1]


PARTS = {"timeColumns": ["Day", "Time"], "timeFormat": ["dd/MM/yyyy HH:mm:ss"]}
DAY, CLOCK = "10/03/2004", "18:00:00"
AT = datetime(2004, 3, 10, 18)


def parquet_of(**columns: list[Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("data", "name", "options"),
    [
        (b"ID,Day,note,Time\na,10/03/2004,x,18:00:00\nb,10/03/2004,x,\nc,,x,18:00:00\nd,,x,\n", "x.csv", {}),
        (b"ID,at,price,day,TIME\na,2004-03-10T18:00:00Z,1,,\nb,,1,10/03/2004,\n", "x.csv", {}),
        (b"a;10/03/2004;18:00:00;1\nb;10/03/2004;;1\n", "x.csv", {"header": False}),
        (b'{"ID":"a","Day":"10/03/2004","Time":"18:00:00"}\n{"ID":"b","Day":"10/03/2004"}\n', "x.ndjson", {}),
        (parquet_of(ID=["a", "b"], Day=["10/03/2004"] * 2, Time=["18:00:00", None]), "x.parquet", {}),
    ],
    ids=["csv", "a time of its own", "no header", "json", "parquet"],
)
def test_event_time_is_made_of_columns(data: bytes, name: str, options: dict[str, Any]) -> None:
    old = replace(EVENT, history_start=date(2000, 1, 1))
    for contract, obj in (
        (old, read_as(PARTS | options, data, name)),
        (old.written_in(read_dialect(PARTS | options)), object_of(data, name)),
    ):
        assert [row[:2] for row in valid_rows(contract, obj)] == [("a", AT)]


def test_column_named_as_the_event_time_is_a_part_of_it() -> None:
    declared = EVENT.written_in(read_dialect({"timeColumns": ["Day", "AT"]}))
    data = b"ID,Day,at\na,10/03/2004,18:00\nb,,18:00\nc,10/03/2004,\nd,,\n"
    times = [row[1] for row in rows_of(declared, object_of(data, "x.csv"))]
    assert times == ["10/03/2004 18:00", "18:00", "10/03/2004 ", None]


def test_columns_of_a_time_are_not_unknown() -> None:
    declared = EVENT.written_in(read_dialect(PARTS))
    data = b"ID,Day,Time,note\na,10/03/2004,18:00:00,x\n"
    assert read_columns(declared, object_of(data, "x.csv")).unknown == ["note"]
    assert rows_of(declared, object_of(data, "x.csv")) == [("a", "10/03/2004 18:00:00", None, '{"note":"x"}')]


TIMES = st.one_of(
    st.datetimes(datetime(2010, 1, 1), datetime(2025, 11, 1)).map(str),
    st.datetimes(datetime(2010, 1, 1), datetime(2025, 11, 1)).map(lambda at: at.strftime("%d/%m/%Y %H:%M")),
    st.tuples(st.dates(date(2010, 1, 1), date(2025, 1, 1)), st.times()).map(lambda at: f"{at[0]}T{at[1]}789Z"),
    st.integers(10**9, 2 * 10**18).map(str),
)
DECIMALS = st.decimals(-(10**7), 10**7, places=4).map(str)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "timeFormat": st.lists(st.sampled_from(["dd/MM/yyyy HH:mm", "epoch ms", "epoch ns"]), max_size=2),
        "timeZone": st.sampled_from(["Europe/Berlin", "America/New_York", "UTC"]),
        "truncateTimes": st.booleans(),
        "roundDecimals": st.booleans(),
    },
)


@MANY
@given(events=st.lists(st.tuples(TIMES, DECIMALS), min_size=1, max_size=9), options=OPTIONS)
def test_options_of_a_file_mean_what_they_mean_in_a_contract(
    events: list[tuple[str, str]], options: dict[str, Any]
) -> None:
    data, name = as_csv([(str(i), *texts) for i, texts in enumerate(events)])
    declared = EVENT.written_in(read_dialect(options))
    assert valid_rows(EVENT, read_as(options, data, name)) == valid_rows(declared, object_of(data, name))
