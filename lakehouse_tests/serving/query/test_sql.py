"""SQL over the lake: a query reads tables, now or in the past, and can do nothing else."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from lakehouse.errors import LakehouseError, QueryError
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.unified_view import view_names
from lakehouse.serving.query import sql as query
from lakehouse.serving.query.json_values import to_json
from lakehouse.serving.query.sql import connect, run_query
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle
from lakehouse_tests.pipeline.own import Own, noon, payment

DAY = date(2021, 6, 1)


@pytest.fixture(scope="module")
def lake(shared_lake: Lake) -> Lake:
    """A lake with the built-in streams, as a command opens it."""
    Lake(shared_lake.settings, shared_lake.connection).bootstrap()
    return Lake(shared_lake.settings, shared_lake.connection, metadata_only=True)


@pytest.fixture(scope="module")
def small_lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A lake of its own, without the streams of other tests: listing hundreds of tables takes seconds."""
    settings = Settings(home=tmp_path_factory.mktemp("small"))
    with lifecycle.running(settings) as connection:
        Lake(settings, connection).bootstrap()
        yield Lake(settings, connection, metadata_only=True)


def _rows(lake: Lake, sql: str) -> list[tuple[Any, ...]]:
    return list(run_query(lake, sql).rows)


def _reading(own: Own) -> Lake:
    """Open the stream's lake as a command does."""
    lake = Lake(own.lake.settings, own.lake.connection, metadata_only=True)
    lake.streams = own.lake.streams
    return lake


WRITING = [
    "insert into silver.iot values (1)",
    "update silver.iot set value = 1",
    "delete from silver.iot",
    "truncate silver.iot",
    "create table t as select 1",
    "create view v as select 1",
    "create or replace secret s (type s3)",
    "create macro m() as 1",
    "drop view silver.iot",
    "drop table silver.iot",
    "alter table silver.iot add column x int",
    "copy (select 1) to '/tmp/x.csv'",
    "copy (select 1) to 's3://lake/x.parquet'",
    "export database '/tmp/x'",
    "import database '/tmp/x'",
    "attach '/tmp/x.db'",
    "detach memory",
    "use memory",
    "pragma memory_limit = '1GB'",
    "pragma enable_profiling",
    "set memory_limit = '1GB'",
    "set enable_external_access = true",
    "reset lock_configuration",
    "install spatial",
    "load httpfs",
    "force install httpfs from 'http://127.0.0.1/'",
    "call pragma_version()",
    "checkpoint",
    "vacuum",
    "begin transaction",
    "prepare q as select 1",
    "execute q",
    "explain analyze copy (select 1) to 's3://lake/x.parquet'",
    "explain analyze create table t as select 1",
    "explain copy (select 1) to 's3://lake/x.parquet'",
    "/* explain */ explain analyze copy (select 1) to 's3://lake/x.parquet'",
    "explain (analyze, format json) copy (select 1) to 's3://lake/x.parquet'",
    "explain (analyze) explain analyze copy (select 1) to 's3://lake/x.parquet'",
    "with w as (delete from silver.iot returning *) select * from w",
    "select 1; select 2",
    "select 1; drop view silver.iot",
    "",
    ";",
    "-- nothing",
]

ELSEWHERE = [
    "select * from read_csv('/etc/passwd')",
    "select * from read_text('/etc/passwd')",
    "select * from read_blob('/proc/self/environ')",
    "from '/etc/passwd'",
    "select * from '/tmp/x.parquet'",
    "select * from glob('/etc/*')",
    "select * from sniff_csv('/etc/passwd')",
    "select * from read_json('http://127.0.0.1:1/x.json')",
    "select * from read_csv('https://example.com/x.csv')",
    "select * from read_parquet('s3://elsewhere/x.parquet')",
    "select * from read_text('s3://lake/../etc/passwd')",
    "select * from read_duckdb('/tmp/x.db')",
]


@pytest.mark.parametrize("sql", WRITING)
def test_statement_that_writes_is_an_error(lake: Lake, sql: str) -> None:
    with pytest.raises(QueryError):
        _rows(lake, sql)
    assert lake.objects.head("x.parquet") is None


