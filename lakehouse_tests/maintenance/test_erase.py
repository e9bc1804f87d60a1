"""A subject's rows leave every layer, and nobody else's do."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from lakehouse.audit.auditing import audit
from lakehouse.errors import LakehouseError
from lakehouse.maintenance.erase import erase_rows, export_again, find, forget_history
from lakehouse.maintenance.residue_scan import find_traces
from lakehouse.maintenance.subject import Subject
from lakehouse.pipeline.erasure_log import records, subject_hash
from lakehouse.pipeline.exports import export_unified
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.lookups.cache import LookUps
from lakehouse.serving.lookups.index import Indexes
from lakehouse.serving.lookups.paths import copies
from lakehouse.serving.lookups.publish import refresh_entities
from lakehouse_tests.pipeline.own import Own, copy_stream, noon, payment, threshold
from lakehouse_tests.storage.amazon import s3_and_glue

TODAY = datetime.now(UTC).date()
DAYS = [TODAY - timedelta(days=2), TODAY - timedelta(days=1)]
WHO = "customer-4711"


def _theirs(key: str, day: date, **more: object) -> dict[str, object]:
    return payment(key, noon(day), account_id=WHO, **more)


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    """Two days in every layer, with rows of the subject that are valid, repeated, refused and unreadable; and an object that
    nobody has taken yet.
    """
    own = make_stream(edit=threshold(0.1))
    for day in DAYS:
        others = [payment(f"e{day}-{n}", noon(day), account_id=f"{WHO}{n}") for n in range(6)]
        theirs = [
            _theirs(f"t{day}", day, amount="20000"),
            _theirs(f"t{day}", day),
            _theirs(f"r{day}", day, amount="-1"),
        ]
        own.land([*others, *theirs, f'{{"account_id": "{WHO}", broken', "{"], noon(day))
        own.land([payment(f"other{day}", noon(day))], noon(day) + timedelta(seconds=1))
    _compute(own)
    own.land([_theirs("untaken", DAYS[1]), payment("beside", noon(DAYS[1]))], noon(DAYS[1]) + timedelta(seconds=2))
    return own


def _compute(own: Own, days: Sequence[date] = DAYS) -> None:
    own.bronze(*days)
    own.refresh_realtime(*(f"{day}-12:00" for day in days))
    own.clean(*days)
    own.below(*days)
    export_unified(own.lake, own.stream, days)
    export_again(own.lake, own.stream)


def _traces(own: Own, subject: Subject) -> list[str]:
    """What is found, but of other tests' streams: no lake knows them any more."""
    of_tests = ((one, re.search(r"financial_\d+", one)) for one in find_traces(own.lake, subject))
    return [one for one, name in of_tests if name is None or name[0] == own.name]


def test_nothing_of_them_is_left_and_all_of_the_others(own: Own) -> None:
    subject = Subject.parse(own.stream, [f"account_id={WHO}"])
    found = find(own.lake, subject)
    assert found.rows[f"bronze.{own.name}"] == 8
    assert found.rows[f"silver.{own.name}"] == found.rows[f"realtime.{own.name}"] // 2 == 2
    assert len(found.landing_objects) == 3
    assert _traces(own, subject) != []

    erased = erase_rows(own.lake, subject)
    assert sum(erased.landing_objects.values()) == 9, "the object that nobody had taken is bronze's first"
    _compute(own)
    forget_history(own.lake, subject)
    assert _traces(own, subject) == []
    assert sum(find(own.lake, subject).rows.values()) == 0

    assert own.counts("silver") == {DAYS[0]: 7, DAYS[1]: 8}
    assert own.counts("quarantine") == dict.fromkeys(DAYS, 1)
    assert len(own.ask("from {unified}")) == 15
    assert own.ask("select count(*) from {unified} where account_id = 'customer-47110'") == [(2,)]
    assert audit(own.lake, [own.stream]).findings == []
    own.bronze(*DAYS)
    assert own.counts("bronze") == {DAYS[0]: 8, DAYS[1]: 9}, "what is gone does not land again"


def test_the_record_says_what_was_removed_and_not_whose(own: Own) -> None:
    subject = Subject.parse(own.stream, [f"account_id={WHO}"])
    erase_rows(own.lake, subject)
    (record,) = records(own.lake.objects, own.name)
    assert WHO not in str(record)
    assert record["columns"] == ["account_id"]
    assert record["subject"] == subject_hash(record["salt"], own.name, subject.values)
    assert record["rows"][f"bronze.{own.name}"] == 9


