"""The sandbox: a user's statement is one SELECT over the data, however it is written."""

import duckdb
import pytest

from lakehouse.errors import QueryError
from lakehouse.serving.query.sandbox import MAX_SQL_CHARACTERS, check_query, lockdown_sql
from lakehouse_tests.serving.query.test_sql import ELSEWHERE, WRITING

TABLES = {"silver.iot", "serving.unified_iot"}

ALLOWED = [
    "select * from silver.iot",
    'from "Silver"."IOT"',
    "with a as (from silver.iot), b as materialized (select * from a) select * from b, a",
    "select * from (with a as (select 1) from a), silver.iot",
    "with recursive t as (select 1 as n union all select n + 1 from t where n < 5) select * from t",
    "select (select count(*) from serving.unified_iot), exists(from silver.iot)",
    "select * from range(3), generate_series(1, 2), unnest([1, 2])",
    "from silver.iot select pg_typeof(1), typeof(value) group by all",
    "describe silver.iot",
    "pivot silver.iot on metric in ('a', 'b') using count(*)",
    "summarize silver.iot",
    "explain analyze select * from silver.iot",
    "values (1), (2)",
    "select * from (pivot (select 1 as a, 2 as b) on a in (1, 2) using sum(b))",
    "select list_transform([1, 2], lambda x: x + 1), regexp_replace('a', 'a', 'b')",
    "select 'from /etc/passwd', \"read_csv\" from (select 1 as read_csv) -- read_text('/etc/passwd')",
    "select row_number() over (order by value) from silver.iot qualify true",
]

FORBIDDEN = [
    *ELSEWHERE,
    "select getenv('HOME')",
    "select GetEnv('HOME')",
    "select system.main.getenv('HOME')",
    "select current_setting('memory_limit')",
    "select getvariable('x')",
    "select * from duckdb_secrets()",
    "select * from duckdb_settings()",
    "select * from duckdb_views()",
    "select * from duckdb_views",
    "select * from duckdb_extensions()",
    "select * from duckdb_logs",
    "select * from pg_settings",
    "select * from pg_catalog.pg_settings",
    "select * from information_schema.tables",
    "select * from sqlite_master",
    "select * from main.sqlite_master",
    "select * from system.information_schema.tables",
    "select pg_get_viewdef(1)",
    "select * from pragma_version()",
    "select * from pragma_database_size()",
    "show tables",
    "show all tables",
    "show databases",
    "from query('select 1')",
    "from query_table('silver.iot')",
    "from query_table(['silver.iot'])",
    "select json_serialize_plan('select 1')",
    "from json_execute_serialized_sql(json_serialize_sql('select 1'))",
    "from parquet_metadata('s3://lake/x.parquet')",
    "from parquet_schema('/etc/passwd')",
    "from parquet_kv_metadata('/etc/passwd')",
    "from parquet_scan('s3://lake/x.parquet')",
    "from read_parquet('s3://lake/x.parquet')",
    "from iceberg_scan('s3://tables/silver/iot')",
    "from iceberg_metadata('s3://tables/silver/iot')",
    "from iceberg_snapshots('s3://tables/silver/iot')",
    "from read_avro('s3://lake/x.avro')",
    "from sniff_csv('/etc/passwd')",
    "from glob('/etc/*')",
    "from glob('s3://lake/**')",
    "from which_secret('s3://lake', 's3')",
    "from 's3://lake/x.parquet'",
    'from "s3://lake/x.parquet"',
    "from 'https://example.com/x.csv'",
    "from 'http://169.254.169.254/latest/meta-data/'",
    "from '/proc/self/environ'",
    "from system.main.read_text('/etc/passwd')",
    "from memory.silver.iot",
    "select * from silver.iot where value > (select count(*) from read_text('/etc/passwd'))",
    "with a as (from read_text('/etc/passwd')) select 1",
    "select * from silver.iot order by (select content from read_text('/etc/passwd'))",
    "select 1 from range(1) limit (select count(*) from glob('/*'))",
    "select * from (values ((select content from read_text('/etc/passwd'))))",
    "select list_transform([1], lambda x: getenv('HOME'))",
    "select sum(1) filter (where getenv('HOME') is null)",
    "select * from silver.iot join read_text('/etc/passwd') on true",
    "select * from silver.iot, lateral (select * from read_text('/etc/passwd'))",
    "select * from (pivot read_csv('/etc/passwd') on a in (1) using count(*))",
    "select * from (unpivot (from glob('/*')) on file)",
    'with "/etc/passwd" as (select 1) from "/etc/passwd"',
    'select * from (with "/x.csv" as (select 1) select 1), "/x.csv"',
    "with duckdb_settings as (select 1) select 1",
    "describe read_text('/etc/passwd')",
    "describe '/etc/passwd'",
    "summarize 's3://lake/x.parquet'",
    "explain select * from '/etc/passwd'",
    "explain analyze select * from read_text('/etc/passwd')",
    "select nextval('s')",
    "select write_log('x')",
    "select sleep_ms(100000)",
    "select pg_sleep(100)",
    "select * from silver.iot at (version => (select 1))",
    "select * from silver.secret",
    "select * from iot",
    "from a_python_variable",
    "select 1; select getenv('HOME')",
    "select 1 /* ; */; copy (select 1) to '/tmp/x'",
]


@pytest.mark.parametrize("sql", ALLOWED)
def test_query_of_the_data_is_allowed(sql: str) -> None:
    with duckdb.connect() as database:
        check_query(database, sql, TABLES)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select * from information_schema.tables", "List tables with SHOW TABLES"),
        ("show databases", "List tables with SHOW TABLES"),
        ("pivot silver.iot on metric using count(*)", "PIVOT needs its values here"),
    ],
)
def test_error_says_what_to_write_instead(sql: str, message: str) -> None:
    with duckdb.connect() as database, pytest.raises(QueryError, match=message):
        check_query(database, sql, TABLES)


@pytest.mark.parametrize("sql", [*WRITING, *FORBIDDEN])
def test_other_statement_is_an_error_before_it_runs(sql: str) -> None:
    with duckdb.connect() as database, pytest.raises(QueryError):
        check_query(database, sql, TABLES)


@pytest.mark.parametrize(
    "sql", ["x" * (MAX_SQL_CHARACTERS + 1), "select " + "abs(" * 5000 + "1" + ")" * 5000, "select " + "-" * 5000 + "1"]
)
def test_too_long_or_too_deep_statement_is_an_error(sql: str) -> None:
    with duckdb.connect() as database, pytest.raises(QueryError):
        check_query(database, sql, TABLES)


def test_every_unlisted_table_function_is_an_error() -> None:
    with duckdb.connect() as database:
        names = database.execute(
            "select distinct function_name from duckdb_functions() where function_type in ('table', 'table_macro', 'pragma')"
        ).fetchall()
        for (name,) in names:
            if name in ("range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree"):
                continue
            with pytest.raises(QueryError):
                check_query(database, f'from "{name}"()', TABLES)


@pytest.mark.parametrize(
    "sql", ["from read_text('/etc/passwd')", "from '/etc/passwd'", "set lock_configuration = false"]
)
def test_locked_down_database_rejects_by_itself(sql: str) -> None:
    with duckdb.connect() as database:
        for statement in lockdown_sql(["s3://lake/"]):
            database.execute(statement)
        with pytest.raises(duckdb.Error):
            database.execute(sql)
