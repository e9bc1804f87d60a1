"""CSV as a dialect says: what is declared is read, and nothing is guessed from it."""

import csv
import io
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.contracts.dialect import Dialect, encode_options, read_dialect
from lakehouse_tests.landing.readers.samples import RowTuple, contract_of, object_of, rows_of
from lakehouse_tests.landing.readers.test_properties import MANY, read_each_way

SALES = contract_of(("id", "string", "ID"), ("count", "integer"), ("price", "double"), ("paid", "boolean"))
H = b"ID,count,price,paid\n"

CASES: dict[str, tuple[dict[str, Any], bytes, list[RowTuple]]] = {
    "nothing declared": ({}, H + b"a,1,2.5,true\n", [("a", "1", "2.5", "true")]),
    "cp1252": ({"encoding": "cp1252"}, b"ID,note\n\xe9\x80,x\n", [("é€", None, None, None, '{"note":"x"}')]),
    "a byte that the encoding lacks": (
        {"encoding": "cp1252"},
        b"ID,count\n\x81,1\nb,2\n",
        [("!", "invalid UTF-8 at byte 1 of the row", "\\xed\\xb2\\x81,1"), ("b", "2", None, None)],
    ),
    "UTF-16 without a byte order mark": (
        {"encoding": "utf-16-le"},
        "ID,count\né,1\n".encode("utf-16-le"),
        [("é", "1", None, None)],
    ),
    "an encoding and a byte order mark": (
        {"encoding": "cp1252"},
        b"\xef\xbb\xbfID\n" + "é\n".encode(),
        [("é", None, None, None)],
    ),
    "a delimiter that the header does not show": (
        {"delimiter": ";"},
        b"ID;a,b,c\nx;1\n",
        [("x", None, None, None, '{"a,b,c":"1"}')],
    ),
    "a delimiter of two characters": (
        {"delimiter": ", "},
        b'ID, count\n"a, b", 1\nc,d, 2\n',
        [("a, b", "1", None, None), ("c,d", "2", None, None)],
    ),
    "a line that names the delimiter": ({}, b"sep=^\r\nID^count\r\na^1\r\n", [("a", "1", None, None)]),
    "another quote": (
        {"quote": "'"},
        b"ID,count\n'a,''b''',1\n\"c\",2\n",
        [("a,'b'", "1", None, None), ('"c"', "2", None, None)],
    ),
    "names in a quote that is not declared": (
        {},
        b"'ID','count'\n'a,b',1\n",
        [("!", "no column of the contract in the header: 'ID', 'count'", t) for t in ("'ID','count'", "'a,b',1")],
    ),
    "a name in a quote that is not declared": (
        {},
        b"'ID',count\n'a',1\n",
        [("!", "names in the header are in ', as values may be; declare it as the quote", "'a',1")],
    ),
    "text behind a closing quote where there is an escape": (
        {"escape": "\\"},
        b'ID,count\n"a"b,1\n',
        [("!", "there is text between a closing quote and the next delimiter", '"a"b,1')],
    ),
    "a lost delimiter where there is an escape": (
        {"escape": "\\"},
        b'ID,count\na"b,c"\nd\\"e,1\n',
        [
            ("!", "quotes within fields look like those of a field whose delimiter is lost", 'a"b,c"'),
            ('d"e', "1", None, None),
        ],
    ),
    "an escape that is not declared": (
        {},
        b'ID,count\n"\\"",",a"\n"{""a"":""\\""""}",2\n',
        [
            ("!", "quotes within fields look like those of a field whose delimiter is lost", '"\\"",",a"'),
            ('{"a":"\\""}', "2", None, None),
        ],
    ),
    "no quote": ({"quote": ""}, b'ID,count\n"a,1\n"b",2\n', [('"a', "1", None, None), ('"b"', "2", None, None)]),
    "an escape": (
        {"escape": "\\"},
        b'ID,count\n"a\\"b",1\nc\\,d,2\n\\\\,3\n\\N,4\ne\\\nf,5\n"g""h",6\n',
        [
            *(('a"b', "1", None, None), ("c,d", "2", None, None), ("\\", "3", None, None), ("\\N", "4", None, None)),
            *(("e\nf", "5", None, None), ('g"h', "6", None, None)),
        ],
    ),
    "a letter after the escape": (
        {"escape": "\\"},
        b"ID,count\na\\nb,1\nc,2\n",
        [
            ("!", "a character after the escape needs none, so it may stand for another", "a\\nb,1"),
            ("c", "2", None, None),
        ],
    ),
    "an unclosed quote with an escape": (
        {"escape": "\\"},
        b'ID,count\n"a\\",1\nb,2\n',
        [("!", "a quote is opened and never closed", '"a\\",1'), ("b", "2", None, None)],
    ),
    "a decimal comma": (
        {"decimal": ","},
        b"ID;count;price\na;1;2,5\nb;1,0;-,5e3\nc;1.5;1\nd;1;1.000\ne;x;2,5\n",
        [
            ("a", "1", "2.5", None),
            ("b", "1", "-.5e3", None),
            ("!", "count: 1.5 is not written with the decimal mark ,", "c;1.5;1"),
            ("!", "price: 1.000 is not written with the decimal mark ,", "d;1;1.000"),
            ("e", "x", "2.5", None),
        ],
    ),
    "marks of thousands": (
        {"decimal": ",", "thousands": "."},
        b"ID;count;price\na;1.000;1.234.567,89\nb;1;12.34,5\nc;17.850,0;1\n",
        [
            ("a", "1000", "1234567.89", None),
            ("b", "1", "12.34,5", None),
            ("c", "17850", "1", None),
        ],
    ),
    "a point that is declared": ({"decimal": "."}, b"ID,count\na,1.000\n", [("a", "1", None, None)]),
    "spellings of booleans and nulls": (
        {"true": ["yes", "Y"], "false": "no", "nulls": ["NA", "-"]},
        H + b"NA,-,-,YES\na,1,1,y\nb,1,1,No\nc,1,1,maybe\n",
        [(None, None, None, "true"), ("a", "1", "1", "true"), ("b", "1", "1", "false"), ("c", "1", "1", "maybe")],
    ),
    "no value in an unknown column": ({"nulls": ["NA"]}, b"ID,note\na,NA\n", [("a", None, None, None)]),
    "no header": (
        {"header": False},
        b"a,1,2,true\nb,2,3\n",
        [("a", "1", "2", "true"), ("!", "3 fields where the header has 4", "b,2,3")],
    ),
    "no header and another delimiter": ({"header": False}, b"a;1;2,5;true\n", [("a", "1", "2,5", "true")]),
    "named columns": (
        {"header": False, "columns": ["price", "x", "id"]},
        b"2,y,a\n",
        [("a", None, "2", None, '{"x":"y"}')],
    ),
    "a preamble": ({"skip": 3}, b'Report\n\n"a, b\n' + H + b"a,1,2,true\n", [("a", "1", "2", "true")]),
    "a preamble and nothing after it": ({"skip": 3}, b"Report\n\nx\n" + H, []),
    "rows that are skipped as a preamble": (
        {"skip": 9},
        H + b"a,1,2,true\n",
        [("!", "there is no row in this object, though it is not empty", None)],
    ),
    "comments": (
        {"comment": "#"},
        b"# a\n\n#b\n" + H + b"a,1,2,true\n#c\nb#,1,2,true\n",
        [("a", "1", "2", "true"), ("b#", "1", "2", "true")],
    ),
    "delimiters at the end of rows": (
        {"trailingDelimiter": True},
        b"ID,count\na,1,\nb,2\n",
        [("a", "1", None, None), ("!", "2 fields where the header has 3", "b,2")],
    ),
    "delimiters at the end of header and rows": (
        {"trailingDelimiter": True},
        b"ID,count,\na,1,\n",
        [("a", "1", None, None)],
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("way")
def test_file_is_read_as_its_dialect_says(case: str) -> None:
    options, data, expected = CASES[case]
    declared = replace(SALES, dialect=read_dialect(options))
    assert rows_of(declared, object_of(data, "x.csv")) == expected
    assert rows_of(SALES, object_of(data, f"incoming/sales/read-as~{encode_options(options)}/x.csv")) == expected


def test_options_of_a_file_go_before_those_of_its_stream() -> None:
    stream = replace(SALES, dialect=read_dialect({"decimal": ",", "header": False}))
    key = f"incoming/sales/read-as~{encode_options({'decimal': '.', 'header': True})}/x.csv"
    assert rows_of(stream, object_of(H + b"a,1,2.5,true\n", key)) == [("a", "1", "2.5", "true")]


def test_folder_that_says_nothing_is_ignored() -> None:
    assert rows_of(SALES, object_of(H + b"a,1,2,true\n", "incoming/sales/read-as~xyz/x.csv")) == [
        ("a", "1", "2", "true")
    ]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"delimeter": ";"}, "delimeter not known; allowed are columns, comment, decimal"),
        ({"delimiter": ""}, "delimiter: '' is none"),
        ({"delimiter": 1}, "delimiter: 1 is not a text"),
        ({"encoding": "utf-9"}, "encoding: 'utf-9' is no encoding"),
        ({"encoding": "base64"}, "encoding: 'base64' is no encoding"),
        ({"quote": "''"}, "quote: must be one ASCII character, or empty"),
        ({"escape": "é"}, "escape: must be one ASCII character, or empty"),
        ({"quote": "\\", "escape": "\\"}, "quote: is also the escape"),
        ({"decimal": "5"}, "decimal: '5' is no decimal mark"),
        ({"thousands": "."}, "thousands: is the decimal mark too"),
        ({"header": "no"}, "header: 'no' is not true or false"),
        ({"columns": ["a"]}, "columns: are the header's"),
        ({"skip": -1}, "skip: must not be negative"),
        ({"skip": True}, "skip: True is not a number"),
        ({"timeFormat": ["dd/MM"]}, "timeFormat: 'dd/MM': has no year"),
        ({"timeZone": "Berlin"}, "timeZone: 'Berlin' is no time zone such as Europe/Berlin"),
        ({"truncateTimes": "yes"}, "truncateTimes: 'yes' is not true or false"),
    ],
)
def test_wrong_option_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}"):
        read_dialect(options)