@pytest.mark.parametrize("sql", ELSEWHERE)
def test_read_outside_the_lake_is_an_error(lake: Lake, sql: str) -> None:
    with pytest.raises(QueryError):
        _rows(lake, sql)


def test_error_names_what_is_allowed(lake: Lake) -> None:
    with pytest.raises(QueryError, match=r"^Only reading is allowed: write a SELECT. This is insert\.$"):
        _rows(lake, "insert into silver.iot values (1)")
    with pytest.raises(QueryError, match=r"^Send one statement at a time\. This is 2\.$"):
        _rows(lake, "select 1; select 2")


@pytest.mark.parametrize(
    "sql", ["select * from duckdb_secrets()", "select * from duckdb_settings()", "select * from duckdb_logs()"]
)
def test_credentials_are_not_shown(lake: Lake, sql: str) -> None:
    secret = lake.connection.secret_access_key
    assert secret
    assert secret not in str(_rows(lake, sql))


@pytest.mark.parametrize("table", ["silver.nothing", "silvr.iot", "nothing"])
def test_unknown_table_error_lists_the_tables(lake: Lake, table: str) -> None:
    with pytest.raises(QueryError, match=r"(?s)does not exist.*There are: .*gold\.daily_metrics.*serving\.unified_iot"):
        _rows(lake, f"select * from {table}")


def test_invalid_sql_error_names_the_mistake(lake: Lake) -> None:
    for sql, message in (("selec 1", "syntax error"), ("select nonsense from silver.iot", "nonsense")):
        with pytest.raises(QueryError, match=message):
            _rows(lake, sql)


def test_failure_after_some_rows_is_a_query_error(lake: Lake) -> None:
    # Repeated, because in one of twenty runs DuckDB reports only that it interrupted other threads.
    for _ in range(20):
        with pytest.raises(QueryError, match=r"^Invalid Input Error: boom$"):
            _rows(lake, "select case when range = 150000 then error('boom') else range end from range(200000)")


@pytest.mark.parametrize(
    "sql",
    [
        "select count(*) from silver.iot",
        'select count(*) from "silver"."iot"',
        "select count(*) from SILVER.Iot",
        "with iot as (from silver.iot) select count(*) from iot",
        "select count(*) from silver . iot as s join gold.iot_daily g using (dt)",
        "select (select count(*) from serving.unified_iot)",
        "select count(*) from serving.orders_current where order_id is null",
        "select count(*) from quarantine.iot -- where silver.nothing; insert",
    ],
)
def test_every_table_and_view_is_read_by_its_name(lake: Lake, sql: str) -> None:
    ((count,),) = _rows(lake, sql)
    assert count >= 0  # other tests may have landed events


def test_describe_and_explain_are_allowed(lake: Lake) -> None:
    assert ("event_id", "VARCHAR") in [row[:2] for row in _rows(lake, "describe silver.iot")]
    for how in ("explain", "EXPLAIN ANALYZE", "explain (format json)", "explain (analyze, format json)"):
        assert _rows(lake, f"{how} select count(*) from silver.iot"), how
    assert _rows(lake, "explain (select 1)")


@pytest.mark.parametrize("sql", ["show tables", "SHOW ALL TABLES;", "describe", " show tables\n"])
def test_show_tables_lists_every_table_and_view(small_lake: Lake, sql: str) -> None:
    assert [name for (name,) in _rows(small_lake, sql)] == view_names(small_lake)


def test_show_tables_from_a_layer_lists_its_tables(small_lake: Lake) -> None:
    names = [name for name in view_names(small_lake) if name.startswith("silver.")]
    assert [name for (name,) in _rows(small_lake, "show tables from Silver")] == names
    assert _rows(small_lake, "show tables from nothing") == []


