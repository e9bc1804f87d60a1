"""Tables of the lake in a real PostgreSQL: each partition once, whatever is repeated, killed or changed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import pytest
import sqlalchemy
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lakehouse.engine.connection import scan_sql
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.commits import replace_days
from lakehouse.pipeline.lake import Lake
from lakehouse.publishing.audit import PublishedReport, audit_published
from lakehouse.publishing.postgres import CopyText, open_postgres
from lakehouse.publishing.publish import PublishedTable, publish, tables_named
from lakehouse.publishing.targets import Load, Target
from lakehouse.publishing.warehouses import open_target
from lakehouse.storage.iceberg.schema import TableSpec
from lakehouse_tests.cli.conftest import Done, run

FIRST = date(2025, 11, 1)
WAREHOUSE = "warehouse"
COLUMNS = (
    ("dt", "DATE"),
    ("id", "BIGINT"),
    ("amount", "DECIMAL(18,2)"),
    ("ratio", "DOUBLE"),
    ("good", "BOOLEAN"),
    ("at", "TIMESTAMP"),
    ("text", "VARCHAR"),
    ("tags", "VARCHAR[]"),
    ("labels", "MAP(VARCHAR, VARCHAR)"),
)
TEXTS = (
    "plain",
    "",
    r"\N",
    r"\.",
    "tab\tline\nreturn\rback\\slash",
    "quote \" and '",
    "naïve 🙂",
    r"a\nb",
    "null",
    "nul\0end",
)
"""Texts that COPY's format could read as something else."""

Warehouse = Callable[[], Target]


@pytest.fixture
def lake(shared_lake: Lake, postgres: str) -> Iterator[Lake]:
    """The shared lake with a database of PostgreSQL that no other test uses."""
    database = f"d{os.urandom(6).hex()}"
    engine = sqlalchemy.create_engine(_driver(postgres), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"create database {database} encoding 'UTF8' template template0")
    engine.dispose()
    url = postgres.removesuffix("/postgres") + f"/{database}"
    lake = Lake(shared_lake.settings.model_copy(update={"publish": {WAREHOUSE: url}}), shared_lake.connection)
    yield lake
    lake.engine.close()


def _driver(url: str) -> str:
    return url.replace("postgresql:", "postgresql+psycopg2:")


@pytest.fixture
def table(lake: Lake) -> str:
    """A table of three days with values that are hard to copy."""
    name = f"gold.t{os.urandom(6).hex()}"
    lake.tables.ensure([TableSpec(name, COLUMNS, ("dt",))])
    _write(lake, name, *_days(3))
    return name


def _days(count: int) -> list[date]:
    return [FIRST + timedelta(days=n) for n in range(count)]


def _write(lake: Lake, name: str, *days: date, rows: int = 20, amount: str = "1.25") -> None:
    texts = (
        "["
        + ", ".join(f"'{text}'" for text in (t.replace("'", "''").replace("\0", "'||chr(0)||'") for t in TEXTS))
        + "]"
    )
    dates = "[" + ", ".join(f"date '{day}'" for day in days) + "]"
    select = f"""
    select
      dt, n as id, (n * {amount})::decimal(18,2) as amount, sqrt(n) as ratio, n % 3 = 0 as good,
      dt + n * interval '61.000001 seconds' as at, if(n % 11 = 10, null, {texts}[1 + n % {len(TEXTS)}]) as text,
      if(n % 5 = 0, null, [text, 'b']) as tags, map([coalesce(text, 'key')], [n::varchar]) as labels
    from (select unnest({dates}) as dt), range({rows}) r(n)
    """
    replace_days(lake, name, select, days)


def _publish(lake: Lake, name: str, **options: Any) -> PublishedTable:
    with open_target(lake.settings, WAREHOUSE) as target:
        return publish(lake, target, name, **options)


def _loads(lake: Lake, name: str) -> dict[str, Load]:
    with open_target(lake.settings, WAREHOUSE) as target:
        return dict(target.loads(name))


def _audit(lake: Lake) -> PublishedReport:
    return audit_published(lake)


def _run(lake: Lake, sql: str) -> list[tuple[Any, ...]]:
    engine = sqlalchemy.create_engine(_driver(lake.settings.publish[WAREHOUSE]))
    try:
        with engine.begin() as connection:
            result = connection.exec_driver_sql(sql)
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        engine.dispose()


