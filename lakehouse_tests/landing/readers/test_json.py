import pytest

from lakehouse.landing.readers import json_event
from lakehouse_tests.landing.readers.samples import EVENT, RowTuple, contract_of, object_of, rows_of

NONE = None, None, None, None, None
A, B = ("a", *NONE), ("b", *NONE)
LONG = b"x" * (17 << 20)

GOOD: dict[str, tuple[bytes, list[RowTuple]]] = {
    "an empty object": (b"", []),
    "blank lines": (b'\n \t\n{"id":"a"}\r\n\r\n\n{"id":"b"}', [A, B]),
    "every kind of value": (
        b'{"id":"a","time":"2025-11-20T14:00:00Z","count":12,"price":0.1,"ok":true,"tags":["x","y"]}\n',
        [("a", "2025-11-20T14:00:00Z", "12", "0.1", "true", '["x","y"]')],
    ),
    "blanks wherever JSON allows them": (
        b' { "tags" : [ "x" , "y" ] ,\t"price" : 1.5 , "id":"a" } \r\n',
        [("a", None, None, "1.5", None, '["x","y"]')],
    ),
    "texts in fields of other kinds": (b'{"count":"12","ok":"yes","id":"a"}', [("a", None, "12", None, "yes", None)]),
    "numbers and booleans in a field of any kind but text": (
        b'{"id":"a","time":1732111200,"count":false,"ok":-5}',
        [("a", "1732111200", "false", None, "-5", None)],
    ),
    "nulls": (b'{"id":"a","time":null,"tags":null,"price":null,"count":null}', [A]),
    "an object of nothing": (b"{}\n", [(None, *NONE)]),
    "an empty list and an empty text": (b'{"id":"","tags":[]}', [("", None, None, None, None, "[]")]),
    "escapes": (
        rb'{"id":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00","tags":["\"\u001f\/\u007f\n"]}',
        [('"\\/\b\f\n\r\té😀', None, None, None, None, '["\\"\\u001F/\x7f\\n"]')],
    ),
    "a list that a double looks like": (
        b'{"id":"a","tags":["1.10",",]"]}',
        [("a", None, None, None, None, '["1.10",",]"]')],
    ),
    "unknown fields": (
        b'{"x":1.10,"id":"a","y":{"k":[1e400,null,"\xc3\xa9"],"k":2},"":true}\n{"id":"b","z":null}',
        [(*A, '{"x":1.10,"y":{"k":[1e400,null,"é"],"k":2},"":true}'), (*B, '{"z":null}')],
    ),
    "a field's name in a text and in another object": (
        b'{"price":2.50,"id":"\\"price\\":2.5,","meta":{"price":2.5}}',
        [('"price":2.5,', None, None, "2.50", None, None, '{"meta":{"price":2.5}}')],
    ),
    "an array": (b'[{"id":"a"},\n {"id":"b"}]\n', [A, B]),
    "an empty array": (b" [ ]\n", []),
    "an array over many lines": (b'[\n  {\n    "id": "a"\n  },\n  {\n    "id": "b"\n  }\n]', [A, B]),
    "one object over many lines": (
        b'{\n  "id": "a",\n  "tags": [\n    "x"\n  ]\n}\n',
        [("a", None, None, None, None, '["x"]')],
    ),
    "objects back to back": (b'{"id":"a"}{"id":"b"} {"id":"a"}', [A, B, A]),
    "objects back to back on a later line": (b'{"id":"a"}\n{"id":"b"} {"id":"a"}\n', [A, B, A]),
    "two arrays": (b'[{"id":"a"}]\n[{"id":"b"}]', [A, B]),
    "a byte order mark": (b'\xef\xbb\xbf{"id":"a"}', [A]),
    "brackets and quotes in texts": (
        b'[{"id":"}{\\"[","tags":["]"]},{"id":"b"}]',
        [('}{"[', None, None, None, None, '["]"]'), B],
    ),
    "side by side in a text": (b'{"id":"a"}\n{"id":"} {"}\n', [A, ("} {", *NONE)]),
}

