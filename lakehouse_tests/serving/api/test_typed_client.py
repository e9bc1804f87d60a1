"""`lakehouse.Client` reads what HTTP answers, with exact types and typed errors, as `docs/client.md` says."""

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_type

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import lakehouse
from lakehouse.http import api_keys as keys
from lakehouse.pipeline.lake import Lake
from lakehouse.processes.service import RunningService
from lakehouse.serving.query.named_queries import read_queries
from lakehouse.serving.query.sql import run_query
from lakehouse.settings import Settings

PAGE = Path(__file__).parents[3] / "docs" / "client.md"
EXAMPLES = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))

TYPES_SQL = """
select
  99999999999999999999999999999999999.99::decimal(38, 2) as amount,
  9007199254740993::bigint as big,
  null::bigint as missing,
  timestamp '2025-01-02 03:04:05.000006' as at,
  timestamptz '2025-01-02 03:04:05+01:00' as zoned,
  date '2025-01-02' as day,
  [1.10::decimal(9, 2), null] as list,
  map {'a': 1.5::decimal(9, 2)} as map,
  {'x': 'ü"'} as struct
"""
TYPES = {
    "amount": Decimal("99999999999999999999999999999999999.99"),
    "big": 9007199254740993,
    "missing": None,
    "at": datetime(2025, 1, 2, 3, 4, 5, 6),
    "zoned": datetime(2025, 1, 2, 2, 4, 5, tzinfo=UTC),
    "day": date(2025, 1, 2),
    "list": [Decimal("1.10"), None],
    "map": {"a": Decimal("1.50")},
    "struct": {"x": 'ü"'},
}


@pytest.fixture(scope="module")
def client(serving: RunningService, running: RunningService) -> Iterator[lakehouse.Client]:
    with lakehouse.Client(running.url) as client:
        yield client


def test_types_are_exact_in_each_form(client: lakehouse.Client) -> None:
    rows = client.query(TYPES_SQL)
    assert list(rows) == [TYPES]
    assert (len(rows), rows.columns, rows.truncated) == (1, list(TYPES), False)
    arrow, pandas, polars = rows.arrow(), rows.pandas(), rows.polars()
    assert isinstance(arrow, pa.Table)
    assert isinstance(pandas, pd.DataFrame)
    assert isinstance(polars, pl.DataFrame)
    for name in ("amount", "big", "day"):
        assert pandas[name][0] == polars[name][0] == TYPES[name]
    assert pd.isna(pandas["missing"][0])
    assert polars["list"].to_list() == [TYPES["list"]]


PARAMETERS: list[tuple[str, Any, Any]] = [
    ("select ? as x", ["'; drop table"], "'; drop table"),
    ("select $a || $b as x", {"a": "ü", "b": "$a"}, "ü$a"),
    ("select 1.50 = ?::decimal(9, 2) as x", [Decimal("1.50")], True),
    ("select timestamp '2025-01-02 02:00:00' = ?::timestamp as x", [datetime(2025, 1, 2, 2, tzinfo=UTC)], True),
    ("select date '2025-01-02' = ? as x", [date(2025, 1, 2)], True),
    ("select len(?) as x", [[1, 2, 3]], 3),
]


@pytest.mark.parametrize(("sql", "parameters", "expected"), PARAMETERS)
def test_parameters_are_values(client: lakehouse.Client, sql: str, parameters: Any, expected: Any) -> None:
    assert list(client.query(sql, parameters)) == [{"x": expected}]


def test_rows_beyond_the_limit_are_an_error_unless_asked_for(client: lakehouse.Client) -> None:
    rows = client.query("select range as x from range(10)", rows=3)
    assert (len(rows), rows.truncated) == (3, True)
    with pytest.raises(lakehouse.QueryError, match=r"more rows than the 100000 that the server returns\. Pass rows=N"):
        client.query("select range from range(100001)")


