"""JSON in envelopes, and fields deeper inside: each event is a row, and nothing of the object is lost."""

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.contracts.dialect import encode_options, read_dialect
from lakehouse.landing.readers import is_empty
from lakehouse.landing.readers.envelope import MAX_GROWTH, Opener
from lakehouse_tests.landing.readers.samples import RowTuple, contract_of, object_of, rows_of
from lakehouse_tests.landing.readers.test_properties import MANY

EVENT = contract_of(("id", "string"), ("price", "double", "Price"), ("op", "string"))

LOGS = {"envelope": "$.logEvents[*]", "fieldPaths": {"op": "$.group.name"}}
CHANGES = {"envelope": ["$.payload.after", "$.payload.before"], "fieldPaths": {"op": "$.payload.op"}}
USERS = {"fieldPaths": {"id": "user.id", "op": "user['last op']"}}

CASES: dict[str, tuple[dict[str, Any], bytes, list[RowTuple]]] = {
    "an array of events": (
        {"envelope": "$.Records[*]"},
        b'{"Records":[{"id":"a","price":1.50},{"id":"b","x":1e3}]}\n{"Records":[]}\n{"Records":[{"id":"c"}]}',
        [("a", "1.50", None), ("b", None, None, '{"x":1e3}'), ("c", None, None)],
    ),
    "what else is in the envelope": (
        LOGS,
        b'{"owner":"1","group":{"name":"g","n":12345678901234567890.10},"logEvents":[{"id":"a"},{"id":"b"}]}',
        [("a", None, "g", '{"$":{"owner":"1","group":{"n":12345678901234567890.10}}}'), ("b", None, "g")],
    ),
    "an object over lines": (
        {"envelope": "$.Records[*]"},
        json.dumps({"Records": [{"id": "a"}, {"id": "b"}]}, indent=2).encode(),
        [("a", None, None), ("b", None, None)],
    ),
    "objects behind one another": (
        {"envelope": "$.Records[*]"},
        b'{"Records":[{"id":"a"}]}{"Records":[{"id":"b"}]}',
        [("a", None, None), ("b", None, None)],
    ),
    "changes of Debezium": (
        CHANGES,
        b'{"payload":{"before":null,"after":{"id":"a","price":1},"op":"c"}}\n'
        b'{"payload":{"before":{"id":"a","price":1},"after":null,"op":"d"}}\n'
        b'{"payload":{"before":{"id":"a"},"after":{"id":"a","price":2},"op":"u"}}\n',
        [
            ("a", "1", "c", '{"$":{"payload":{"before":null}}}'),
            ("a", "1", "d", '{"$":{"payload":{"after":null}}}'),
            ("a", "2", "u", '{"$":{"payload":{"before":{"id":"a"}}}}'),
        ],
    ),
    "paths in an event": (
        USERS,
        b'{"user":{"id":"a","last op":"x","n":1},"Price":2}\n{"user":"a"}\n{"id":"b"}\n{"user":{"id":"c"},"id":"d"}\n',
        [
            ("a", "2", "x", '{"user":{"n":1}}'),
            (None, None, None, '{"user":"a"}'),
            ("b", None, None),
            ("!", "id appears twice", '{"id":"d","id":"c"}'),
        ],
    ),
    "a key on the path twice": (
        USERS,
        b'{"user":{"id":"a","id":"b"}}\n{"user":{"id":"a"},"user":1}\n{"user":{"ID":"a"},"x":{"id":1,"id":2}}\n',
        [
            ("!", "id appears twice", '{"user":{"id":"a","id":"b"},"id":null,"id":null}'),
            (
                "!",
                "user appears twice; id appears twice; op appears twice",
                '{"user":{"id":"a"},"user":1,"id":null,"id":null,"op":null,"op":null}',
            ),
            (None, None, None, '{"user":{"ID":"a"},"x":{"id":1,"id":2}}'),
        ],
    ),
    "an envelope's key twice": (
        LOGS,
        b'{"logEvents":[],"logEvents":[{"id":"a"}]}\n{"group":{"name":"a","name":"b"},"logEvents":[{"id":"a"}]}\n',
        [
            ("!", "broken envelope: $.logEvents[*] appears twice", '{"logEvents":[],"logEvents":[{"id":"a"}]}'),
            (
                "!",
                "broken envelope: $.group.name appears twice",
                '{"group":{"name":"a","name":"b"},"logEvents":[{"id":"a"}]}',
            ),
        ],
    ),
    "an event by itself": (LOGS, b'{"id":"a","op":"x"}\n', [("a", None, "x")]),
    "broken envelopes": (
        LOGS,
        b'{"logEvents":{"id":"a"}}\n{"logEvent":[]}\n{"logEvents":[1,{"id":"a"}]}\n{"logEvents":[\n[]\n',
        [
            ("!", "broken envelope: $.logEvents[*] is an object, not an array", '{"logEvents":{"id":"a"}}'),
            ("!", "broken envelope: there is no $.logEvents[*]", '{"logEvent":[]}'),
            ("!", "expected an object, got a number", "1"),
            ("a", None, None),
            ("!", "not JSON: Expecting value, at character 15", '{"logEvents":['),
            ("!", "expected an object, got an array", "[]"),
        ],
    ),
    "a defect that a sender found": (LOGS, b'{"_defect":"is ragged","_raw":"a,b"}\n', [("!", "is ragged", "a,b")]),
    "half of a surrogate pair": (
        LOGS,
        b'{"logEvents":[{"id":"\\ud800"},{"id":"a"}]}\n',
        [("!", "holds half of a surrogate pair", '{"id":"\\ud800"}'), ("a", None, None)],
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("way")
def test_each_event_of_an_envelope_is_a_row(case: str) -> None:
    options, data, expected = CASES[case]
    declared = replace(EVENT, dialect=read_dialect(options))
    assert rows_of(declared, object_of(data, "x.json")) == expected
    assert rows_of(EVENT, object_of(data, f"incoming/sample/read-as~{encode_options(options)}/x.json")) == expected


@pytest.mark.parametrize("layers", [1, 2])
def test_envelopes_are_opened_in_gzip(layers: int) -> None:
    options, data, expected = CASES["what else is in the envelope"]
    for _ in range(layers):
        data = gzip.compress(data)
    assert rows_of(replace(EVENT, dialect=read_dialect(options)), object_of(data, "incoming/sample/x")) == expected


@pytest.mark.parametrize("case", CASES)
def test_event_is_posted_as_it_is_read(case: str) -> None:
    options, data, expected = CASES[case]
    declared = replace(EVENT, dialect=read_dialect(options))
    rows = [data] if case in ("an object over lines", "objects behind one another") else data.splitlines()
    if case == "objects behind one another":
        rows = data.replace(b"}{", b"}\n{").splitlines()
    lines = b"".join(Opener(declared).lines(rows))
    assert rows_of(declared, object_of(lines, "realtime/sample/x.json")) == expected


def test_envelopes_without_events_are_no_rows() -> None:
    declared = replace(EVENT, dialect=read_dialect(LOGS))
    for data, rows in ((b'{"logEvents":[]}\n{"logEvents":[],"x":1}', 0), (b'{"x":1}', 1)):
        obj = object_of(data, "x.json")
        assert len(rows_of(declared, obj) if rows else rows_of_none(declared, data)) == rows
        assert is_empty(declared, obj) == (not rows)


def rows_of_none(contract: Any, data: bytes) -> list[RowTuple]:
    """Read an object beside one that has a row, because no rows give no table."""
    event = object_of(b'{"id":"z"}', "z.json")
    return rows_of(contract, object_of(data, "x.json"), event)[:-1]


def test_values_that_each_event_takes_over_grow_no_further() -> None:
    declared = replace(EVENT, dialect=read_dialect(LOGS))
    envelope = {"group": {"name": "g" * 5_000}, "logEvents": [{"id": "a"}] * 1_000}
    ((mark, reason, _),) = rows_of(declared, object_of(json.dumps(envelope).encode(), "x.json"))
    assert (mark, reason) == ("!", "broken envelope: its values are too long to be those of each event")
    assert MAX_GROWTH * len(json.dumps(envelope)) < 5_000 * 1_000


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)
EVENTS = st.lists(st.dictionaries(st.sampled_from(["id", "op", "Price", "x", "y"]), SCALARS, max_size=4), max_size=5)


@MANY
@given(envelopes=st.lists(EVENTS, min_size=1, max_size=4))
def test_events_are_read_as_they_are_without_an_envelope(envelopes: list[list[dict[str, Any]]]) -> None:
    declared = replace(EVENT, dialect=read_dialect({"envelope": "$.data.events[*]"}))
    events = [event for envelope in envelopes for event in envelope] + [{"id": "last"}]
    alone = "\n".join(map(json.dumps, events)).encode()
    enveloped = "\n".join(json.dumps({"data": {"events": group}}) for group in [*envelopes, [{"id": "last"}]]).encode()
    found, expected = rows_of(declared, object_of(enveloped, "x.json")), rows_of(EVENT, object_of(alone, "x.json"))
    assert [row[:2] if row[0] == "!" else row for row in found] == [
        row[:2] if row[0] == "!" else row for row in expected
    ]