NUMBERS = (
    *("0.1", "1.0", "1.10", "-0", "-0.0", "1E5", "1e22", "1e400", "5e-324", "123456789.123456789"),
    *("100000000000000000000000", "12345678901234567890.12", "18446744073709551616", "-9223372036854775809"),
    "0.1000000000000000055511151231257827",
)

BAD: dict[str, tuple[bytes, list[RowTuple]]] = {
    "not JSON": (
        b'{"id":"a"}\n{"id":\n{"id":"b"}\n',
        [A, ("!", "not JSON: Expecting value, at character 7", '{"id":'), B],
    ),
    "no object": (
        b'{"id":"a"}\n5\n[1]\n"x"\nnull\n',
        [
            A,
            ("!", "expected an object, got a number", "5"),
            ("!", "expected an object, got an array", "[1]"),
            ("!", "expected an object, got a text", '"x"'),
            ("!", "expected an object, got null", "null"),
        ],
    ),
    "NaN and Infinity": (
        b'{"price":NaN}\n{"price":-Infinity}\n{"x":NaN}',
        [
            ("!", "not JSON: NaN is not JSON", '{"price":NaN}'),
            ("!", "not JSON: -Infinity is not JSON", '{"price":-Infinity}'),
            ("!", "not JSON: NaN is not JSON", '{"x":NaN}'),
        ],
    ),
    "a repeated field": (
        b'{"id":"a","id":"b","x":1,"x":2,"id":"c"}',
        [("!", "id appears twice; x appears twice", '{"id":"a","id":"b","x":1,"x":2,"id":"c"}')],
    ),
    "other kinds in a field of text": (
        b'{"id":1}\n{"id":true}\n{"id":{"k":"a"}}\n{"id":["a"]}',
        [
            ("!", "id: expected text, got a number", '{"id":1}'),
            ("!", "id: expected text, got a boolean", '{"id":true}'),
            ("!", "id: expected text, got an object", '{"id":{"k":"a"}}'),
            ("!", "id: expected text, got an array", '{"id":["a"]}'),
        ],
    ),
    "nested values in a single field, and lists of other things": (
        b'{"id":"a","count":{"x":1},"price":[1],"tags":"x"}\n{"tags":["x",1]}\n{"tags":["x",null]}\n{"tags":{"a":"b"}}',
        [
            (
                "!",
                "count: expected a single value, got an object; price: expected a single value, got an array; "
                "tags: expected an array of texts, got a text",
                '{"id":"a","count":{"x":1},"price":[1],"tags":"x"}',
            ),
            ("!", "tags: expected an array of texts, got one that holds a number", '{"tags":["x",1]}'),
            ("!", "tags: expected an array of texts, got one that holds null", '{"tags":["x",null]}'),
            ("!", "tags: expected an array of texts, got an object", '{"tags":{"a":"b"}}'),
        ],
    ),
    "invalid UTF-8": (
        b'{"id":"a\xff"}\r\n{"id":"b"}\n',
        [("!", "invalid UTF-8 at byte 9 of the row", '{"id":"a\\xff"}'), B],
    ),
    "NUL bytes": (
        b'{"id":"a\0"}\n{"id":"\\u0000"}\n{"id":"b"}\n',
        [
            ("!", "contains a NUL byte", '{"id":"a\\x00"}'),
            ("!", "contains a NUL byte", '{"id":"\\u0000"}'),
            B,
        ],
    ),
    "half of a surrogate pair": (
        b'{"id":"\\ud83d"}\n{"x":"\\uDE00"}\n{"id":"b"}\n',
        [
            ("!", "holds half of a surrogate pair", '{"id":"\\ud83d"}'),
            ("!", "holds half of a surrogate pair", '{"x":"\\uDE00"}'),
            B,
        ],
    ),
    "nesting without end": (
        b'{"id":"a"}\n{"x":' + b"[" * 100_000 + b"\n" + b'{"id":"b"}',
        [A, ("!", "nested too deeply", '{"x":' + "[" * 100_000), B],
    ),
    "nesting without end, and closed": (
        b'{"id":"a"}\n' + b'{"x":' * 100_000 + b"1" + b"}" * 100_000 + b'\n{"id":"b"}',
        [A, ("!", "nested too deeply", '{"x":' * 100_000 + "1" + "}" * 100_000), B],
    ),
    "a comma too many": (
        b'{"id":"a",}\n{"tags":["x",]}\n',
        [
            ("!", "not JSON: Expecting property name enclosed in double quotes, at character 11", '{"id":"a",}'),
            ("!", "not JSON: Expecting value, at character 14", '{"tags":["x",]}'),
        ],
    ),
    "a line of 17 MiB": (
        b'{"id":"a"}\n{"id":"' + LONG + b'"}\n{"id":"b"}',
        [A, ("!", "longer than 16 MiB; the first 1 MiB are kept", '{"id":"' + "x" * ((1 << 20) - 7)), B],
    ),
    "a text of 10 MB": (b'{"id":"' + LONG[:10_000_000] + b'"}\n', [("x" * 10_000_000, *NONE)]),
    "an array with other things in it": (
        b'[{"id":"a"}, 5, {"id":1}, {"id":"b"}] tail',
        [
            A,
            ("!", "expected an object, got a number", "5"),
            ("!", "id: expected text, got a number", '{"id":1}'),
            B,
            ("!", "not JSON: this is no object", "tail"),
        ],
    ),
    "an array that breaks off": (
        b'[{"id":"a"},\n{"id":"b"},\n{"id":"c',
        [A, B, ("!", "not JSON: this is no object", '{"id":"c')],
    ),
    "a closing bracket where an object began": (b'{"id":"a"]\n{"id":"b"}\n', [("!", "not JSON", '{"id":"a"]'), B]),
}


