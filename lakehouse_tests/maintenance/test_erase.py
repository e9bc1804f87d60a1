"""Erasure removes a subject's rows from every layer, and no other rows."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from lakehouse.auditing.audit import audit
from lakehouse.errors import LakehouseError
from lakehouse.maintenance.erase import Mentions, erase_rows, expire_history, find_rows, rewrite_exports
from lakehouse.maintenance.residue_scan import find_residue
from lakehouse.maintenance.subject import Subject
from lakehouse.pipeline.erasure_log import records, subject_hash
from lakehouse.pipeline.exports import export_unified
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.model_staleness import stale_days
from lakehouse.pipeline.models import write_model
from lakehouse.pipeline.row_changes import delete_rows
from lakehouse.pipeline.table_specs import table_specs
from lakehouse.serving.lookups.cache import LookupCache
from lakehouse.serving.lookups.index import LookupIndexes
from lakehouse.serving.lookups.paths import lookups_folder
from lakehouse.serving.lookups.publish import refresh_entities
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse_tests.pipeline.modelled import check, write_models
from lakehouse_tests.pipeline.own import Own, copy_stream, land_together, noon, payment, threshold
from lakehouse_tests.storage.aws import aws_settings

TODAY = datetime.now(UTC).date()
DAYS = [TODAY - timedelta(days=2), TODAY - timedelta(days=1)]
SUBJECT_ID = "customer-4711"


def _subject_payment(key: str, day: date, **more: object) -> dict[str, object]:
    return payment(key, noon(day), account_id=SUBJECT_ID, **more)


@pytest.fixture(scope="module")
def shared_lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A lake for these tests alone, because an erasure searches all objects, also those of other tests."""
    settings = Settings(home=tmp_path_factory.mktemp("erase"))
    with storage.running(settings) as connection:
        lake = Lake(settings, connection)
        lake.tables.ensure(table_specs([]))
        yield lake
        lake.engine.close()


@pytest.fixture
def own(make_stream: Callable[..., Own], tmp_path: Path) -> Own:
    """A stream with two days in every layer, two models and one landing object that no table holds yet.

    The subject's rows are valid, duplicate, rejected and unreadable.
    """
    own = make_stream(edit=threshold(0.1))
    files = {
        f"gold/{own.name}_accounts.sql": f"""/*
description: Payments by account.
*/
select dt, account_id, count(*) as payments from silver.{own.name} group by all""",
        f"serving/{own.name}_largest.sql": f"""/*
description: The account with the most payments.
partition: none
*/
select account_id from gold.{own.name}_accounts order by payments desc, account_id limit 1""",
    }
    own.lake.models = check(own.lake, write_models(tmp_path, files))
    _land(own)
    _compute(own)
    _land_later(own)
    return own


@pytest.fixture
def landed(make_stream: Callable[..., Own]) -> Own:
    """A stream with the same landing objects, none of which a table holds yet."""
    own = make_stream(edit=threshold(0.1))
    _land(own)
    _land_later(own)
    return own


def _land(own: Own) -> None:
    for day in DAYS:
        others = [payment(f"e{day}-{n}", noon(day), account_id=f"{SUBJECT_ID}{n}") for n in range(6)]
        of_subject = [
            _subject_payment(f"t{day}", day, amount="20000"),
            _subject_payment(f"t{day}", day),
            _subject_payment(f"r{day}", day, amount="-1"),
        ]
        own.land([*others, *of_subject, f'{{"account_id": "{SUBJECT_ID}", broken', "{"], noon(day))
        own.land([payment(f"other{day}", noon(day))], noon(day) + timedelta(seconds=1))


def _land_later(own: Own) -> None:
    own.land(
        [_subject_payment("not-in-bronze", DAYS[1]), payment("next-to-it", noon(DAYS[1]))],
        noon(DAYS[1]) + timedelta(seconds=2),
    )


def _compute(own: Own, days: Sequence[date] = DAYS) -> None:
    own.bronze(*days)
    own.refresh_realtime(*(f"{day}-12:00" for day in days))
    own.clean(*days)
    own.below(*days)
    for model in own.lake.models.models.by_name.values():
        write_model(own.lake, model, stale_days(own.lake, model) if model.is_partitioned else ())
    export_unified(own.lake, own.stream, days)
    rewrite_exports(own.lake, own.stream)


