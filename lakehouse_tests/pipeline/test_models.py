"""A model's days hold what its SELECT gives for the days it reads, and are stale exactly when those have changed."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from lakehouse.engine.connection import scan_sql
from lakehouse.errors import ModelError, SchemaChangeError
from lakehouse.models.model import Model
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.model_checks import evaluate_checks
from lakehouse.pipeline.model_staleness import is_stale, stale_days
from lakehouse.pipeline.model_tables import replace_table_of_model
from lakehouse.pipeline.models import write_model
from lakehouse.storage.iceberg.schema import TableSpec
from lakehouse.storage.objects.store import Objects, object_key
from lakehouse_tests.pipeline.modelled import check, only, write_models
from lakehouse_tests.pipeline.own import Own, noon, payment, span

FIRST = date(2025, 3, 1)
DAYS = span(FIRST, 5)


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    own = make_stream()
    for number, day in enumerate(DAYS):
        own.land([payment(f"{day}-{n}", noon(day), account_id=f"a{n % 2}") for n in range(number + 1)], noon(day))
    own.bronze()
    own.clean(*DAYS)
    return own


def _rows(lake: Lake, name: str) -> list[tuple[Any, ...]]:
    with lake.engine.cursor() as cursor:
        return sorted(cursor.execute(f"from {scan_sql(lake.tables.load(name))}").fetchall())


def _land_late(own: Own, day: date) -> None:
    own.land([payment("late", noon(day))], noon(DAYS[-1]) + timedelta(days=1))
    own.bronze()
    own.clean(day)


def test_late_day_makes_the_days_that_read_it_stale(own: Own, tmp_path: Path) -> None:
    name = f"gold.{own.name}_week"
    text = f"""/*
description: Payments of a day and of the day before it.
look_back: 1
*/
select days.dt, count(*) as payments
from (select distinct dt from silver.{own.name}) as days
join silver.{own.name} as events on events.dt between days.dt - 1 and days.dt
group by all
"""
    model = only(check(own.lake, write_models(tmp_path, {f"gold/{own.name}_week.sql": text})))
    assert stale_days(own.lake, model) == DAYS
    write_model(own.lake, model, DAYS)
    assert _rows(own.lake, name) == [(day, 2 * n + 1) for n, day in enumerate(DAYS)]
    assert stale_days(own.lake, model) == []

    _land_late(own, DAYS[2])
    assert stale_days(own.lake, model) == DAYS[2:4]
    write_model(own.lake, model, stale_days(own.lake, model))
    assert [payments for _, payments in _rows(own.lake, name)] == [1, 3, 6, 8, 9]
    assert stale_days(own.lake, model) == []


def test_chain_with_a_whole_table_is_stale_by_layers(own: Own, tmp_path: Path) -> None:
    files = {
        f"gold/{own.name}_accounts.sql": f"""/*
description: Accounts.
partition: none
*/
select account_id, min(dt) as since from silver.{own.name} group by all""",
        f"serving/{own.name}_shares.sql": f"""/*
description: Payments of each account by day.
*/
select dt, account_id, any_value(since) as since, count(*) as payments
from silver.{own.name} join gold.{own.name}_accounts using (account_id) group by all""",
    }
    checked = check(own.lake, write_models(tmp_path, files))
    assert checked.models.problems == ()
    accounts, shares = checked.models.by_name.values()
    assert is_stale(own.lake, accounts)
    write_model(own.lake, accounts, ())
    write_model(own.lake, shares, DAYS)
    assert not is_stale(own.lake, accounts)
    assert _rows(own.lake, accounts.name) == [("a0", DAYS[0]), ("a1", DAYS[1])]
    assert (stale_days(own.lake, shares), len(_rows(own.lake, shares.name))) == ([], 9)

    _land_late(own, DAYS[3])
    assert (is_stale(own.lake, accounts), stale_days(own.lake, shares)) == (True, [DAYS[3]])
    write_model(own.lake, accounts, ())
    assert stale_days(own.lake, shares) == DAYS, "each day reads the whole table"


def test_changed_sql_makes_every_day_stale_and_white_space_none(own: Own, tmp_path: Path) -> None:
    def model(sql: str) -> Model:
        text = f"/*\ndescription: Payments.\n*/\n{sql}"
        return only(check(own.lake, write_models(tmp_path, {f"gold/{own.name}_n.sql": text})))

    first = model(f"select dt, count(*) as n from silver.{own.name} group by dt")
    write_model(own.lake, first, DAYS)
    assert stale_days(own.lake, model(f"SELECT dt,\n count(*) as n -- all\nfrom silver.{own.name} group by dt;")) == []
    assert stale_days(own.lake, model(f"select dt, 2 * count(*) as n from silver.{own.name} group by dt")) == DAYS


def test_row_of_another_day_fails_the_run_and_leaves_the_table(own: Own, tmp_path: Path) -> None:
    text = f"/*\ndescription: Moved.\n*/\nselect (dt + 1)::date as dt, 1 as one from silver.{own.name}"
    model = only(check(own.lake, write_models(tmp_path, {f"gold/{own.name}_moved.sql": text})))
    with pytest.raises(ModelError, match=r"has a row of 2025-03-02, which is not among the days .* 2025-03-01"):
        write_model(own.lake, model, DAYS)
    assert _rows(own.lake, model.name) == []


def test_history_has_a_row_for_each_version(own: Own, tmp_path: Path) -> None:
    text = f"""/*
description: The status of each account over time.
history: {{key: account_id, version: event_time, deleted: "status = 'declined'"}}
*/
select account_id, event_time, status from silver.{own.name}
"""
    model = only(check(own.lake, write_models(tmp_path, {f"silver/{own.name}_status.sql": text})))
    own.land([payment("x", noon(DAYS[-1]) + timedelta(hours=1), account_id="a0", status="declined")], noon(DAYS[-1]))
    own.bronze()
    own.clean(DAYS[-1])
    write_model(own.lake, model, ())
    ended = noon(DAYS[-1]).replace(tzinfo=None) + timedelta(hours=1)
    assert [(row[0], row[3].date(), row[4], row[5]) for row in _rows(own.lake, model.name)] == [
        ("a0", DAYS[0], ended, False),
        ("a1", DAYS[1], None, True),
    ]


def test_checks_count_violations_of_the_written_days(own: Own, tmp_path: Path) -> None:
    text = f"""/*
description: Payments.
key: [dt, account_id]
checks:
  accepted: {{account_id: [a0]}}
  relationship: {{account_id: silver.{own.name}.event_id}}
  row_count: 0.5
  nothing: {{few: "select * from this where payments > 2"}}
*/
select dt, case when dt > date '2025-03-04' then null else account_id end as account_id, count(*) as payments
from silver.{own.name} group by dt, account_id"""
    model = only(check(own.lake, write_models(tmp_path, {f"gold/{own.name}_checked.sql": text})))
    write_model(own.lake, model, DAYS)
    found = {result.check.name: result.violations for result in evaluate_checks(own.lake, model, DAYS[1:])}
    assert found == {
        "key": 1, "not_null": 2, "accepted_account_id": 1, "relationship_account_id": 2, "row_count": 1, "few": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("gold/a.sql", "select 1", "must start with a /* … */ comment"),
        ("gold/a.sql", "/*\nfoo: 1\n*/ select 1", "line 1: description: Field required"),
        ("gold/a.sql", "/*\ndescription: x\nlook_back: -1\n*/ select 1", "line 3: look_back: Input should be greater"),
        ("gold/a.sql", "/*\ndescription: [\n*/ select 1", "line 3: the header is not YAML"),
        ("gold/a.sql", "/*\ndescription: x\n*/\nselect *\nfrm silver.b", 'line 5: syntax error at or near "silver"'),
        ("gold/a.sql", "/*\ndescription: x\n*/\ndrop table silver.b", "must be one SELECT"),
        ("gold/a.sql", "/*\ndescription: x\n*/\nselect *\nfrom silver.nope", "line 5: there is no table silver.nope; the n"),
        ("gold/a.sql", "/*\ndescription: x\n*/\nselect *\nfrom {name}", "line 5: {name} has no layer"),
        ("gold/a.sql", "/*\ndescription: x\n*/\nselect dt,\nnope from silver.{name}", 'line 5: Binder Error: Referenced'),
        ("gold/a.sql", "/*\ndescription: x\n*/\nselect 1 as n from silver.{name}", "must give a column dt; or say part"),
        ("gold/a.sql", "/*\ndescription: x\n*/\nfrom gold.a", "line 4: reads itself: gold.a reads gold.a"),
        ("silver/{name}.sql", "/*\ndescription: x\n*/\nfrom bronze.{name}", "silver.{name} is a table or view of a stream"),
        ("serving/live_{name}_daily.sql", "/*\ndescription: x\n*/\nfrom silver.{name}", "is a table or view of a stream"),
        ("serving/stream_health.sql", "/*\ndescription: x\n*/\nfrom silver.{name}", "is a table or view of a stream"),
        ("bronze/a.sql", "/*\ndescription: x\n*/\nfrom silver.{name}", "bronze is no layer of models"),
        ("gold/A b.sql", "/*\ndescription: x\n*/\nfrom silver.{name}", "A b is no name of a table"),
        ("gold/a.sql", "/*\ndescription: x\nkey: b\n*/\nselect dt from silver.{name}", "the header names b, but the columns"),
        ("gold/a.sql", "/*\ndescription: x\n*/\nselect * from serving.unified_{name}", "A model reads tables, not views"),
        ("gold/a.sql", "/*\ndescription: x\n*/\n-- chart: pie\nfrom silver.{name}", "line 4: chart: pie is no kind of chart"),
        ("gold/a.sql", "--x\n/*\ndescription: x\n*/\n--chart: number y=n\nfrom silver.{name}", "line 5: chart: there is no col"),
        ("gold/a.sql", "/*\ndescription: x\n*/\nselect * from realtime.{name}", "is kept for some days only, read silver"),
    ],
)  # fmt: skip
def test_wrong_model_is_left_out_with_file_line_and_reason(
    own_tables: Own, tmp_path: Path, name: str, text: str, problem: str
) -> None:
    fill = own_tables.name
    right = f"/*\ndescription: x\n*/\nselect dt from silver.{fill}"
    name, text = (part.replace("{name}", fill) for part in (name, text))
    folder = write_models(tmp_path, {name: text, "gold/right.sql": right})
    checked = check(own_tables.lake, folder)
    assert [*checked.models.by_name] == ["gold.right"]
    (found,) = checked.models.problems
    assert found.startswith(f"{folder / name}: ")
    assert problem.replace("{name}", fill) in found


@pytest.fixture(scope="module")
def own_tables(make_shared_stream: Callable[..., Own]) -> Own:
    return make_shared_stream()


def test_models_that_read_each_other_or_a_wrong_one_are_left_out(own_tables: Own, tmp_path: Path) -> None:
    def reading(name: str) -> str:
        return f"/*\ndescription: x\n*/\nselect dt from {name}"

    files = {"gold/a.sql": reading("gold.b"), "gold/b.sql": reading("serving.c"), "serving/c.sql": reading("gold.a")}
    files |= {"gold/d.sql": reading("gold.a"), "gold/e.sql": reading(f"silver.{own_tables.name}")}
    checked = check(own_tables.lake, write_models(tmp_path, files))
    assert [*checked.models.by_name] == ["gold.e"]
    assert len(checked.models.problems) == 2
    assert "gold.a" in checked.models.problems[1]


def _python(own: Own, body: str, header: str = "") -> str:
    return (
        f'"""\ndescription: In Python.\nreads: [silver.{own.name}]\n{header}"""\n\nimport pyarrow as pa\n\n\n'
        f"def model(tables):\n    payments = tables['silver.{own.name}']\n    {body}\n"
    )


@pytest.mark.parametrize(
    "body",
    [
        "return payments.aggregate('dt, count(*) as n', 'dt')",
        "return payments.aggregate('dt, count(*) as n', 'dt').to_arrow_table()",
        "return payments.df().assign(dt=lambda rows: rows.dt.dt.date).groupby('dt').size().rename('n').reset_index()",
    ],
)
def test_function_computes_days(own: Own, tmp_path: Path, body: str) -> None:
    text = _python(own, body, "columns: {dt: date, n: bigint}\n" if "assign" in body else "")
    model = only(check(own.lake, write_models(tmp_path, {f"gold/{own.name}_py.py": text})))
    write_model(own.lake, model, DAYS[1:3])
    assert _rows(own.lake, model.name) == [(DAYS[1], 2), (DAYS[2], 3)]
    write_model(own.lake, model, stale_days(own.lake, model))
    assert [n for _, n in _rows(own.lake, model.name)] == [1, 2, 3, 4, 5]
    again = only(check(own.lake, write_models(tmp_path, {f"gold/{own.name}_py.py": f"{text}\n# a comment\n"})))
    assert stale_days(own.lake, again) == []


def test_function_of_a_whole_table(own: Own, tmp_path: Path) -> None:
    text = _python(own, "return payments.aggregate('count(*) as n')", "partition: none\n")
    model = only(check(own.lake, write_models(tmp_path, {f"gold/{own.name}_py.py": text})))
    write_model(own.lake, model, ())
    assert _rows(own.lake, model.name) == [(15,)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = 1\n", "must start with a docstring"),
        ('"""\ndescription: x\n"""\ndef model(tables): ...\n', "must list the tables that it reads"),
        ('"""\ndescription: x\nreads: silver.{name}\n"""\n', "must define a function model(tables)"),
        ('"""\ndescription: x\nreads: silver.{name}\n"""\ndef model(tables)\n', "line 5: SyntaxError: expected ':'"),
        ('"""\ndescription: x\nreads: silver.{name}\n"""\nimport nope\ndef model(tables): ...\n', "line 5: ModuleNotFoundError"),
        ('"""\ndescription: x\nreads: silver.{name}\n"""\ndef model(tables):\n    return tables["b"]\n', "line 6: KeyError: 'b'"),
        ('"""\ndescription: x\nreads: silver.{name}\n"""\ndef model(tables):\n    return 7\n', "returned a int; return a DuckDB"),
        ('"""\ndescription: x\nreads: silver.{name}\ncolumns: {dt: dat}\n"""\ndef model(tables): ...\n', "Type with name dat does"),
        ('"""\ndescription: x\nreads: silver.nope\n"""\ndef model(tables): ...\n', "there is no table silver.nope"),
    ],
)  # fmt: skip
def test_wrong_python_is_left_out_with_file_line_and_reason(
    own_tables: Own, tmp_path: Path, text: str, problem: str
) -> None:
    folder = write_models(tmp_path, {"gold/a.py": text.replace("{name}", own_tables.name)})
    checked = check(own_tables.lake, folder)
    assert not checked.models.by_name
    (found,) = checked.models.problems
    assert found.startswith(f"{folder}/gold/a.py: ")
    assert problem in found


def test_table_of_changed_columns_is_made_anew_when_asked(own: Own, tmp_path: Path) -> None:
    def model(columns: str) -> Model:
        text = f"/*\ndescription: Payments.\n*/\nselect dt, {columns} from silver.{own.name} group by dt"
        return only(check(own.lake, write_models(tmp_path, {f"gold/{own.name}_n.sql": text})))

    write_model(own.lake, model("count(*) as n, 1 as one"), DAYS)
    with pytest.raises(
        SchemaChangeError, match=rf"column one is gone .* lakehouse models run gold.{own.name}_n --replace"
    ):
        model("count(*) as n")
    before = own.lake.tables.load(f"gold.{own.name}_n").location()
    replace_table_of_model(own.lake, TableSpec(f"gold.{own.name}_n", (("dt", "DATE"), ("n", "BIGINT")), ("dt",)))
    again = model("count(*) as n")
    assert stale_days(own.lake, again) == DAYS
    write_model(own.lake, again, DAYS)
    assert _rows(own.lake, again.name) == [(day, n + 1) for n, day in enumerate(DAYS)]
    after = own.lake.tables.load(again.name)
    stored = [info.key for info in Objects.from_url(own.lake.connection, before).list(object_key(before))]
    assert len([key for key in stored if key.endswith(".parquet")]) == (len(DAYS) if before == after.location() else 0)


def test_two_changes_of_one_version_fail_a_history_and_leave_the_table(own: Own, tmp_path: Path) -> None:
    text = f"""/*
description: The payments of each account by day.
history: {{key: account_id, version: dt}}
*/
select account_id, dt, event_id from silver.{own.name}
"""
    model = only(check(own.lake, write_models(tmp_path, {f"silver/{own.name}_last.sql": text})))
    with pytest.raises(ModelError, match="two changes have one account_id and dt; name a version that orders them"):
        write_model(own.lake, model, ())
    assert _rows(own.lake, model.name) == []