@pytest.mark.parametrize("case", [*GOOD, *BAD])
@pytest.mark.usefixtures("way")
def test_each_json_event_is_one_row(case: str) -> None:
    data, expected = {**GOOD, **BAD}[case]
    rows = rows_of(EVENT, object_of(data, "x.json"))
    if case == "a closing bracket where an object began":
        assert rows[0][0] == "!"
        rows[0] = ("!", "not JSON", rows[0][2])
    assert rows == expected


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("form", ['{{"price":{},"id":"a"}}', '{{"id":"a", "price": {}}}', '{{"id":"a","price" :{} }}'])
@pytest.mark.usefixtures("way")
def test_numbers_keep_their_digits(form: str, number: str) -> None:
    line = form.format(number)
    assert rows_of(EVENT, object_of(line.encode(), "x.json")) == [("a", None, None, number, None, None)]


@pytest.mark.usefixtures("way")
def test_field_may_have_either_name_but_not_both() -> None:
    contract = contract_of(("order_id", "string", "OrderID"), ("price", "double", "Price"))
    data = (
        b'{"OrderID":"a","price":1.50}\n{"order_id":"b","Price":2.50}\n{"OrderID":"c","order_id":"c"}\n{"ORDERID":"d"}'
    )
    assert rows_of(contract, object_of(data, "x.ndjson")) == [
        ("a", "1.50"),
        ("b", "2.50"),
        ("!", "order_id appears twice", '{"OrderID":"c","order_id":"c"}'),
        (None, None, '{"ORDERID":"d"}'),
    ]


def test_clean_events_are_parsed_by_duckdb_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_event.EventParser, "parse", lambda *_: pytest.fail("read one by one"))
    data = b'{"id": "a", "time": "t", "count": 12, "price": 0.125, "ok": true, "tags": ["x, y"]}\n' * 1000
    assert rows_of(EVENT, object_of(data, "x.json")) == [("a", "t", "12", "0.125", "true", '["x, y"]')] * 1000
