import pytest

from lakehouse.landing.readers import csv_records
from lakehouse_tests.landing.readers.samples import THREE, RowTuple, contract_of, object_of, rows_of

H = b"ID,name,price\n"
BIG = b"x" * (17 << 20)

GOOD: dict[str, tuple[bytes, list[RowTuple]]] = {
    "an empty object": (b"", []),
    "a header alone": (H, []),
    "a header alone without a line end": (b"ID,name,price", []),
    "blank lines alone": (b"\n\r\n \t\r  ", []),
    "blank lines and a header": (b" \n\t\r\n" + H + b"\n \n", []),
    "blank lines around everything": (
        b"\n\r\n" + H + b"\n1,a,2\n  \n\r\n3,b,4\n\n",
        [("1", "a", "2"), ("3", "b", "4")],
    ),
    "no line end at the end": (H + b"1,a,2", [("1", "a", "2")]),
    "CRLF": (b"ID,name,price\r\n1,a,2\r\n3,b,4\r\n", [("1", "a", "2"), ("3", "b", "4")]),
    "CRLF and LF in turn": (
        b"ID,name,price\r\n1,a,2\n3,b,4\r\n5,c,6",
        [("1", "a", "2"), ("3", "b", "4"), ("5", "c", "6")],
    ),
    "CR alone": (b"ID,name,price\r1,a,2\r3,b,4\r", [("1", "a", "2"), ("3", "b", "4")]),
    "CR alone and none at the end": (b'ID,name,price\r\r1,"a\rb",2\r3,b,4', [("1", "a\rb", "2"), ("3", "b", "4")]),
    "LF, CRLF and CR in turn": (
        b"ID,name,price\r1,a,2\n3,b,4\r\n5,c,6\r",
        [("1", "a", "2"), ("3", "b", "4"), ("5", "c", "6")],
    ),
    "a delimiter within a quoted name of the header": (
        b'ID,"size, cm",name\n1,2,a\n',
        [("1", "a", None, '{"size, cm":"2"}')],
    ),
    "a quote too many in the header": (b'ID,"name,price,"more"\n1,a,2,\n', [("1", "a", "2")]),
    "a quote too few in the header": (b'"ID",name","price"\n1,a,2\n', [("1", "a", "2")]),
    "a quote within a name of the header": (b'ID,na"me, "price" \n1,a,2\n', [("1", "a", "2")]),
    "a quote in the header that rows seem to close": (
        b'ID,"name,price\n1,"",2\n3,b",4\n',
        [("1", None, "2"), ("3", 'b"', "4")],
    ),
    "a byte order mark": (b"\xef\xbb\xbf" + H + b"1,a,2\n", [("1", "a", "2")]),
    "empty and quoted empty fields are null": (H + b'1,,""\n', [("1", None, None)]),
    "a row of nothing but delimiters": (H + b",,\n", [(None, None, None)]),
    "blanks are kept": (H + b"1, a b ,\t2 \n", [("1", " a b ", "\t2 ")]),
    "quotes": (H + b'"1","a ""b"", c","2"\n', [("1", 'a "b", c', "2")]),
    "line ends within quotes": (H + b'1,"a\r\nb\n\nc",2\n3,d,4\n', [("1", "a\r\nb\n\nc", "2"), ("3", "d", "4")]),
    "a field of one quote": (H + b'1,"""",2\n', [("1", '"', "2")]),
    "a quote within a plain field is text": (H + b'1,12" pipe,2\n', [("1", '12" pipe', "2")]),
    "a blank before a quote makes it text": (H + b'1, "a",2\n', [("1", ' "a"', "2")]),
    "semicolons": (b"ID;name;price\n1;a,b;2,5\n", [("1", "a,b", "2,5")]),
    "tabs": (b"ID\tname\tprice\n1\ta\t2\n\t\t\n", [("1", "a", "2"), (None, None, None)]),
    "bars": (b"ID|name|price\n1|a|2\n", [("1", "a", "2")]),
    "names in any case, with blanks and quotes": (b' id ,"NAME", Price\n1,a,2\n', [("1", "a", "2")]),
    "columns in another order": (b"price,ID,name\n2,1,a\n", [("1", "a", "2")]),
    "a missing column": (b"price,ID\n2,1\n", [("1", None, "2")]),
    "one column": (b"id\n1\n\n \n2\n", [("1", None, None), (" ", None, None), ("2", None, None)]),
    "unknown columns": (
        b'ID,colour,name,,colour\n1,"r""ed",a,x,7\n2,,b,,\n',
        [("1", "a", None, '{"colour":"r\\"ed","column 4":"x","colour (2)":"7"}'), ("2", "b", None)],
    ),
    "unknown columns with nothing to escape": (
        b"ID,name,co\\lour,size\n1,a,r\xc3\xa9d/,7\n2,b,,8\n3,c,,\n",
        [("1", "a", None, '{"co\\\\lour":"réd/","size":"7"}'), ("2", "b", None, '{"size":"8"}'), ("3", "c", None)],
    ),
    "a header over two lines": (b'"ID","na\nme",name\n1,x,a\n', [("1", "a", None, '{"na\\nme":"x"}')]),
    "text beyond ASCII": (H + "1,é😀,2\n".encode(), [("1", "é😀", "2")]),
}