def test_information_schema_lists_every_table_and_column(small_lake: Lake) -> None:
    sql = "select table_schema || '.' || table_name from information_schema.tables order by all"
    assert [name for (name,) in _rows(small_lake, sql)] == view_names(small_lake)
    columns = "select column_name from information_schema.columns where table_schema = 'silver' and table_name = 'iot'"
    assert sorted(_rows(small_lake, columns)) == sorted(row[:1] for row in _rows(small_lake, "describe silver.iot"))


def test_pivot_runs_with_its_values_and_asks_for_missing_ones(lake: Lake) -> None:
    assert _rows(lake, "pivot (select 'a' as x, 2 as n) on x in ('a', 'b') using sum(n)") == [(2, None)]
    for sql in ("pivot silver.retail on country using count(*)", "from (pivot silver.iot on metric using count(*))"):
        with pytest.raises(QueryError, match=r"^PIVOT needs its values here: write PIVOT … ON column IN"):
            _rows(lake, sql)


def test_values_are_returned_exactly(make_stream: Callable[..., Own]) -> None:
    own = make_stream()
    own.land([payment("a", noon(DAY), amount="9007199254740993.01")], noon(DAY))
    own.bronze()
    own.clean(DAY)
    result = run_query(_reading(own), f"select event_id, amount, event_time, dt, merchant from silver.{own.name}")
    assert result.columns == ["event_id", "amount", "event_time", "dt", "merchant"]
    assert [[to_json(value) for value in row] for row in result.rows] == [
        ["a", "9007199254740993.01", "2021-06-01T12:00:00Z", "2021-06-01", None]
    ]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Decimal("1E+3"), "1000"),
        (Decimal("0.00"), "0.00"),
        (float("nan"), None),
        (float("inf"), None),
        (1.5, 1.5),
        (True, True),
        (2**62, 2**62),
        (datetime(2025, 1, 1, 2, 3, 4, 500), "2025-01-01T02:03:04.000500Z"),
        (datetime(2025, 1, 1, 2, tzinfo=UTC), "2025-01-01T02:00:00Z"),
        (date(2025, 1, 1), "2025-01-01"),
        (time(1, 2), "01:02:00"),
        (timedelta(days=1), "1 day, 0:00:00"),
        (b"\x00\xff", "00ff"),
        ([Decimal("1.0"), None], ["1.0", None]),
        ({"a": {1: date(2025, 1, 1)}}, {"a": {"1": "2025-01-01"}}),
        (None, None),
    ],
)
def test_value_converts_to_json(value: Any, plain: Any) -> None:
    assert to_json(value) == plain
    assert json.loads(json.dumps(to_json(value), allow_nan=False)) == plain


@pytest.fixture
def grown(make_stream: Callable[..., Own]) -> Own:
    """A stream whose silver had one event, then two."""
    own = make_stream()
    for minute, key in enumerate("ab"):
        own.land([payment(key, noon(DAY))], noon(DAY) + timedelta(minutes=minute))
        own.bronze()
        own.clean(DAY)
    return own


