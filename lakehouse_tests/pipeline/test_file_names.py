"""The name of a loaded file goes with its rows into bronze and quarantine."""

import os
from collections.abc import Callable
from datetime import UTC, date, datetime
from io import StringIO
from pathlib import Path

import pytest

from lakehouse.auditing.audit import audit
from lakehouse.cli.rejected_rows import read_rows, write_rows
from lakehouse.engine.connection import scan_sql
from lakehouse.landing.upload import upload
from lakehouse.pipeline import quarantine
from lakehouse.pipeline.table_specs import table_specs
from lakehouse.serving.query.rejects import samples_sql
from lakehouse_tests.pipeline.own import Own, noon, payment

DAY = date(2021, 6, 1)
HEADER = "event_id,event_time,account_id,amount,currency,type,status\n"
GOOD, BAD = (f"{{}},{DAY}T12:00:00Z,a,{amount},EUR,payment,settled\n" for amount in ("1.50", "-1"))


def _load(own: Own, folder: Path, name: bytes, text: str) -> None:
    path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
    path.write_text(HEADER + text)
    upload(own.lake.objects, own.name, path)


def test_file_name_is_with_every_row_of_bronze_and_quarantine(make_stream: Callable[..., Own], tmp_path: Path) -> None:
    own = make_stream()
    _load(own, tmp_path, "Füße und\tmehr.csv".encode(), GOOD.format(1) + BAD.format(2))
    _load(own, tmp_path, b"caf\xe9.csv", GOOD.format(3))
    own.drop((HEADER + BAD.format(4)).encode(), "2021/dropped.csv")
    own.land([payment("5", noon(DAY)), payment("6", noon(DAY), amount="-1"), "{"], datetime.now(UTC))
    own.bronze()
    own.clean(DAY, datetime.now(UTC).date())
    files = {"1": "Füße und\tmehr.csv", "2": "Füße und\tmehr.csv", "3": "caf\\xe9.csv", "4": "dropped.csv", "5": None}
    found = dict(own.ask("select event_id, _file from {bronze} where event_id is not null"))
    assert found == files | {"6": None}
    rejected = [row.file for row in quarantine.rejected_rows(own.lake, own.stream)]
    assert sorted(map(str, rejected)) == ["Füße und\tmehr.csv"] * 2 + ["None"] * 3 + ["dropped.csv"]
    with own.lake.engine.cursor() as cursor:
        sql = samples_sql(own.lake, own.stream)
        sampled = cursor.execute(sql, {"since": None, "reason": None, "limit": 9}).to_arrow_table().to_pylist()
    assert sorted(map(str, (row["file"] for row in sampled))) == sorted(map(str, rejected))
    assert audit(own.lake, [own.stream]).wrong == []


@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_export_names_the_file_and_replay_ignores_it(
    make_stream: Callable[..., Own], tmp_path: Path, form: str
) -> None:
    own = make_stream()
    _load(own, tmp_path, b"a.csv", GOOD.format(1) + BAD.format(2))
    own.bronze()
    own.clean(DAY)
    exported = StringIO()
    assert write_rows(own.stream, quarantine.rejected_rows(own.lake, own.stream), exported, form) == 2
    assert exported.getvalue().count("a.csv") == 2
    file = tmp_path / f"rows.{form}"
    file.write_text(exported.getvalue())
    assert [sorted(fields)[:2] for _, fields in read_rows(own.stream, file)] == [["account_id", "amount"]] * 2


def test_tables_of_earlier_releases_gain_the_column_and_compute_nothing_again(
    make_stream: Callable[..., Own], tmp_path: Path
) -> None:
    own = make_stream()
    for layer in ("bronze", "quarantine"):
        with own.lake.tables.load(f"{layer}.{own.name}").update_schema(allow_incompatible_changes=True) as change:
            change.delete_column("_file")
    _load(own, tmp_path, b"a.csv", GOOD.format(1) + BAD.format(2))

    def compute() -> list[str | None]:
        own.bronze()
        own.clean(DAY)
        assert audit(own.lake, [own.stream]).wrong == []
        return [row.file for row in quarantine.rejected_rows(own.lake, own.stream)]

    assert compute() == [None, None]
    assert samples_sql(own.lake, own.stream)
    before = [own.snapshots(layer) for layer in ("bronze", "silver", "quarantine")]
    added = own.lake.tables.ensure(table_specs([own.stream]))
    assert added == [f"{layer}.{own.name}: added _file" for layer in ("bronze", "quarantine")]
    assert own.stale() == []
    own.bronze()
    assert [own.snapshots(layer) for layer in ("bronze", "silver", "quarantine")] == before
    assert audit(own.lake, [own.stream]).wrong == []
    _load(own, tmp_path, b"b.csv", BAD.format(3))
    assert compute() == [None, None, "b.csv"]
    with own.lake.engine.cursor() as cursor:
        scan = scan_sql(own.lake.tables.load(f"quarantine.{own.name}"))
        assert cursor.execute(f"select count(_file) from {scan}").fetchall() == [(1,)]