BAD: dict[str, tuple[bytes, list[RowTuple]]] = {
    "a header that takes in every row": (
        b'ID,name,price,"more\n1,a,2,x\n3,b,4,y"\n',
        [("!", "there is no row in this object, though it is not empty", None)],
    ),
    "byte order marks where files were joined": (
        b"\xef\xbb\xbf"
        + H
        + b"1,a,2\n\xef\xbb\xbf"
        + H
        + b'3,b,4\n\xef\xbb\xbf"5","c\nd",6\n"\xef\xbb\xbf7",\xef\xbb\xbf,8\n',
        [
            ("1", "a", "2"),
            ("!", csv_records.MARK_INSIDE, "\ufeff" + H.decode().strip()),
            ("3", "b", "4"),
            ("!", csv_records.MARK_INSIDE, '\ufeff"5","c\nd",6'),
            ("\ufeff7", "\ufeff", "8"),
        ],
    ),
    "a lone CR within a field": (
        H + b"1,a\rb,2\n",
        [("!", "2 fields where the header has 3", "1,a"), ("!", "2 fields where the header has 3", "b,2")],
    ),
    "a lost delimiter before a quoted field": (
        H + b'1"a, b",2\n3,c,4\n',
        [
            ("!", "quotes within fields look like those of a field whose delimiter is lost", '1"a, b",2'),
            ("3", "c", "4"),
        ],
    ),
    "a NUL in the header": (
        b"ID,name\0,price\n1,a,2\n",
        [
            ("!", "contains a NUL byte; the header contains a NUL byte", "ID,name\\x00,price"),
            ("!", "the header contains a NUL byte", "1,a,2"),
        ],
    ),
    "too few fields": (H + b"1,a\n2,b,3\n", [("!", "2 fields where the header has 3", "1,a"), ("2", "b", "3")]),
    "too many fields": (H + b"1,a,2,\n", [("!", "4 fields where the header has 3", "1,a,2,")]),
    "too many fields and CRLF": (
        b"ID,name,price\r\n1,a,2,9\r\n",
        [("!", "4 fields where the header has 3", "1,a,2,9")],
    ),
    "a quote that never closes": (
        H + b'1,"a,2\n3,b,4\n5,c,6\n',
        [("!", "a quote is opened and never closed", '1,"a,2'), ("3", "b", "4"), ("5", "c", "6")],
    ),
    "a quote that the next one seems to close": (
        H + b'1,"a,2\n3,"b",4\n5,c,6\n',
        [
            ("!", "there is text between a closing quote and the next delimiter", '1,"a,2'),
            ("3", "b", "4"),
            ("5", "c", "6"),
        ],
    ),
    "a stray quote that swallows rows": (
        H + b'1,"a,2\n3,b,4\n5,c,6\n7,x,8"\n9,d,1\n',
        [
            ("!", "2 fields where the header has 3", '1,"a,2'),
            ("3", "b", "4"),
            ("5", "c", "6"),
            ("7", "x", '8"'),
            ("9", "d", "1"),
        ],
    ),
    "a ragged row over two lines": (
        H + b'1,"a\nb",2,3\n4,c,5\n',
        [("!", "4 fields where the header has 3", '1,"a\nb",2,3'), ("4", "c", "5")],
    ),
    "text after a closing quote": (
        H + b'1,"a"b,2\n3,c,4\n',
        [("!", "there is text between a closing quote and the next delimiter", '1,"a"b,2'), ("3", "c", "4")],
    ),
    "invalid UTF-8": (
        H + b"1,a\xff,2\n3,b,4\n",
        [("!", "invalid UTF-8 at byte 4 of the row", "1,a\\xff,2"), ("3", "b", "4")],
    ),
    "a NUL byte": (H + b"1,a\0,2\n3,b,4\n", [("!", "contains a NUL byte", "1,a\\x00,2"), ("3", "b", "4")]),
    "everything at once": (
        H + b"1,\xff\0\n",
        [
            (
                "!",
                "invalid UTF-8 at byte 3 of the row; contains a NUL byte; 2 fields where the header has 3",
                "1,\\xff\\x00",
            )
        ],
    ),
    "a column twice": (b"ID,name,Name\n1,a,b\n", [("!", "column Name appears twice", "1,a,b")]),
    "no column of the contract": (
        b"a,b\n1,2\n",
        [
            ("!", "no column of the contract in the header: a, b", "a,b"),
            ("!", "no column of the contract in the header: a, b", "1,2"),
        ],
    ),
    "a row of 17 MiB": (
        H + b"1,a,2\n" + BIG + b"\n3,b,4\n",
        [
            ("1", "a", "2"),
            ("!", "longer than 16 MiB; the first 1 MiB are kept", "x" * (1 << 20)),
            ("3", "b", "4"),
        ],
    ),
    "a field of 10 MB": (
        H + b"1," + BIG[:10_000_000] + b",2\n3,b,4\n",
        [("1", "x" * 10_000_000, "2"), ("3", "b", "4")],
    ),
    "a quoted field of 17 MiB": (
        H + b'1,"a\n' + BIG + b'",2\n3,b,4\n',
        [
            ("!", "a quote is opened and never closed", '1,"a'),
            ("!", "longer than 16 MiB; the first 1 MiB are kept", "x" * (1 << 20)),
            ("3", "b", "4"),
        ],
    ),
}