def test_broken_off_anywhere_it_can_be_run_again_and_newcomers_stay(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject.parse(own.stream, [f"account_id={WHO}"])
    from lakehouse.maintenance import erase

    whole, calls = erase._rewrite, 0

    def dies(lake: object, table_name: str, whose: str) -> None:
        nonlocal calls
        calls += 1
        if calls in (1, 3, 6):
            raise KeyboardInterrupt
        whole(own.lake, table_name, whose)

    monkeypatch.setattr(erase, "_rewrite", dies)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            erase_rows(own.lake, subject)
        assert audit(own.lake, [own.stream]).wrong == [] or calls > 1
    erase_rows(own.lake, subject)
    _compute(own)
    forget_history(own.lake, subject)
    assert _traces(own, subject) == []
    assert audit(own.lake, [own.stream]).findings == []
    own.land([_theirs("again", DAYS[1])], noon(DAYS[1]) + timedelta(seconds=9))
    _compute(own)
    assert own.ask(f"select event_id from {{silver}} where account_id = '{WHO}'") == [("again",)]


def test_look_ups_forget_them_on_this_machine_and_in_dynamodb(
    own: Own, aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    more = {"home": tmp_path, "dynamodb_table": "lookups", "dynamodb_endpoint": aws, "s3_region": "us-east-1"}
    own.lake.settings = own.lake.settings.model_copy(update=more)
    refresh_entities(own.lake, own.stream)
    served = LookUps(own.lake.objects, copies(own.lake.settings), own.lake.changes("lookups"))
    served.refresh()
    subject = Subject.parse(own.stream, [f"account_id={WHO}"])
    held = [one for one in _traces(own, subject) if not one.startswith("s3://")]
    (copy,) = copies(own.lake.settings).glob(f"{own.name}-*")
    assert held == [str(copy), f"an item of {own.name} in DynamoDB's table lookups"]

    erase_rows(own.lake, subject)
    _compute(own)
    refresh_entities(own.lake, own.stream)
    export_again(own.lake, own.stream)
    forget_history(own.lake, subject)
    assert _traces(own, subject) == []
    served.refresh()
    index = Indexes(copies(own.lake.settings)).get(own.name)
    assert index is not None
    assert index.get(WHO) is None
    assert index.get(f"{WHO}0") is not None


def test_it_does_the_same_on_s3_and_glue(aws: str, tmp_path: Path) -> None:
    own = _on_glue(aws, tmp_path)
    day = DAYS[1]
    theirs = [_theirs("t", day, amount="20000"), _theirs("r", day, amount="-1")]
    own.land([*theirs, payment("e", noon(day)), payment("f", noon(day), amount="20000")], noon(day))
    _compute(own, [day])
    subject = Subject.parse(own.stream, [f"account_id={WHO}"])
    found = find(own.lake, subject)
    of_layers = {name.replace(own.name, "{}"): rows for name, rows in found.rows.items() if rows}
    assert of_layers == {"bronze.{}": 2, "realtime.{}": 1, "silver.{}": 1, "serving.{}_features": 1}
    assert erase_rows(own.lake, subject).rows == found.rows
    _compute(own, [day])
    forget_history(own.lake, subject)
    assert find_traces(own.lake, subject) == []
    assert own.ask("select event_id from {silver} order by 1") == [("e",), ("f",)]
    assert own.ask("select event_id from {unified} order by 1") == [("e",), ("f",)]
    assert own.ask("select entity from {alerts}", alerts=f"serving.{own.name}_alerts") == [("a",)]
    assert audit(own.lake, [own.stream]).findings == []


def _on_glue(aws: str, folder: Path) -> Own:
    """A stream of its own on S3 and Glue, with moto in their place."""
    copy_stream(folder / "streams", "financial_on_glue", edit=threshold(0.1))
    lake = Lake(s3_and_glue(aws, folder, streams=(folder / "streams",)))
    stream = lake.stream("financial_on_glue")
    lake.streams = {stream.name: stream}
    lake.bootstrap()
    return Own(lake, stream)


def test_files_that_are_broken_are_searched_as_far_as_they_are_text(make_stream: Callable[..., Own]) -> None:
    own = make_stream()
    subject = Subject.parse(own.stream, ["account_id=customer-7"])
    own.drop(b"PAR1", "short.parquet")
    own.drop(b"PAR1 without customer-70 and a footer", "cut.parquet")
    own.drop(b"PAR1" + b"\xff" * 300 + b"\x2c\x01\x00\x00PAR1", "footer.parquet")
    theirs = own.drop(b"PAR1 with customer-7 and no footer", "theirs.parquet")
    own.drop(b"Obj", "short.avro")
    assert _traces(own, subject) == [f"s3://{own.lake.connection.bucket}/{theirs}"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["account"], "--key 'account' says no value; write one such as event_id=abc."),
        (["customer=1"], "has no field 'customer'; there are event_id, event_time"),
        ([], "Say whose rows with --key COLUMN=VALUE."),
    ],
)
def test_a_key_that_says_nothing_is_refused(make_stream: Callable[..., Own], words: list[str], said: str) -> None:
    with pytest.raises(LakehouseError, match=said):
        Subject.parse(make_stream(tables=False).stream, words)
