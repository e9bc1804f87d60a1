"""Only what decides rows changes the number of a definition, and numbers of earlier releases still count."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from random import Random
from typing import Any

import pytest
import sqlglot
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.contracts.default_sql import QUERIES, Query
from lakehouse.contracts.definition import EARLIER, canonical_number, define, legacy_number, tokens
from lakehouse.contracts.model import Contract, Field, FieldType
from lakehouse.contracts.odcs import CONTRACT_FILE, load_contract
from lakehouse.contracts.streams import discover
from lakehouse.contracts.time_formats import read_time_format
from lakehouse_tests.contracts.earlier_definitions import RELEASE, as_text, earlier_numbers, has_release
from lakehouse_tests.nightly import more_at_night

STREAMS = discover()
SHIPPED = [(stream, query) for stream in STREAMS for query in QUERIES]

GAPS = st.sampled_from([" ", "\n", "\t\n  ", ' -- it\'s a "comment"\n', "/* a /* nested */ comment; ' */", "\n--\n"])

CONTRACT = Contract(
    stream="readings",
    version="1.0.0",
    description="",
    owner="lakehouse",
    fields=(
        Field("id", FieldType("string"), "Id", required=True, key=True, pattern="^[a-z]'\\d+$", max_length=9),
        Field("at", FieldType("timestamp"), "at", required=True),
        Field("price", FieldType("decimal", 18, 2), "price", minimum=Decimal("0"), exclusive_maximum=Decimal("1E+3")),
        Field("kind", FieldType("string"), "kind", "What it is", enum=("a", "b"), min_length=1),
    ),
    event_time="at",
)


@given(stream=st.sampled_from(SHIPPED), gaps=st.lists(GAPS, min_size=1, max_size=6), seed=st.randoms())
def test_layout_comments_and_keyword_case_leave_number(
    stream: tuple[str, Query], gaps: list[str], seed: Random
) -> None:
    name, query = stream
    sql = STREAMS[name].sql(query)
    again = "".join(
        (token.upper() if token.isidentifier() and seed.random() < 0.5 else token) + seed.choice(gaps)
        for token in tokens(sql)
    )
    assert canonical_number(again) == canonical_number(sql)


@given(stream=st.sampled_from(SHIPPED), data=st.data())
def test_changed_token_changes_number(stream: tuple[str, Query], data: st.DataObject) -> None:
    name, query = stream
    before = list(tokens(STREAMS[name].sql(query)))
    at = data.draw(st.integers(0, len(before) - 1))
    other = data.draw(
        st.sampled_from(["another", "'Text'", '"Name"', "17", ",", "("]).filter(lambda t: t != before[at])
    )
    after = [*before[:at], other, *before[at + 1 :]]
    assert canonical_number(" ".join(after)) != canonical_number(" ".join(before))


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select 'It''s -- no comment', \"A b\"", ["select", "'It''s -- no comment'", ",", '"A b"']),
        ("E'a\\'b' || e'c'", ["E'a\\'b'", "|", "|", "e'c'"]),
        ("$$a 'b$$ $t$ $$ $t$", ["$$a 'b$$", "$t$ $$ $t$"]),
        ("a-1e-5--1\n+.5*t.x1", ["a", "-", "1e-5", "+", ".5", "*", "t", ".", "x1"]),
        ("a/* x /* y */ 'z */b /* open", ["a", "b"]),
        ("Straße_1 >= 1_000", ["straße_1", ">", "=", "1_000"]),
        ("'open", ["'", "open"]),
        ("", []),
    ],
)
def test_sql_splits_into_tokens(sql: str, expected: list[str]) -> None:
    assert list(tokens(sql)) == expected


@pytest.mark.parametrize(("stream", "query"), SHIPPED)
def test_shipped_sql_splits_as_sqlglot_splits_it(stream: str, query: Query) -> None:
    sql = STREAMS[stream].sql(query)
    theirs = [sql[token.start : token.end + 1] for token in sqlglot.tokenize(sql, dialect="duckdb")]
    assert list(tokens(sql)) == [piece for text in theirs for piece in _split(text)]


def _split(token: str) -> list[str]:
    """Split a token of sqlglot into ours, because its keywords may be several words and its operators several signs."""
    if token[0] in "'\"":
        return [token]
    return token.lower().split() if token[0].isalnum() or token[0] == "_" else list(token)


def _edit_field(**changes: Any) -> Callable[[Contract], Contract]:
    return lambda contract: replace(contract, fields=(*contract.fields[:2], replace(contract.fields[2], **changes)))


CHANGES: dict[str, Callable[[Contract], Contract]] = {
    "event time": lambda c: replace(c, event_time="id"),
    "history start": lambda c: replace(c, history_start=date(2011, 1, 1)),
    "threshold": lambda c: replace(c, quality_threshold=0.9),
    "field gone": lambda c: replace(c, fields=c.fields[:3]),
    "order of fields": lambda c: replace(c, fields=c.fields[::-1]),
    "enum": lambda c: replace(c, fields=(*c.fields[:3], replace(c.fields[3], enum=("a",)))),
    "pattern": lambda c: replace(c, fields=(replace(c.fields[0], pattern="^[a-z]$"), *c.fields[1:])),
    "name": _edit_field(name="cost"),
    "header": _edit_field(source="Price"),
    "scale": _edit_field(type=FieldType("decimal", 18, 3)),
    "type": _edit_field(type=FieldType("double")),
    "required": _edit_field(required=True),
    "key": _edit_field(key=True),
    "minimum": _edit_field(minimum=Decimal("0.0")),
    "no minimum": _edit_field(minimum=None),
    "maximum": _edit_field(maximum=Decimal("5")),
    "exclusive minimum": _edit_field(exclusive_minimum=Decimal("0"), minimum=None),
    "length": _edit_field(min_length=1),
    "longest": _edit_field(max_length=1),
    "format": _edit_field(format=(read_time_format("dd/MM/yyyy"),)),
    "zone": _edit_field(default_timezone="Europe/Berlin"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_rule_changes_number(change: str) -> None:
    before, after = (
        define("readings", "silver", "x", CONTRACT),
        define("readings", "silver", "x", CHANGES[change](CONTRACT)),
    )
    assert before.number != after.number
    assert not after.matches(before.number)
    assert not before.matches(after.number)
    assert legacy_number("x", CONTRACT) not in after.earlier


@pytest.mark.parametrize(
    "other",
    [
        replace(CONTRACT, description="Other words", owner="others", version="2.0.0", tags=("x",)),
        replace(CONTRACT, fields=tuple(replace(field, description="Other words") for field in CONTRACT.fields)),
    ],
    ids=["of the contract", "of its fields"],
)
def test_descriptions_leave_number(other: Contract) -> None:
    assert canonical_number("x", other) == canonical_number("x", CONTRACT)
    assert legacy_number("x", other) == legacy_number("x", CONTRACT)


@settings(max_examples=more_at_night(20, 500))
@given(seed=st.randoms(), stream=st.sampled_from(sorted(STREAMS)))
def test_order_of_contract_keys_leaves_number(
    tmp_path_factory: pytest.TempPathFactory, seed: Random, stream: str
) -> None:
    folder = tmp_path_factory.mktemp("contract") / stream
    folder.mkdir()
    document = yaml.safe_load((STREAMS[stream].folder / CONTRACT_FILE).read_text())
    (folder / CONTRACT_FILE).write_text(yaml.safe_dump(_shuffled(document, seed), sort_keys=False))
    assert canonical_number("x", load_contract(folder)) == canonical_number("x", STREAMS[stream].contract)


def _shuffled(document: Any, seed: Random) -> Any:
    """Return the document with the keys of each mapping in another order."""
    if isinstance(document, dict):
        items = [(key, _shuffled(value, seed)) for key, value in document.items()]
        seed.shuffle(items)
        return dict(items)
    return [_shuffled(item, seed) for item in document] if isinstance(document, list) else document


def test_legacy_number_is_that_of_the_raw_text() -> None:
    # Both as the release computed them.
    assert legacy_number("select 1") == 143_120_666_544_003
    assert legacy_number("select 1", CONTRACT) == 186_184_716_359_850


def test_rows_of_own_stream_by_earlier_release_match() -> None:
    definition = define("own", "silver", "select * from valid", CONTRACT)
    assert definition.matches(legacy_number("select * from valid", CONTRACT))
    assert definition.matches(definition.number)
    assert not definition.matches(None)
    assert definition.version == str(definition.number)


def test_rows_of_shipped_stream_by_earlier_release_match() -> None:
    for stream, queries in json.loads(EARLIER.read_text()).items():
        for query in queries:
            definition = STREAMS[stream].definition_of(query)
            (earlier,) = queries[query][str(definition.number)]
            assert definition.matches(earlier)
            assert definition.version == str(earlier), "Dagster compares versions as texts"


@pytest.mark.skipif(not has_release(), reason=f"{RELEASE} is not in this clone's history; fetch it with --unshallow")
def test_earlier_numbers_are_those_of_the_release() -> None:
    assert EARLIER.read_text() == as_text(earlier_numbers()), (
        "if the rows are the same, run `python -m lakehouse_tests.contracts.earlier_definitions`"
    )