@pytest.mark.parametrize("case", [*GOOD, *BAD])
@pytest.mark.usefixtures("way")
def test_each_csv_record_is_one_row(case: str) -> None:
    data, expected = {**GOOD, **BAD}[case]
    assert rows_of(THREE, object_of(data, "x.csv")) == expected


def test_field_under_both_names_is_a_repeated_column() -> None:
    contract = contract_of(("order_id", "string", "ID"), ("name", "string"))
    assert rows_of(contract, object_of(b"ID,order_id\n1,2\n", "x.csv")) == [
        ("!", "column order_id appears twice", "1,2")
    ]


@pytest.mark.usefixtures("way")
def test_acceptance_file_has_three_rows_and_two_defects() -> None:
    names = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
    contract = contract_of(*((name, "string") for name in names))
    data = (
        b"InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        b"999001,X1,fine,1,2010-12-01 09:00:00,1.00,17850.0,France\n"
        b"999002,X1,no number,many,2010-12-01 09:00:00,1.00,17850.0,France\n"
        b"999003,X1,no date,1,yesterday,1.00,17850.0,France\n"
        b"999004,X1\n"
        b'999005,X1,"never closed,1,2010-12-01 09:00:00,1.00,17850.0,France\n'
    )
    rows = rows_of(contract, object_of(data, "bad.csv"))
    assert [row[0] for row in rows] == ["999001", "999002", "999003", "!", "!"]
    assert rows[4][2] == '999005,X1,"never closed,1,2010-12-01 09:00:00,1.00,17850.0,France'


def test_odd_rows_among_many_do_not_affect_the_others() -> None:
    rows = [f'{i},"text {i}, with ""quotes""",{i}.5' for i in range(60_000)]
    expected: list[RowTuple] = [(str(i), f'text {i}, with "quotes"', f"{i}.5") for i in range(60_000)]
    for i, row, reason in (
        (100, "1,2", "2 fields where the header has 3"),
        (30_000, '1,"x', "there is text between a closing quote and the next delimiter"),
        (59_999, '1,"x', "a quote is opened and never closed"),
    ):
        rows[i], expected[i] = row, ("!", reason, row)
    data = H + "\n".join(rows).encode()
    assert rows_of(THREE, object_of(data, "x.csv")) == expected


def test_sound_csv_is_parsed_by_arrow_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_records, "csv_rows", lambda *_: pytest.fail("read row by row"))
    data = H + b'1,"a, ""b""\nc",2\n' * 1000
    assert rows_of(THREE, object_of(data, "x.csv")) == [("1", 'a, "b"\nc', "2")] * 1000
