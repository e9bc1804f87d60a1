"""An audit finds rows of a model that its SELECT does not give, and says how to compute them again."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

from lakehouse.auditing.audit import audit
from lakehouse.pipeline.models import write_model
from lakehouse.pipeline.row_changes import change_rows
from lakehouse.storage.iceberg.snapshots import sequence_of
from lakehouse_tests.pipeline.modelled import check, write_models
from lakehouse_tests.pipeline.own import Own, noon, payment, span

DAYS = span(date(2025, 3, 1), 2)


def test_changed_rows_of_models_are_found(make_stream: Callable[..., Own], tmp_path: Path) -> None:
    own = make_stream()
    own.land([payment(f"{day}-{n}", noon(day), account_id=f"a{n}") for day in DAYS for n in range(2)], noon(DAYS[1]))
    own.bronze()
    own.clean(*DAYS)
    files = {
        f"gold/{own.name}_n.sql": f"/*\ndescription: x\n*/ select dt, count(*) as n from silver.{own.name} group by dt",
        f"gold/{own.name}_sum.sql": f"/*\ndescription: x\npartition: none\n*/ select sum(n) as n from gold.{own.name}_n",
    }
    own.lake.models = check(own.lake, write_models(tmp_path, files))
    by_day, total = own.lake.models.models.by_name.values()
    write_model(own.lake, by_day, DAYS)
    write_model(own.lake, total, ())

    def found() -> list[tuple[str, str, str, str]]:
        report = audit(own.lake, [own.stream])
        return [(each.stream, each.partition, each.state, each.fix) for each in report.findings if each.layer == "gold"]

    own.below(*DAYS)
    assert found() == []
    change_rows(own.lake, by_day.name, f"dt = date '{DAYS[1]}'", {"n": "7"}, run_id="test")
    again = f"`lakehouse models run {total.name} --again`"
    assert found() == [
        (f"{own.name}_n", str(DAYS[1]), "wrong", f"`lakehouse models run {by_day.name} --days {DAYS[1]}..{DAYS[1]}`"),
        (f"{own.name}_sum", "whole", "stale", again),
    ]
    write_model(own.lake, by_day, DAYS)
    before = sequence_of(own.lake.tables.load(total.name))
    write_model(own.lake, total, ())
    assert sequence_of(own.lake.tables.load(total.name)) == before + 1
    assert found() == []