def test_table_is_read_at_a_version_and_at_a_time(grown: Own) -> None:
    lake, table = _reading(grown), f"silver.{grown.name}"
    first, second = sorted(grown.lake.tables.load(table).metadata.snapshots, key=lambda s: s.sequence_number or 0)
    moment = datetime.fromtimestamp(first.timestamp_ms / 1000, UTC)
    for at, rows in (
        (f"version => {first.snapshot_id}", 1),
        (f"version => {second.snapshot_id}", 2),
        (f"timestamp => '{moment.isoformat()}'", 1),
        (f"timestamp => timestamp '{moment:%Y-%m-%d %H:%M:%S.%f}'", 1),
        ("timestamp => '2100-01-01'", 2),
    ):
        assert _rows(lake, f"select count(*) from {table} at ({at})") == [(rows,)], at
    both = f"""
        select now.event_id
        from {table} as now
        anti join {table} AT (VERSION => {first.snapshot_id}) as before using (event_id)
    """
    assert _rows(lake, both) == [("b",)]


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("version => 12", "has no snapshot or tag 12"),
        ("version => 'x'", "has no snapshot or tag x"),
        ("timestamp => '2001-01-01'", "has no snapshot as old as 2001-01-01"),
        ("timestamp => 'yesterday'", "'yesterday' is not a time. Write one such as"),
    ],
)
def test_unknown_version_or_time_is_an_error(grown: Own, at: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        _rows(_reading(grown), f"select * from silver.{grown.name} at ({at})")


def test_time_travel_of_view_or_unknown_table_is_an_error(grown: Own) -> None:
    with pytest.raises(QueryError, match="is a view and has no past"):
        _rows(_reading(grown), f"select * from serving.unified_{grown.name} at (version => 1)")
    with pytest.raises(QueryError, match=r"There is no table silver\.nothing\. There are:"):
        _rows(_reading(grown), "select * from silver.nothing at (version => 1)")


def test_orders_current_is_the_latest_state_without_deletes(make_stream: Callable[..., Own]) -> None:
    own = make_stream("orders")
    order = {"event_time": f"{DAY}T10:00:00Z", "customer_id": "c", "amount": "5"}

    def change(key: str, version: int, op: str, **fields: Any) -> dict[str, Any]:
        return order | {"order_id": key, "version": version, "op": op} | fields

    own.land([change("a", 2, "update", status="paid"), change("a", 1, "insert", status="created")], noon(DAY))
    own.land([change("b", 1, "insert"), change("c", 9, "insert", status="created")], noon(DAY))
    own.bronze()
    own.clean(DAY)
    tomorrow = DAY + timedelta(days=1)
    own.land(
        [
            change("a", 10, "update", status="shipped", event_time=f"{tomorrow}T01:00:00Z"),
            change("b", 2, "delete", event_time=f"{tomorrow}T01:00:00Z"),
        ],
        noon(tomorrow),
    )
    own.refresh_realtime(f"{tomorrow}-12:00")
    current = f"select order_id, version, status from serving.{own.name}_current order by order_id"
    assert _rows(_reading(own), current) == [("a", 10, "shipped"), ("c", 9, "created")]


@pytest.fixture(scope="module")
def connected(small_lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query, "get_settings", lambda: small_lake.settings)
        connection = connect()
    with connection:
        yield connection


def test_connect_shows_every_table_as_a_view(connected: duckdb.DuckDBPyConnection) -> None:
    views = connected.execute(
        "select schema_name || '.' || view_name from duckdb_views() where not internal"
    ).fetchall()
    assert {name for (name,) in views} >= {"silver.iot", "gold.daily_metrics", "serving.unified_logs"}
    ((count,),) = connected.sql("select count(*) from silver.iot").fetchall()
    assert count >= 0


def test_connect_lists_tables_as_duckdb_does(connected: duckdb.DuckDBPyConnection, small_lake: Lake) -> None:
    names = view_names(small_lake)
    assert [name for (name,) in connected.sql("show tables").fetchall()] == sorted(n.partition(".")[2] for n in names)
    assert sorted(f"{row[1]}.{row[2]}" for row in connected.sql("show all tables").fetchall()) == names
    ((count,),) = connected.sql("select count(*) from information_schema.tables").fetchall()
    assert count == len(names)


@pytest.mark.parametrize(
    "sql",
    ["select * from read_csv('/etc/passwd')", "set enable_external_access = true", "copy (select 1) to '/tmp/x.csv'"],
)
def test_connect_reads_nothing_outside_the_lake(connected: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises(duckdb.Error):
        connected.execute(sql)


def test_connect_writes_nothing_to_the_lake(connected: duckdb.DuckDBPyConnection, small_lake: Lake) -> None:
    with pytest.raises(duckdb.Error):
        connected.execute("copy (select 1 as x) to 's3://lake/written.parquet'")
    assert small_lake.objects.head("written.parquet") is None


def test_stopped_lake_error_names_the_start_command(lake: Lake, tmp_path: Any) -> None:
    away = Lake(lake.settings.model_copy(update={"home": tmp_path / "nowhere"}))
    with pytest.raises(LakehouseError, match="lakehouse up"):
        _rows(away, "select * from silver.iot")