def _residue(own: Own, subject: Subject) -> list[str]:
    """Find residue, except in the streams of other tests, which this lake does not know."""
    urls = ((url, re.search(r"financial_\d+", url)) for url in find_residue(own.lake, subject))
    return [url for url, name in urls if name is None or name[0] == own.name]


def test_erasure_removes_all_rows_of_the_subject_only(own: Own) -> None:
    subject = Subject.parse(own.stream, [f"account_id={SUBJECT_ID}"])
    expected = find_rows(own.lake, subject)
    assert expected.rows[f"bronze.{own.name}"] == 8
    assert expected.rows[f"silver.{own.name}"] == expected.rows[f"realtime.{own.name}"] // 2 == 2
    assert expected.rows[f"quarantine.{own.name}"] == 4
    assert {key.split("/")[1] for key in expected.exports} >= {"unified", "dashboards", "analytics"}
    assert len(expected.landing_objects) == 3
    assert _residue(own, subject) != []

    erased = erase_rows(own.lake, subject)
    assert sum(erased.landing_objects.values()) == 9, "erasure first lands the object that bronze lacked"
    _compute(own)
    expire_history(own.lake, subject)
    assert _residue(own, subject) == []
    assert sum(find_rows(own.lake, subject).rows.values()) == 0

    assert own.counts("silver") == {DAYS[0]: 7, DAYS[1]: 8}
    assert own.counts("quarantine") == dict.fromkeys(DAYS, 1)
    assert len(own.ask("from {unified}")) == 15
    assert own.ask("select count(*) from {unified} where account_id = 'customer-47110'") == [(2,)]
    assert audit(own.lake, [own.stream]).findings == []
    own.bronze(*DAYS)
    assert own.counts("bronze") == {DAYS[0]: 8, DAYS[1]: 9}, "erased rows do not land again"


def test_erasure_in_shared_object_leaves_its_neighbor(landed: Own, make_stream: Callable[..., Own]) -> None:
    own, neighbor, day = landed, make_stream(), DAYS[1]
    subject = Subject.parse(own.stream, [f"account_id={SUBJECT_ID}"])
    of_others = [payment("kept", noon(day))]
    _, kept = land_together(
        [(own, [_subject_payment("shared", day), *of_others]), (neighbor, [_subject_payment("theirs", day)])],
        noon(day) + timedelta(seconds=3),
    )
    assert any("/_shared/" in url for url in _residue(own, subject))
    erase_rows(own.lake, subject)
    _compute(own)
    expire_history(own.lake, subject)
    assert _residue(own, subject) == []
    assert own.ask("select count(*) from {silver} where event_id = 'kept'") == [(1,)]
    neighbor.bronze()
    assert neighbor.ask("select event_id, _object from {bronze}") == [("theirs", kept)]


def test_record_says_what_was_removed_but_not_whose(landed: Own) -> None:
    own = landed
    subject = Subject.parse(own.stream, [f"account_id={SUBJECT_ID}"])
    erase_rows(own.lake, subject)
    (record,) = records(own.lake.objects, own.name)
    assert SUBJECT_ID not in str(record)
    assert record["columns"] == ["account_id"]
    assert record["subject"] == subject_hash(record["salt"], own.name, subject.values)
    assert record["rows"][f"bronze.{own.name}"] == 9


