"""Declared look-ups: a file of a key and a SELECT is published by key; a wrong one says where, and the last one stays."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from lakehouse.engine.connection import scan_sql
from lakehouse.errors import LookupFileError
from lakehouse.pipeline.commits import replace_days
from lakehouse.serving.lookups.cache import LookupCache
from lakehouse.serving.lookups.checking import published_sql
from lakehouse.serving.lookups.declaration import Lookup, discover_lookups, read_lookup
from lakehouse.serving.lookups.index import LookupIndexes
from lakehouse.serving.lookups.publish import (
    declared_lookups,
    drop_earlier_versions,
    is_stale,
    refresh_declared,
)
from lakehouse.serving.lookups.versions import list_versions, version_key
from lakehouse_tests.pipeline.own import Own, noon, payment

DAY = date(2022, 3, 1)
HEADER = "-- key: account_id\n-- description: What an account has paid.\n\n"
SELECT = "select account_id, count(*) as payments, sum(amount) as paid\nfrom silver.STREAM\ngroup by account_id\n"


@pytest.fixture(scope="module")
def own(make_shared_stream: Callable[..., Own]) -> Own:
    """A stream with rows in silver, whose lake declares the look-ups of a folder beside it."""
    own = make_shared_stream()
    amounts = {"a": "1.50", "a/b é": "2.00", "17": "3.00"}
    own.land([payment(key, noon(DAY), account_id=key, amount=amount) for key, amount in amounts.items()], noon(DAY))
    own.bronze()
    own.clean(DAY)
    return own


@pytest.fixture
def folder(own: Own, tmp_path: Path) -> Path:
    own.lake.settings = own.lake.settings.model_copy(update={"lookups": (tmp_path,), "home": tmp_path / "home"})
    return tmp_path


def _write(folder: Path, own: Own, text: str, name: str = "accounts") -> Path:
    # Each test has a name of its own, because they share the bucket.
    path = folder / f"{name}_{own.name}_{folder.name.rstrip('0123456789')[:30]}.sql".lower()
    path.write_text(text.replace("STREAM", own.name))
    return path


def _declared(own: Own, path: Path) -> Lookup:
    return declared_lookups(own.lake).by_name[path.stem]


def _answers(own: Own, name: str, folder: Path) -> dict[str, Any]:
    LookupCache(own.lake, folder / "copies").refresh()
    index = LookupIndexes(folder / "copies").get(name)
    assert index is not None
    return {key: json.loads(index.get(key) or b"") for key in index.ids()}


def test_rows_are_answered_by_key_and_follow_their_file(own: Own, folder: Path) -> None:
    path = _write(folder, own, HEADER + SELECT)
    lookup = _declared(own, path)
    assert (lookup.streams, lookup.shared_tables) == ((own.name,), ())
    assert is_stale(own.lake, lookup)
    done = refresh_declared(own.lake, lookup)
    assert _answers(own, path.stem, folder) == {
        "17": {"account_id": "17", "payments": 1, "paid": "3.00"},
        "a": {"account_id": "a", "payments": 1, "paid": "1.50"},
        "a/b é": {"account_id": "a/b é", "payments": 1, "paid": "2.00"},
    }
    assert not is_stale(own.lake, lookup)
    path.write_text(path.read_text().replace("What an", "Whatever an").replace("select", "SELECT  "))
    assert refresh_declared(own.lake, _declared(own, path)).version == done.version, "the SQL means the same"

    path.write_text(path.read_text() + ";\nselect id, payments * 10 as tens from lookup;\n")
    lookup = _declared(own, path)
    assert is_stale(own.lake, lookup)
    refresh_declared(own.lake, lookup)
    assert _answers(own, path.stem, folder)["a"] == {"id": "a", "tens": 10}
    assert len(list_versions(own.lake.objects, path.stem)) == 1, "the other definition's version is gone"
    path.unlink()
    LookupCache(own.lake, folder / "copies").refresh()


def test_views_and_types_without_parquet_are_answered(own: Own, folder: Path) -> None:
    select = """select account_id as "Id", sum(1) as n, {x: [1::hugeint]} as nested,
      uuid '00000000-0000-0000-0000-00000000000a' as u,
      'a'::enum('a', 'b') as e, max(event_time)::timestamp_ns as at, interval 1 day as i, '{"a": 1}'::json as j
    from serving.unified_STREAM where account_id = '17' group by account_id"""
    path = _write(folder, own, f"/*\nkey: id\ndescription: 'All: types.'\n*/\n{select}", "views")
    refresh_declared(own.lake, _declared(own, path))
    assert _answers(own, path.stem, folder) == {
        "17": {"id": "17", "n": 1, "nested": {"x": [1]}, "u": "00000000-0000-0000-0000-00000000000a", "e": "a"}
        | {"at": "2022-03-01T12:00:00Z", "i": "1 day", "j": '{"a": 1}'}
    }


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        pytest.param("select 1", 1, "must start with a comment that has description", id="no header"),
        pytest.param("-- description: x\n" + SELECT, 1, "that has key, such as: -- key: …", id="no key"),
        pytest.param("/*\nkey: a\ndescription: [\n*/ select 1", 4, "the header is not YAML", id="YAML"),
        pytest.param("-- key: a\n-- owner: x\n-- description: x\n" + SELECT, 2, "owner: Extra inputs", id="unknown field"),
        pytest.param(HEADER + "select account_id\nfrom where", 5, 'syntax error at or near "where"', id="syntax"),
        pytest.param(HEADER, 1, "must hold one SELECT", id="no SELECT"),
        pytest.param(HEADER + "drop table silver.STREAM", 1, "must hold one SELECT", id="no read"),
        pytest.param(HEADER + "select 1 as account_id", 4, "must read a table", id="no table"),
        pytest.param(HEADER + "from STREAM", 4, "write a table with its layer, such as silver.", id="no layer"),
        pytest.param(HEADER + "select * from silver.STREAM,\n'/etc/passwd'", 5, "there is no table /etc/passwd", id="file"),
        pytest.param(HEADER + "select * from silver.STREAM, read_csv('x')", 4, "read_csv() is not allowed", id="function"),
        pytest.param(HEADER + "select *\nfrom silver.STREAMS", 5, "there is no table silver.", id="unknown table"),
        pytest.param(HEADER + "select account_id,\n  x\nfrom silver.STREAM", 5, 'column "x" not found', id="column"),
        pytest.param(HEADER + "select 1 as n from silver.STREAM", 1, "the key account_id is no column", id="key"),
        pytest.param(HEADER + "select account_id, 1 as ID from silver.STREAM", 1, "rename it", id="another id"),
        pytest.param(HEADER + SELECT + ";select 1 as id from silver.STREAM", 7, "reads silver.", id="second reads more"),
        pytest.param(HEADER + SELECT + ";\nselect payments\nfrom lookup", 9, "must give lookup's column id", id="second"),
        pytest.param(HEADER + SELECT + ";\nselect id, x\nfrom lookup", 8, 'column "x" not found', id="second's column"),
    ],
)  # fmt: skip
def test_wrong_file_is_refused_with_its_line(own: Own, folder: Path, text: str, line: int, message: str) -> None:
    path = _write(folder, own, text)
    with pytest.raises(LookupFileError) as refused:
        published_sql(own.lake, read_lookup(path))
    assert str(refused.value).startswith(f"{path}: line {line}: ")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        pytest.param("currency", "is not unique: 1 of its values have more than one row, such as 'EUR' (3 rows)", id="twice"),
        pytest.param("nullif(account_id, 'a')", "is null in 1 row", id="null"),
    ],
)  # fmt: skip
def test_key_that_identifies_no_row_keeps_the_last_version(own: Own, folder: Path, column: str, message: str) -> None:
    path = _write(folder, own, HEADER + SELECT, "keys")
    done = refresh_declared(own.lake, _declared(own, path))
    path.write_text(f"{HEADER}select {column} as account_id from silver.{own.name}")
    with pytest.raises(LookupFileError) as refused:
        refresh_declared(own.lake, _declared(own, path))
    assert str(refused.value) == f"{path}: line 1: the key account_id {message}. The last good version stays."
    assert list_versions(own.lake.objects, path.stem)[-1] == done.version
    path.unlink()


def test_names_are_used_once_and_the_others_are_read(folder: Path, own: Own) -> None:
    for place in ("one", "two"):
        (folder / place).mkdir()
        for name in ("same", "retail", "customers", "Odd", place):
            (folder / place / f"{name}.sql").write_text(HEADER + SELECT)
    declared = discover_lookups([folder / "one", folder / "two", folder / "three"], ["retail", "orders"])
    assert declared.by_name.keys() == {"customers", "one", "same", "two"}
    assert declared.by_name["customers"].is_shipped
    assert [problem.removeprefix(f"{folder}/").split("; ")[0] for problem in declared.problems] == [
        "one/Odd.sql: line 1: 'Odd' can't be a look-up's name: use small letters, digits and underscores.",
        "one/customers.sql: line 1: there is a look-up customers already, in the package",
        "one/retail.sql: line 1: there is a stream retail, which has a look-up of that name.",
        "two/Odd.sql: line 1: 'Odd' can't be a look-up's name: use small letters, digits and underscores.",
        "two/customers.sql: line 1: there is a look-up customers already, in the package",
        "two/retail.sql: line 1: there is a stream retail, which has a look-up of that name.",
        f"two/same.sql: line 1: there is a look-up same already, in {folder}/one/same.sql",
        "three: is not a folder. LAKEHOUSE_LOOKUPS lists folders of .sql files.",
    ]
    assert "customers" not in discover_lookups([], ["retail"]).by_name


def test_customers_of_an_earlier_release_are_current(own: Own, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(folder, own, HEADER + SELECT, "earlier")
    lookup = _declared(own, path)
    done = refresh_declared(own.lake, lookup)
    earlier = version_key(path.stem, done.version.numbers)
    own.lake.objects.put(earlier, own.lake.objects.get(done.version.key))
    own.lake.objects.delete([done.version.key])
    assert is_stale(own.lake, lookup)
    monkeypatch.setattr("lakehouse.serving.lookups.declaration.SHIPPED", folder)
    assert not is_stale(own.lake, lookup)
    assert refresh_declared(own.lake, lookup).version.key == earlier
    silver = f"silver.{own.name}"
    replace_days(own.lake, silver, f"from {scan_sql(own.lake.tables.load(silver))}", [DAY])
    assert is_stale(own.lake, lookup)
    assert refresh_declared(own.lake, lookup).version.definition == lookup.definition


@pytest.mark.parametrize(("text", "kept"), [(None, 0), ("select", 0), (HEADER + SELECT, 1)])
def test_erasure_leaves_only_a_version_that_is_current(own: Own, folder: Path, text: str | None, kept: int) -> None:
    path = _write(folder, own, HEADER + SELECT.replace("payments", "n"), f"erased{kept}{text is None}")
    before = refresh_declared(own.lake, _declared(own, path)).version
    path.unlink()
    if text is not None:
        path.write_text(text.replace("STREAM", own.name))
    drop_earlier_versions(own.lake, own.stream)
    versions = list_versions(own.lake.objects, path.stem)
    assert (len(versions), before in versions) == (kept, False)