def test_every_value_reaches_the_warehouse(lake: Lake, table: str) -> None:
    result = _publish(lake, table)
    assert (result.rows, result.loaded) == (60, [str(day) for day in _days(3)])
    with lake.engine.cursor() as cursor:
        columns = 'dt, id, amount, ratio, good, "at", replace(text, chr(0), chr(65533)), to_json(tags), to_json(labels)'
        wanted = cursor.execute(f"select {columns} from {scan_sql(lake.tables.load(table))} order by dt, id").fetchall()
    held = _run(lake, f"select * from {table} order by dt, id")
    assert [row[:7] for row in held] == [row[:7] for row in wanted]
    for row, expected in zip(held, wanted, strict=True):
        texts = [json.loads((text or "null").replace(r"\u0000", "\ufffd")) for text in expected[7:]]
        assert [*row[7:]] == texts
    report = _audit(lake)
    assert (report.differences, report.rows) == ([], {f"{WAREHOUSE}: {table}": 60})


def test_repeated_publish_changes_nothing(lake: Lake, table: str) -> None:
    _publish(lake, table)
    before = _loads(lake, table)
    again = _publish(lake, table)
    assert (again.changes, again.pending, again.rows) == ([], [], 0)
    assert _loads(lake, table) == before


def test_only_changed_days_are_loaded(lake: Lake, table: str) -> None:
    _publish(lake, table)
    before = _loads(lake, table)
    changed, added, emptied = FIRST, FIRST + timedelta(days=9), FIRST + timedelta(days=1)
    _write(lake, table, changed, amount="2.50")
    _write(lake, table, added)
    _write(lake, table, emptied, rows=0)
    assert {difference.state for difference in _audit(lake).differences} == {"stale"}
    result = _publish(lake, table)
    assert sorted(result.loaded) == sorted(map(str, (changed, added, emptied)))
    unchanged = str(FIRST + timedelta(days=2))
    assert _loads(lake, table)[unchanged] == before[unchanged]
    assert _run(lake, f"select dt, count(*), sum(amount) from {table} group by 1 order by 1") == [
        (changed, 20, 475),
        (FIRST + timedelta(days=2), 20, pytest.approx(237.5)),
        (added, 20, pytest.approx(237.5)),
    ]
    assert _audit(lake).differences == []


def test_table_without_days_is_one_partition(lake: Lake) -> None:
    name = f"gold.t{os.urandom(6).hex()}"
    lake.tables.ensure([TableSpec(name, (("id", "BIGINT"), ("text", "VARCHAR")), ())])
    assert _publish(lake, name).loaded == ["whole"]
    assert _audit(lake).differences == []


def test_new_and_widened_columns_are_followed(lake: Lake, table: str) -> None:
    _publish(lake, table)
    columns = [(name, "DECIMAL(20,2)" if name == "amount" else kind) for name, kind in COLUMNS]
    lake.tables.ensure([TableSpec(table, (*columns, ("note", "VARCHAR")), ("dt",))])
    result = _publish(lake, table)
    assert sorted(result.changes) == [
        f"{table}: added note text",
        f"{table}: amount is numeric(20,2), was numeric(18,2)",
    ]
    assert _audit(lake).differences == []
    assert _run(lake, f"select count(*), count(note) from {table}") == [(60, 0)]


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("update {} set amount = amount + 0.01 where id = 3 and dt = date '2025-11-01'", "sum(amount)"),
        ("update {} set text = upper(text) where text = 'plain' and dt = date '2025-11-01'", "digest(text)"),
        ("update {} set at = at + interval '1 microsecond' where id = 3 and dt = date '2025-11-01'", "sum(at)"),
        ("update {} set tags = null where id = 3 and dt = date '2025-11-01'", "count(tags)"),
        ("update {} set ratio = ratio + 0.001 where id = 3 and dt = date '2025-11-01'", "sum(ratio)"),
        ("delete from {} where dt = date '2025-11-01'", "rows 0 where the lake has 20"),
        ("insert into {} select * from {} where id = 3 and dt = date '2025-11-01'", "rows 21"),
    ],
)
def test_audit_finds_what_differs_and_publish_again_fixes_it(lake: Lake, table: str, damage: str, found: str) -> None:
    _publish(lake, table)
    _run(lake, damage.replace("{}", table))
    (difference,) = _audit(lake).differences
    assert (difference.state, difference.partition) == ("wrong", str(FIRST))
    assert found in difference.detail
    _publish(lake, table, again=True)
    assert _audit(lake).differences == []


KILLED = """
import os, signal, sys
from lakehouse.pipeline.lake import Lake
from lakehouse.publishing import postgres
from lakehouse.publishing.publish import publish
from lakehouse.publishing.warehouses import open_target
from lakehouse.settings import get_settings

reads, read = [], postgres.CopyText.read

def killed(self, size=-1):
    reads.append(read(self, size))
    if len(reads) == 4:  # the second day's rows are sent, and its transaction is open
        os.kill(os.getpid(), signal.SIGKILL)
    return reads[-1]

postgres.CopyText.read = killed
settings = get_settings()
with open_target(settings, "warehouse") as target:
    publish(Lake(settings), target, sys.argv[1])
"""