def test_interrupted_erasure_can_be_run_again(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject.parse(own.stream, [f"account_id={SUBJECT_ID}"])
    from lakehouse.maintenance import erase

    calls = 0

    def interrupted_delete(lake: object, table_name: str, where: str, *, run_id: str) -> None:
        nonlocal calls
        calls += 1
        if calls in (1, 3, 6):
            raise KeyboardInterrupt
        delete_rows(own.lake, table_name, where, run_id=run_id)

    monkeypatch.setattr(erase, "delete_rows", interrupted_delete)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            erase_rows(own.lake, subject)
        assert calls > 1 or audit(own.lake, [own.stream]).wrong == []
    erase_rows(own.lake, subject)
    _compute(own)
    expire_history(own.lake, subject)
    assert _residue(own, subject) == []
    assert audit(own.lake, [own.stream]).findings == []
    own.land([_subject_payment("again", DAYS[1])], noon(DAYS[1]) + timedelta(seconds=9))
    _compute(own)
    assert own.ask(f"select event_id from {{silver}} where account_id = '{SUBJECT_ID}'") == [("again",)]


def test_erasure_reaches_local_lookups_and_dynamodb(
    own: Own, aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    more = {"home": tmp_path, "dynamodb_table": "lookups", "dynamodb_endpoint": aws, "s3_region": "us-east-1"}
    own.lake.settings = own.lake.settings.model_copy(update=more)
    refresh_entities(own.lake, own.stream)
    served = LookupCache(own.lake, lookups_folder(own.lake.settings))
    served.refresh()
    subject = Subject.parse(own.stream, [f"account_id={SUBJECT_ID}"])
    residue = [url for url in _residue(own, subject) if not url.startswith("s3://")]
    (copy,) = lookups_folder(own.lake.settings).glob(f"{own.name}-*")
    assert residue == [str(copy), f"an item of {own.name} in DynamoDB's table lookups"]

    erase_rows(own.lake, subject)
    _compute(own)
    refresh_entities(own.lake, own.stream)
    rewrite_exports(own.lake, own.stream)
    expire_history(own.lake, subject)
    assert _residue(own, subject) == []
    served.refresh()
    index = LookupIndexes(lookups_folder(own.lake.settings)).get(own.name)
    assert index is not None
    assert index.get(SUBJECT_ID) is None
    assert index.get(f"{SUBJECT_ID}0") is not None


def test_erasure_on_s3_and_glue(aws: str, tmp_path: Path) -> None:
    own = _on_glue(aws, tmp_path)
    day = DAYS[1]
    of_subject = [_subject_payment("t", day, amount="20000"), _subject_payment("r", day, amount="-1")]
    own.land([*of_subject, payment("e", noon(day)), payment("f", noon(day), amount="20000")], noon(day))
    _compute(own, [day])
    subject = Subject.parse(own.stream, [f"account_id={SUBJECT_ID}"])
    expected = find_rows(own.lake, subject)
    by_table = {name.replace(own.name, "{}"): rows for name, rows in expected.rows.items() if rows}
    assert by_table == dict.fromkeys(("realtime.{}", "silver.{}", "quarantine.{}", "serving.{}_features"), 1) | {
        "bronze.{}": 2
    }
    assert erase_rows(own.lake, subject).rows == expected.rows
    _compute(own, [day])
    expire_history(own.lake, subject)
    assert find_residue(own.lake, subject) == []
    assert own.ask("select event_id from {silver} order by 1") == [("e",), ("f",)]
    assert own.ask("select event_id from {unified} order by 1") == [("e",), ("f",)]
    assert own.ask("select entity from {alerts}", alerts=f"serving.{own.name}_alerts") == [("a",)]
    assert audit(own.lake, [own.stream]).findings == []


def _on_glue(aws: str, folder: Path) -> Own:
    """Make a stream on S3 and Glue, both emulated by moto."""
    copy_stream(folder / "streams", "financial_on_glue", edit=threshold(0.1))
    lake = Lake(aws_settings(aws, folder, streams=(folder / "streams",)))
    stream = lake.stream("financial_on_glue")
    lake.streams = {stream.name: stream}
    lake.bootstrap()
    return Own(lake, stream)


VISITORS = [
    ("hugo", "bought bread"),
    ("iris", "met hugo today, hugo hugo!"),
    ("jack", "a letter to hugo"),
    ("kim", "hugo-boss is no mention, nor is hugoline"),
]


@pytest.fixture
def visits(make_stream: Callable[..., Own]) -> Own:
    """A stream in whose texts others mention a subject: in its landing object, in one of their own and in none yet."""
    own = make_stream("social", edit=threshold(0.1))
    for number, people in enumerate((VISITORS[:2], VISITORS[2:])):
        own.land([_post(author, text) for author, text in people], noon(DAYS[0]) + timedelta(seconds=number))
    _compute(own, DAYS[:1])
    waiting = _post("lea", "no word", id="w", hashtags=["hugo"], extra={"of": "hugo", "n": 1})
    own.land([waiting], noon(DAYS[0]) + timedelta(seconds=9))
    return own


def _post(author: str, text: str, **more: object) -> dict[str, object]:
    event = {"event_id": author, "event_time": f"{DAYS[0]}T10:00:00Z", "post_id": author, "author_id": author}
    return event | {"platform": "x", "action": "post", "text": text} | more


@pytest.mark.parametrize(
    ("choice", "texts"),
    [
        ("leave", {"iris": VISITORS[1][1], "jack": VISITORS[2][1], "kim": VISITORS[3][1], "lea": "no word"}),
        ("redact", {"iris": "met [erased] today, [erased] [erased]!", "jack": "a letter to [erased]"}),
        ("remove", {"kim": VISITORS[3][1]}),
    ],
)
def test_mentions_are_counted_and_treated_as_chosen(visits: Own, choice: Mentions, texts: dict[str, str]) -> None:
    if choice == "redact":
        texts |= {"kim": VISITORS[3][1], "lea": "no word"}
    subject = Subject.parse(visits.stream, ["author_id=hugo"])
    assert sorted(find_rows(visits.lake, subject).mentions.values()) == [1, 1, 1]
    for _ in range(2 if choice == "leave" else 1):
        erased = erase_rows(visits.lake, subject, choice)
        _compute(visits, DAYS[:1])
        expire_history(visits.lake, subject)
        left = choice == "leave" and bool(erased.mentions)
        residue = find_residue(visits.lake, subject, mentions_left=left)
        assert [url for url in residue if visits.name in url] == []
    assert dict(visits.ask("select author_id, text from {unified}")) == texts
    assert sum(find_rows(visits.lake, subject).mentions.values()) == (3 if choice == "leave" else 0)
    if choice == "redact":
        (lea,) = visits.ask("select hashtags from {silver} where author_id = 'lea'")
        assert lea == (["[erased]"],)
        (extra,) = visits.ask("select _extra from {bronze} where author_id = 'lea'")
        assert json.loads(extra[0]) == {"id": "w", "extra": {"of": "[erased]", "n": 1}}
    assert audit(visits.lake, [visits.stream]).findings == []


def test_number_of_others_is_no_mention(make_stream: Callable[..., Own]) -> None:
    own = make_stream("social", edit=threshold(0.1))
    own.land([_post("4711", "mine"), _post("other", "a", followers=4711)], noon(DAYS[0]))
    _compute(own, DAYS[:1])
    subject = Subject.parse(own.stream, ["author_id=4711"])
    assert find_rows(own.lake, subject).mentions == {}
    own.land([_post("third", "a", followers=4711)], noon(DAYS[0]) + timedelta(seconds=1))
    erase_rows(own.lake, subject)
    _compute(own, DAYS[:1])
    expire_history(own.lake, subject)
    assert [url for url in find_residue(own.lake, subject) if own.name in url] == []
    assert own.counts("silver") == {DAYS[0]: 2}


def test_damaged_files_are_searched_as_text(make_stream: Callable[..., Own]) -> None:
    own = make_stream()
    subject = Subject.parse(own.stream, ["account_id=customer-7"])
    own.drop(b"PAR1", "short.parquet")
    own.drop(b"PAR1 without customer-70 and a footer", "cut.parquet")
    own.drop(b"PAR1" + b"\xff" * 300 + b"\x2c\x01\x00\x00PAR1", "footer.parquet")
    matching = own.drop(b"PAR1 with customer-7 and no footer", "theirs.parquet")
    own.drop(b"Obj", "short.avro")
    assert _residue(own, subject) == [f"s3://{own.lake.connection.bucket}/{matching}"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["account"], "--key 'account' has no value. Write it like event_id=abc."),
        (["customer=1"], "has no field 'customer'. Its fields are: event_id, event_time"),
        ([], "No subject given. Name one with --key COLUMN=VALUE."),
    ],
)
def test_invalid_subject_key_is_rejected(make_stream: Callable[..., Own], words: list[str], message: str) -> None:
    with pytest.raises(LakehouseError, match=message):
        Subject.parse(make_stream(tables=False).stream, words)
