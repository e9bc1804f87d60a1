"""A subject's rows leave every layer, and nobody else's do."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest

from lakehouse.audit.auditing import audit
from lakehouse.errors import LakehouseError
from lakehouse.layers.erasures import records, subject_hash
from lakehouse.layers.serving import export_unified
from lakehouse.maintenance.erase import erase_rows, export_again, find, forget_history
from lakehouse.maintenance.subject import Subject
from lakehouse.maintenance.traces import find_traces
from lakehouse_tests.layers.own import Own, noon, payment, threshold

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


def _compute(own: Own) -> None:
    own.bronze(*DAYS)
    own.refresh_realtime(*(f"{day}-12:00" for day in DAYS))
    own.clean(*DAYS)
    own.below(*DAYS)
    export_unified(own.lake, own.stream, DAYS)
    export_again(own.lake, own.stream)


def test_nothing_of_them_is_left_and_all_of_the_others(own: Own) -> None:
    subject = Subject.parse(own.stream, [f"account_id={WHO}"])
    found = find(own.lake, subject)
    assert found.rows[f"bronze.{own.name}"] == 8
    assert found.rows[f"silver.{own.name}"] == found.rows[f"realtime.{own.name}"] // 2 == 2
    assert len(found.landing_objects) == 3
    assert find_traces(own.lake, subject) != []

    erased = erase_rows(own.lake, subject)
    assert sum(erased.landing_objects.values()) == 9, "the object that nobody had taken is bronze's first"
    _compute(own)
    forget_history(own.lake, subject)
    assert find_traces(own.lake, subject) == []
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
    assert find_traces(own.lake, subject) == []
    assert audit(own.lake, [own.stream]).findings == []
    own.land([_theirs("again", DAYS[1])], noon(DAYS[1]) + timedelta(seconds=9))
    _compute(own)
    assert own.ask(f"select event_id from {{silver}} where account_id = '{WHO}'") == [("again",)]


def test_files_that_are_broken_are_searched_as_far_as_they_are_text(make_stream: Callable[..., Own]) -> None:
    own = make_stream()
    subject = Subject.parse(own.stream, ["account_id=customer-7"])
    own.drop(b"PAR1", "short.parquet")
    own.drop(b"PAR1 without customer-70 and a footer", "cut.parquet")
    own.drop(b"PAR1" + b"\xff" * 300 + b"\x2c\x01\x00\x00PAR1", "footer.parquet")
    theirs = own.drop(b"PAR1 with customer-7 and no footer", "theirs.parquet")
    own.drop(b"Obj", "short.avro")
    mine = [url for url in find_traces(own.lake, subject) if own.name in url]
    assert mine == [f"s3://{own.lake.connection.bucket}/{theirs}"]


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