def test_errors_have_types_and_the_problem_of_the_server(
    client: lakehouse.Client, running: RunningService, settings: Settings
) -> None:
    cases: list[tuple[type[lakehouse.LakehouseError], int, str, Any]] = [
        (lakehouse.QueryError, 400, "selekt", lambda: client.query("selekt 1")),
        (lakehouse.QueryTimeoutError, 408, "0.5", lambda: client.query(ENDLESS_SQL, seconds=0.5)),
        (lakehouse.ParameterError, 400, "dayz", lambda: client.named("funnel", dayz=1)),
        (lakehouse.NotFoundError, 404, "no query 'a\"🦆'", lambda: client.named('a"🦆')),
        (lakehouse.NotFoundError, 404, "", lambda: client.named("a/../b")),
        (lakehouse.NotFoundError, 404, "customer", lambda: client.customer('"/ü🦆')),
        (lakehouse.UnknownStreamError, 404, "no stream '🦆?'", lambda: client.quarantine("🦆?")),
        (lakehouse.UnknownStreamError, 404, "no stream 'x'", lambda: client.entity("x", "1")),
        (lakehouse.AuthenticationError, 401, "scope admin", lambda: client.withdraw(["realtime/iot/x.json"])),
        (lakehouse.RequestError, 400, "limit", lambda: client.alerts(limit=0)),
        (lakehouse.UnknownStreamError, 404, "no stream 'x'", lambda: next(client.follow_alerts(stream="x"))),
    ]
    for kind, status, message, call in cases:
        with pytest.raises(kind) as failure:
            call()
        assert message in str(failure.value)
        assert failure.value.problem is not None
        assert failure.value.problem["status"] == status
    with (
        lakehouse.Client(running.url, keys.local_key(settings)) as admin,
        pytest.raises(lakehouse.ObjectNotFoundError),
    ):
        admin.withdraw([f"realtime/iot/year=2025/month=11/day=20/hour=14/data_141503000000_{'0' * 32}-1.json"])


ENDLESS_SQL = "select count(*) from range(1000000) a, range(1000000) b where a.range + b.range < 0"


@pytest.mark.parametrize("name", ["largest_transactions", "funnel", "daily_metrics", "top_services"])
def test_named_query_gives_the_rows_of_the_command_line(client: lakehouse.Client, shared_lake: Lake, name: str) -> None:
    given: dict[str, Any] = {"until": "2024-02-03", "days": 3} | (
        {"stream": "financial"} if name == "daily_metrics" else {}
    )
    query = read_queries()[name]
    local = run_query(shared_lake, query.sql, query.bind({key: str(value) for key, value in given.items()}))
    rows = [dict(zip(local.columns, row, strict=True)) for row in local.rows]
    # Arrow gives a map as pairs, the client as a dict.
    maps = {column.name for column in local.schema if pa.types.is_map(column.type)}
    expected = [{column: dict(value) if column in maps else value for column, value in row.items()} for row in rows]
    assert list(client.named(name, **given)) == expected


def test_sent_objects_can_be_withdrawn(running: RunningService, client: lakehouse.Client, settings: Settings) -> None:
    event = {"event_id": "withdrawn", "event_time": datetime(2021, 2, 4, tzinfo=UTC), "level": "info", "service": "s"}
    result = client.send("logs", [event])
    with lakehouse.Client(running.url, keys.local_key(settings)) as admin:
        (found,) = admin.withdraw([receipt.object for receipt in result.receipts], dry_run=True)
    assert (found.stream, found.record) == ("logs", None)


def test_examples_of_the_page_run(client: lakehouse.Client, running: RunningService) -> None:
    spaces: dict[str, Any] = {}
    exec(compile(EXAMPLES.replace("http://127.0.0.1:8000", running.url), str(PAGE), "exec"), spaces)  # noqa: S102
    assert spaces["places"]
    assert spaces["rows"].columns == ["event_id", "amount"]
    spaces["client"].close()


def test_client_that_sends_imports_little(running: RunningService) -> None:
    script = f"""
import sys, lakehouse
with lakehouse.Client({running.url!r}) as client:
    print(client.send("orders", [{{"order_id": "little"}}]).rejected)
print([name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n[]\n"


HEAVY = (
    "dagster",
    "duckdb",
    "pyarrow",
    "pandas",
    "polars",
    "numpy",
    "pydantic",
    "litestar",
    "boto3",
    "lakehouse.settings",
)


def test_types_are_known_to_mypy() -> None:
    if TYPE_CHECKING:  # mypy checks this file; the calls are not made
        client = lakehouse.Client()
        assert_type(client.send("iot", []), lakehouse.SendResult)
        for events in (
            pa.table({}),
            pl.DataFrame(),
            pd.DataFrame(),
            PAGE,
            b"{}",
            [{"a": 1}],
            {"a": 1},
            (line for line in "{}"),
        ):
            client.send("iot", events)
        assert_type(client.query("select 1"), lakehouse.Rows)
        assert_type(client.query("select 1").polars(), pl.DataFrame)
        assert_type(client.tables()[0], lakehouse.TableInfo)
        assert_type(client.lookup("customers", 1), dict[str, Any])
        assert_type(client.lookups()[0], lakehouse.LookupInfo)
        assert_type(client.send("iot", []).rejections[0], lakehouse.Rejection)