def test_default_dialect_has_no_options() -> None:
    assert Dialect().options() == {}
    assert read_dialect({"nulls": "NA", "header": False}).options() == {"nulls": ["NA"], "header": False}


TEXTS = st.text(st.sampled_from("ab1;,|'\"\\ #.\t\n"), max_size=6)


@MANY
@given(
    rows=st.lists(st.tuples(TEXTS, TEXTS), max_size=8),
    delimiter=st.sampled_from(",;|\t"),
    quote=st.sampled_from("\"'"),
    escape=st.sampled_from(["", "/"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_rows_written_in_a_dialect_are_read_back(
    rows: list[tuple[str, str]], delimiter: str, quote: str, escape: str, end: str
) -> None:
    contract = contract_of(("id", "string"), ("note", "string"))
    sink = io.StringIO(newline="")
    writer = csv.writer(
        sink,
        delimiter=delimiter,
        quotechar=quote,
        lineterminator=end,
        quoting=csv.QUOTE_ALL,
        doublequote=not escape,
        escapechar=escape or None,
    )
    writer.writerow(["id", "note"])
    writer.writerows(rows)
    options = {"delimiter": delimiter, "quote": quote, "escape": escape}
    declared = replace(contract, dialect=read_dialect(options))
    found = read_each_way(declared, sink.getvalue().encode(), "x.csv")
    assert found == [tuple(text or None for text in row) for row in rows]


NUMBER_TEXTS = st.text(st.sampled_from("0123.,'-+e "), min_size=1, max_size=8) | st.integers(0, 10**9).map(
    "{:,}".format
)


@MANY
@given(
    texts=st.lists(st.tuples(NUMBER_TEXTS, NUMBER_TEXTS), min_size=1, max_size=6),
    marks=st.sampled_from(
        [{"decimal": ","}, {"decimal": ",", "thousands": "."}, {"thousands": ","}, {"thousands": "'"}]
    ),
)
def test_number_is_what_its_marks_say_or_is_not_read(texts: list[tuple[str, str]], marks: dict[str, str]) -> None:
    declared = replace(SALES, dialect=read_dialect({"delimiter": ";", **marks}))
    data = "ID;count;price\n" + "".join(f"{i};{count};{price}\n" for i, (count, price) in enumerate(texts))
    found = read_each_way(declared, data.encode(), "x.csv")
    alone = [
        rows_of(declared, object_of(f"ID;count;price\n{i};{count};{price}\n".encode(), "x.csv"))[0]
        for i, (count, price) in enumerate(texts)
    ]
    assert found == alone
    for row, (count, price) in zip(found, texts, strict=True):
        if row[0] != "!":
            decimal, thousands = marks.get("decimal", "."), marks.get("thousands", "")
            plain = [text.replace(thousands, "") if thousands else text for text in (count, price)]
            read = [text.replace(decimal, ".") for text in plain]
            for value, text, raw in zip(row[1:3], read, (count, price), strict=True):
                assert value in (text, raw) or float(value) == float(text)


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("utf-32", "ID\na\n".encode("utf-32") + b"\0\0\0\xff" * 2),
        ("utf-32-be", "ID\na\n".encode("utf-32-be") + b"\0"),
        ("iso-2022-jp", b"ID\na\n\x1b(Z\n"),
        ("utf-7", b"ID\na\n+2AA-\n"),
        ("hz", b"ID\na\n~z\n"),
        ("shift_jis", b"ID\na\n\x81"),
    ],
)
def test_text_that_is_not_in_its_encoding_is_a_defect(encoding: str, data: bytes) -> None:
    rows = rows_of(replace(SALES, dialect=read_dialect({"encoding": encoding})), object_of(data, "x.csv"))
    assert rows[-1][0] == "!"