def test_killed_publish_is_resumed_and_no_day_is_loaded_twice(lake: Lake, table: str) -> None:
    variables = {
        "LAKEHOUSE_HOME": str(lake.settings.home),
        "LAKEHOUSE_PUBLISH": json.dumps(lake.settings.publish),
        "LAKEHOUSE_PROJECT": "none",
    }
    killed = subprocess.run(
        [sys.executable, "-P", "-c", KILLED, table], env=os.environ | variables, capture_output=True, timeout=120
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    before = _loads(lake, table)
    assert [*before] == [str(FIRST)]
    assert _run(lake, f"select dt, count(*) from {table} group by dt") == [(FIRST, 20)]
    assert _publish(lake, table).loaded == [str(day) for day in _days(3)[1:]]
    assert _loads(lake, table)[str(FIRST)] == before[str(FIRST)]
    assert _audit(lake).differences == []


def test_publishers_at_once_leave_each_day_whole(lake: Lake, table: str) -> None:
    def attempt(_: int) -> str:
        try:
            _publish(lake, table)
        except LakehouseError as error:
            return str(error)
        return ""

    for amount in ("1.25", "2.50"):  # days that are new to the warehouse, and days that it holds
        _write(lake, table, *_days(3), amount=amount)
        with ThreadPoolExecutor(4) as pool:
            errors = [error for error in pool.map(attempt, range(4)) if error]
        assert all("Another `lakehouse publish` to warehouse loads this partition" in error for error in errors)
        assert len(errors) < 4
        _publish(lake, table)
        assert _audit(lake).differences == []
        assert _run(lake, f"select count(*) from {table}") == [(60,)]


def test_table_of_someone_else_is_left_alone(lake: Lake, table: str) -> None:
    _run(lake, f"create schema gold; create table {table} (id int); insert into {table} values (1)")
    with pytest.raises(LakehouseError, match="rows that lakehouse did not publish"):
        _publish(lake, table)
    assert _run(lake, f"select * from {table}") == [(1,)]


def test_errors_say_what_to_do(lake: Lake) -> None:
    with pytest.raises(LakehouseError, match=r"no warehouse 'other'; there are: warehouse\. Name one by its URL"):
        open_target(lake.settings, "other")
    with pytest.raises(LakehouseError, match="mysql is no kind of warehouse; there are: postgresql"):
        open_target(lake.settings.model_copy(update={"publish": {"m": "mysql://h/d"}}), "m")
    with (
        pytest.raises(LakehouseError, match=r"w does not answer: .*refused.*Check its URL"),
        open_postgres("w", "postgresql://127.0.0.1:1/d"),
    ):
        pass
    with pytest.raises(LakehouseError, match=r"There is no table gold\.nothing"):
        tables_named(lake, ["gold.nothing"])


def test_commands_publish_and_audit(lake: Lake, table: str) -> None:
    def lakehouse(*words: str) -> Done:
        return run(lake.settings.home, *words, LAKEHOUSE_PUBLISH=json.dumps(lake.settings.publish))

    planned = lakehouse("publish", table, "--to", WAREHOUSE, "--dry-run")
    assert (planned.returncode, planned.stdout.splitlines()[-1]) == (0, "3 partitions would be loaded into warehouse.")
    (published,) = json.loads(lakehouse("publish", table, "--to", WAREHOUSE, "--json").stdout)
    assert (published["rows"], published["pending"]) == (60, [str(day) for day in _days(3)])
    assert lakehouse("publish", table, "--to", WAREHOUSE).stdout.endswith("0 partitions were loaded into warehouse.\n")
    audited = lakehouse("audit", "--published")
    assert (audited.returncode, audited.stdout.splitlines()[-1]) == (0, "3 published partitions are as in the lake.")
    _run(lake, f"delete from {table} where dt = date '{FIRST}'")
    differs = lakehouse("audit", "--published")
    assert differs.returncode == 1
    assert f"wrong: {table} {FIRST} in {WAREHOUSE}: rows 0 where the lake has 20" in differs.stdout
    failed = lakehouse("publish", table, "--to", "other")
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)


@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), max_size=8))
def test_copy_text_carries_any_text(shared_lake: Lake, postgres: str, texts: list[str | None]) -> None:
    with open_postgres("w", postgres) as target, target._transaction() as cursor, shared_lake.engine.cursor() as source:
        source.execute("create or replace temp table texts (n int, text varchar)")
        if texts:
            source.executemany("insert into texts values (?, ?)", [[n, text] for n, text in enumerate(texts)])
        cursor.execute("create temp table texts (n int, text text) on commit drop")
        columns = (("n", "int"), ("text", "varchar"))
        cursor.copy_expert("copy texts from stdin", CopyText(source, "select * from texts", columns))
        cursor.execute("select text from texts order by n")
        assert [row[0] for row in cursor.fetchall()] == texts
